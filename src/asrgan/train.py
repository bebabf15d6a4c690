"""Train a generator, alone or against a discriminator.

  asrgan train experiment=NAME data.train=DIR data.validation=DIR [key=value ...]

Examples:
  A content-trained network that learns on a CPU:
    asrgan train experiment=srresnet_x4 size=small data.train=photos data.validation=Set5
        output_dir=runs/srresnet
  A-SRGAN from it:
    asrgan train experiment=asrgan_x4 size=small data.train=photos data.validation=Set5
        output_dir=runs/asrgan generator.weights=runs/srresnet/generator.safetensors
  Go on after a crash, or for longer:
    asrgan train ... output_dir=runs/asrgan resume=true
  Attention in other places:
    asrgan train experiment=asrgan_x4 'generator.attention=[{after: block8, pool_size: 8}]' ...
  A sweep, one run after the other:
    asrgan train -m experiment=asrgan_x4 generator.pool_size=2,4,8 seed=1,2,3 ...

Writes to output_dir:
  checkpoints/last.ckpt, best.ckpt   everything that resume=true needs
  generator.safetensors              the averaged generator; this file alone is enough to use it
  metrics.csv                        all values, by iteration
  samples/*.png                      bicubic, SR, HR of the same crops over time
  config.yaml, run.json              resolved configuration; git commit, versions, seed
"""

import json
import logging
import time
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only

from asrgan.building import build_training, check_settings, count_devices
from asrgan.configuration import flatten
from asrgan.engine import (
    Checkpoints,
    Launch,
    MetricsTable,
    Progress,
    Pruning,
    Samples,
    Schedule,
    Watch,
    best_precision,
    check_compile_mode,
    check_devices,
    find_launch,
    gan_strategy,
    is_on_gpu,
    keep_freed_memory,
    num_loader_workers,
    read_progress,
    share_threads,
)
from asrgan.errors import PrunedError, UserError
from asrgan.files import atomic_path, write_text
from asrgan.provenance import code_version, describe_run
from asrgan.subprocesses import Lock

log = logging.getLogger(__name__)

_POLL_S = 2.0
_ORPHANS_S = 15.0  # in which the loader's processes of a killed run notice that it is gone

# A resumed run may go on for longer, elsewhere, and be watched in another way.
_MAY_CHANGE = (
    "output_dir",
    "resume",
    "search",
    "max_iterations",
    "validate_every",
    "checkpoint_every",
    "on_nonfinite",
    "nonfinite_limit",
    "devices",
    "num_nodes",
    "trainer",
    "logger",
    "generator.weights",
    "data.train",  # its content may not, see `_describe`
    "data.num_workers",
    "data.cache_mib",
    "data.stream",
    "data.validation",
)


def run(config: DictConfig, output_dir: Path) -> None:
    """Trains as the configuration says, and tells where the results are."""
    count_devices(config)  # what is no count is told first
    launch = find_launch(
        devices=config.trainer.devices,
        num_nodes=config.trainer.num_nodes,
        launcher=config.trainer.launcher,
    )
    with _alone(config.search):
        _run(config, launch, output_dir)


@contextmanager
def _alone(search: str | None) -> Generator[None]:
    """Waits for the process of the same trial that a killed search may have left behind."""
    if search is None or rank_zero_only.rank != 0:  # pyright: ignore[reportFunctionMemberAccess]
        yield
        return
    lock = Lock(Path(search).with_name("trial.lock"))
    while not lock.acquire():
        log.info("This trial is still trained by %s; waiting for it.", lock.holder)
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


def _run(config: DictConfig, launch: Launch, output_dir: Path) -> None:
    _quieten()
    pruning = _build_pruning(config.search)
    _check(config, launch, output_dir)
    pl.seed_everything(config.seed, verbose=False)
    last = _last_of(output_dir)
    is_resumed = last.exists()
    if is_resumed:  # whatever it is told now: what it began with is part of what it is
        config.generator.weights = OmegaConf.load(output_dir / "config.yaml").generator.weights
    if is_resumed and _is_finished(output_dir, config.max_iterations):
        log.info("Already trained for max_iterations=%d.", config.max_iterations)
    else:
        protocol, data, module = build_training(
            config, num_workers=_num_workers(config, launch), has_weights=not is_resumed
        )
        if config.trainer.compile is not None:
            module.compile_networks(config.trainer.compile)
        origin = {**describe_run(), "training_data": data.fingerprint}
        start = str(last) if is_resumed else None
        measured = {"trainer.metrics": list(protocol.metrics)}  # without those that lack weights
        agreement = {**flatten(config), **measured, **_code_of(origin), "start": start}
        with _claimed(output_dir, launch, start), launch.started() as children:
            run_id = _describe(config, output_dir, origin, is_resumed=is_resumed)
            watch = Watch(agreement, children=children)
            with watch.guard():
                trainer = _build_trainer(
                    config,
                    launch,
                    output_dir,
                    run_id,
                    origin,
                    [watch, *([] if pruning is None else [pruning])],
                    validation_names=data.validation_names,
                )
                _tune(config, launch, trainer)
                try:
                    trainer.fit(module, data, ckpt_path=start, weights_only=True)
                except SystemExit as end:  # what Lightning makes of a second Ctrl-C
                    raise KeyboardInterrupt from end
                finally:
                    trainer.fit_loop.teardown()  # it forgets the loader's processes in a validation
            if launch.rank == 0:
                _note_end(output_dir, module.iteration)
        if pruning is not None and pruning.is_pruned and launch.rank == 0:
            raise PrunedError(f"Other trials were better at iteration {module.iteration}.")
    for label, name in (
        ("Generator", "generator.safetensors"),
        ("Checkpoints", "checkpoints"),
        ("Metrics", "metrics.csv"),
        ("Samples", "samples"),
    ):
        log.info("%-12s%s", label, output_dir / name)


@contextmanager
def _claimed(output_dir: Path, launch: Launch, start: str | None) -> Generator[None]:
    """Keeps others from training in the same folder; the first process alone writes there."""
    if launch.rank != 0:
        yield
        return
    lock = Lock(output_dir / "run.lock")
    if not lock.acquire(patience_s=_ORPHANS_S):
        raise UserError(
            f"`output_dir` (={output_dir}) is being trained by {lock.holder}; wait for its end,"
            " or take another output_dir."
        )
    try:
        if start is None and _last_of(output_dir).exists():
            raise UserError(
                f"`output_dir` (={output_dir}) has just got a checkpoint of the run that ended"
                " there; resume=true goes on with it."
            )
        yield
    finally:
        lock.release()


def _last_of(output_dir: Path) -> Path:
    """The checkpoint from which a resumed run goes on."""
    return output_dir / "checkpoints" / "last.ckpt"


def _is_finished(output_dir: Path, max_iterations: int) -> bool:
    """Whether nothing is left to do: a run may be killed while W&B takes over its files.

    Raises:
        UserError: more was done than is asked for.
    """
    progress = read_progress(_last_of(output_dir))
    if progress.iteration > max_iterations:
        raise UserError(
            f"`max_iterations` (={max_iterations}) must be at least {progress.iteration}, which"
            f" {output_dir} has made already."
        )
    if progress.iteration < max_iterations or progress.is_validation_due:
        return False
    return _read_description(output_dir).get("ended_at") == progress.iteration


def _note_end(output_dir: Path, iteration: int) -> None:
    _write_description(output_dir, _read_description(output_dir) | {"ended_at": iteration})


def _read_description(output_dir: Path) -> dict[str, Any]:
    """``run.json``; empty for a run that has none yet."""
    path = output_dir / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _write_description(output_dir: Path, description: Mapping[str, Any]) -> None:
    write_text(output_dir / "run.json", json.dumps(description, indent=2) + "\n")


def _check(config: DictConfig, launch: Launch, output_dir: Path) -> None:
    check_settings(config, num_devices=launch.devices * launch.num_nodes)
    _check_devices(config, launch)
    if not (output_dir / "checkpoints").exists():
        return
    if not config.resume or not (output_dir / "config.yaml").exists():
        raise UserError(
            f"`output_dir` (={output_dir}) already holds a run; resume=true goes on with it,"
            " another output_dir starts anew."
        )
    before, now = flatten(OmegaConf.load(output_dir / "config.yaml")), flatten(config)
    for key in [*before, *now]:
        if before.get(key) != now.get(key) and not key.startswith(_MAY_CHANGE):
            raise UserError(
                f"`{key}` was {before.get(key)} and is {now.get(key)}, so {output_dir} would become"
                " another run; take the earlier value, or another output_dir (generator.weights="
                " starts from this one's generator)."
            )


def _check_devices(config: DictConfig, launch: Launch) -> None:
    settings = config.trainer
    check_devices(accelerator=settings.accelerator, devices=launch.devices)
    best_precision(settings.precision, accelerator=settings.accelerator)
    check_compile_mode(settings.compile, recomputes=settings.recompute)
    if settings.strategy == "ddp" and config.discriminator is not None:
        raise UserError(
            "`trainer.strategy` (=ddp) wants every parameter in each backward pass, of which a GAN"
            " leaves one network out; try trainer.strategy=auto."
        )
    if settings.sync_batchnorm and not is_on_gpu(settings.accelerator):
        raise UserError(
            "`trainer.sync_batchnorm` (=true) needs GPUs; leave it out, or try generator.norm=none."
        )


def _num_workers(config: DictConfig, launch: Launch) -> int:
    return num_loader_workers(
        config.data.num_workers, accelerator=config.trainer.accelerator, devices=launch.devices
    )


def _code_of(origin: dict[str, Any]) -> dict[str, object]:
    """What must be the same in all processes, by name; not the machine."""
    versions = {f"version of {name}": version for name, version in origin["versions"].items()}
    names = ("python", "training_data")
    return versions | {"code": code_version()} | {name: origin[name] for name in names}


def _build_trainer(
    config: DictConfig,
    launch: Launch,
    output_dir: Path,
    run_id: str,
    origin: dict[str, object],
    further_callbacks: Sequence[Callback],
    *,
    validation_names: Sequence[str],
) -> pl.Trainer:
    container: Any = OmegaConf.to_container(config)
    schedule = Schedule(
        validate_every=config.validate_every if validation_names else None,
        max_iterations=config.max_iterations,
    )
    settings = config.trainer
    identified = {**container, "run_id": run_id}
    loggers = [
        # Partly, since Hydra would build what the configuration describes.
        instantiate(node, _convert_="all", _partial_=True)(
            directory=output_dir, run_config=identified
        )
        for node in (config.get("logger") or {}).values()
    ]
    callbacks: list[Callback] = [
        schedule,
        Progress(max_iterations=config.max_iterations, metric=settings.best_metric),
        Samples(
            output_dir / "samples",
            num_samples=settings.num_samples,
            size_px=settings.sample_size_px,
        ),
        Checkpoints(
            output_dir,
            every=config.checkpoint_every,
            schedule=schedule,
            best_metric=settings.best_metric,
            judged_on={
                "validation": list(validation_names),
                "validation_crop_size_px": config.data.validation_crop_size_px,
                "validation_limit": config.data.validation_limit,
            },
            recipe={"config": container, **origin},
        ),
        *further_callbacks,
    ]
    try:
        return pl.Trainer(
            accelerator=settings.accelerator,
            devices=launch.devices,
            num_nodes=launch.num_nodes,
            strategy=gan_strategy(
                settings.strategy, devices=launch.devices, num_nodes=launch.num_nodes
            ),
            plugins=[LightningEnvironment()],  # it reads the variables of `launch`
            sync_batchnorm=settings.sync_batchnorm,
            precision=best_precision(settings.precision, accelerator=settings.accelerator),
            logger=[MetricsTable(output_dir / "metrics.csv"), *loggers],
            callbacks=callbacks,
            max_epochs=1,
            check_val_every_n_epoch=None,
            val_check_interval=Schedule.NEVER,
            limit_val_batches=None if validation_names else 0,
            num_sanity_val_steps=0,
            log_every_n_steps=1,  # its own logging is not used
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=output_dir,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"`trainer`: {' '.join(str(error).split())}") from error


def _tune(config: DictConfig, launch: Launch, trainer: pl.Trainer) -> None:
    """Sets what is the process's, and tells all that was chosen, in the words that override it."""
    keep_freed_memory()
    share_threads(launch.devices)
    device = trainer.strategy.root_device
    chosen = {
        "trainer.accelerator": device.type,
        "trainer.devices": launch.devices,
        "trainer.precision": trainer.precision,
        "trainer.channels_last": config.trainer.channels_last,
        "data.num_workers": _num_workers(config, launch),
        "OMP_NUM_THREADS": torch.get_num_threads(),
    }
    if device.type == "cuda":
        is_used = config.trainer.tf32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_used
        chosen |= {"trainer.tf32": is_used, "trainer.compile": config.trainer.compile}
    words = (f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in chosen.items())
    log.info("Chosen for this machine: %s", " ".join(words))


def _build_pruning(search: str | None) -> Pruning | None:
    if search is None:
        return None
    settings = json.loads(Path(search).read_text(encoding="utf-8"))
    pruner = instantiate(settings.pop("pruner"))
    return None if pruner is None else Pruning(**settings, pruner=pruner)


def _describe(
    config: DictConfig, output_dir: Path, origin: dict[str, object], *, is_resumed: bool
) -> str:
    """Writes config.yaml and run.json; returns the run's identity.

    That of a resumed run stays. So does that of a run which ended before its first checkpoint and
    starts again as it was; with anything else asked for, nothing is left of it.
    """
    description: dict[str, Any] = {"run_id": uuid4().hex[:8], "seed": config.seed, "starts": []}
    if earlier := _read_description(output_dir):
        has_same_data = earlier["starts"][-1]["training_data"] == origin["training_data"]
        if is_resumed and not has_same_data:
            raise UserError(
                f"`data.train` (={config.data.train}) holds other images than those {output_dir}"
                " was trained on; put back what has changed, or take another output_dir."
            )
        if is_resumed or (has_same_data and _asks_the_same(config, output_dir / "config.yaml")):
            description = earlier
    if rank_zero_only.rank == 0:  # pyright: ignore[reportFunctionMemberAccess]
        description["starts"].append(origin)
        _write_description(output_dir, description)
        with atomic_path(output_dir / "config.yaml") as temporary:
            OmegaConf.save(config, temporary)
    return description["run_id"]


def _asks_the_same(config: DictConfig, path: Path) -> bool:
    if not path.exists():
        return False
    elsewhere = {"output_dir": None, "resume": None}  # no matter what is trained
    return flatten(OmegaConf.load(path)) | elsewhere == flatten(config) | elsewhere


def _quieten() -> None:
    """Keeps back what packages tell their own users, and what further processes would repeat."""
    if rank_zero_only.rank != 0:  # pyright: ignore[reportFunctionMemberAccess]
        logging.getLogger("asrgan").setLevel(logging.ERROR)
    for package in ("pytorch_lightning", "lightning_fabric", "aiobotocore", "botocore"):
        logging.getLogger(package).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # `data.num_workers` is the user's choice
        ".*overridden `on_after_batch_transfer` in `LightningModule`.*",  # LR is made there
        ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 with torch 2.15
        ".*lr_scheduler.step.* before `optimizer.step.*",  # the first batches were skipped
        "Total length of `.*Loader` across ranks is zero.*",  # only a validation is left
    ):
        warnings.filterwarnings("ignore", message)
