"""Train a generator, alone or against a discriminator.

  asrgan train experiment=NAME data.train=DIR data.validation=DIR [key=value ...]

Examples:
  A content-trained network that learns on a CPU:
    asrgan train experiment=srresnet_x4 size=small data.train=photos data.validation=Set5
  A-SRGAN from it:
    asrgan train experiment=asrgan_x4 data.train=photos data.validation=Set5 output_dir=runs/asrgan
        generator.weights=runs/srresnet/generator.safetensors
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
import warnings
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from asrgan.data import BicubicDegradation, PhotographData
from asrgan.engine import (
    Checkpoints,
    MetricsTable,
    Progress,
    Samples,
    Schedule,
    SuperResolution,
    best_precision,
    check_resumable,
    gan_strategy,
)
from asrgan.errors import UserError
from asrgan.files import atomic_path
from asrgan.metrics import Protocol, open_lpips
from asrgan.models import load_weights
from asrgan.provenance import describe_run

log = logging.getLogger(__name__)


def run(config: DictConfig, output_dir: Path) -> None:
    """Trains as the configuration says, and tells where the results are."""
    _quieten_lightning()
    _check(config, output_dir)
    pl.seed_everything(config.seed, verbose=False)
    last = output_dir / "checkpoints" / "last.ckpt"
    is_resumed = last.exists()
    data = _build_data(config)
    module = _build_module(config, data, is_resumed=is_resumed)
    if is_resumed and check_resumable(last, module) >= config.max_iterations:
        log.info("Already trained for max_iterations=%d.", config.max_iterations)
    else:
        run_id = _describe(config, output_dir)
        has_validation = bool(data.validation_names)
        trainer = _build_trainer(config, output_dir, run_id, has_validation=has_validation)
        trainer.fit(module, data, ckpt_path=last if is_resumed else None, weights_only=True)
    for label, name in (
        ("Generator", "generator.safetensors"),
        ("Checkpoints", "checkpoints"),
        ("Metrics", "metrics.csv"),
        ("Samples", "samples"),
    ):
        log.info("%-12s%s", label, output_dir / name)


def _check(config: DictConfig, output_dir: Path) -> None:
    for key in ("max_iterations", "validate_every", "checkpoint_every"):
        if config[key] < 1:
            raise UserError(f"`{key}` (={config[key]}) must be at least 1.")
    if config.max_iterations % config.optimizer.accumulate:
        raise UserError(
            f"`max_iterations` (={config.max_iterations}) must be divisible by"
            f" `optimizer.accumulate` (={config.optimizer.accumulate})."
        )
    if (output_dir / "checkpoints").exists() and not config.resume:
        raise UserError(
            f"`output_dir` (={output_dir}) already holds a run; resume=true goes on with it,"
            " another output_dir starts anew."
        )


def _build_data(config: DictConfig) -> PhotographData:
    return PhotographData(
        **instantiate(config.data, _convert_="all"),
        scale=config.scale,
        seed=config.seed,
        max_iterations=config.max_iterations,
    )


def _build_module(config: DictConfig, data: PhotographData, *, is_resumed: bool) -> SuperResolution:
    arguments: Any = OmegaConf.to_container(config.generator)
    weights = arguments.pop("weights")
    generator = instantiate(arguments, _convert_="all")
    if weights is not None and not is_resumed:
        remarks = load_weights(generator, weights)
        log.info("%s", "; ".join([f"Weights from {weights}", *remarks]))
    losses: dict[str, Any] = instantiate(config.loss, _convert_="all")
    adversarial_loss = losses.pop("adversarial")
    return SuperResolution(
        generator=generator,
        discriminator=instantiate(config.discriminator, _convert_="all"),
        content_losses={name: loss for name, loss in losses.items() if loss is not None},
        adversarial_loss=adversarial_loss,
        degradation=BicubicDegradation(scale=config.scale),
        optimization=instantiate(config.optimizer, _convert_="all"),
        validation_names=data.validation_names,
        protocol=Protocol(scale=config.scale, lpips=open_lpips(config.trainer.lpips)),
        log_every=config.trainer.log_every,
        channels_last=config.trainer.channels_last,
    )


def _build_trainer(
    config: DictConfig, output_dir: Path, run_id: str, *, has_validation: bool
) -> pl.Trainer:
    container: Any = OmegaConf.to_container(config)
    schedule = Schedule(
        validate_every=config.validate_every if has_validation else None,
        max_iterations=config.max_iterations,
    )
    settings = config.trainer
    identified = {**container, "run_id": run_id}
    loggers = [
        instantiate(node, directory=output_dir, run_config=identified, _convert_="all")
        for node in config.logger.values()
    ]
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy=gan_strategy(
            settings.strategy, devices=settings.devices, num_nodes=settings.num_nodes
        ),
        precision=best_precision(settings.precision, accelerator=settings.accelerator),
        logger=[MetricsTable(output_dir / "metrics.csv"), *loggers],
        callbacks=[
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
                recipe={"config": container, **describe_run()},
            ),
        ],
        max_epochs=1,
        check_val_every_n_epoch=None,
        val_check_interval=Schedule.NEVER,
        limit_val_batches=None if has_validation else 0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=output_dir,
    )


def _describe(config: DictConfig, output_dir: Path) -> str:
    """Writes config.yaml and run.json; returns the run's identity, the same when resumed."""
    path = output_dir / "run.json"
    description: dict[str, Any] = {"run_id": uuid4().hex[:8], "seed": config.seed, "starts": []}
    if path.exists():
        description = json.loads(path.read_text(encoding="utf-8"))
    if rank_zero_only.rank == 0:  # pyright: ignore[reportFunctionMemberAccess]
        description["starts"].append(describe_run())
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        with atomic_path(output_dir / "config.yaml") as temporary:
            OmegaConf.save(config, temporary)
    return description["run_id"]


def _quieten_lightning() -> None:
    """Keeps back what Lightning tells its own users: each of these is a decision made here."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",  # `data.num_workers` is the user's choice
        ".*overridden `on_after_batch_transfer` in `LightningModule`.*",  # LR is made there
        ".*LeafSpec.*is deprecated.*",  # Lightning 2.6 with torch 2.15
    ):
        warnings.filterwarnings("ignore", message)
