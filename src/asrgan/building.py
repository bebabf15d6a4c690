"""The parts of a training, checked and built as a configuration says."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from asrgan.data import PhotographData
from asrgan.engine import Rehearsal, SuperResolution
from asrgan.errors import UserError
from asrgan.losses import PerceptualLoss
from asrgan.metrics import METRICS, Protocol
from asrgan.models import load_weights

log = logging.getLogger(__name__)

Module = TypeVar("Module", bound=SuperResolution)

_D_STRIDE = 16  # px of HR to a value of the last map of SRGAN's discriminator


def check_settings(config: DictConfig, *, num_devices: int) -> None:
    """Finds what is wrong with a training's numbers, whatever machine it is for.

    Args:
        config: of `asrgan train`, resolved.
        num_devices: on all machines together.

    Raises:
        UserError: names the key.
    """
    if not isinstance(config.seed, int) or not 0 <= config.seed < 2**32:
        raise UserError(f"`seed` (={config.seed}) must be a whole number from 0 to {2**32 - 1}.")
    accumulate = check_count(config, "optimizer.accumulate")
    for key in ("nonfinite_limit", "trainer.num_samples"):
        check_count(config, key, at_least=0)
    for key in ("max_iterations", "validate_every", "checkpoint_every", "trainer.log_every"):
        value = check_count(config, key)
        # A checkpoint holds no gradients that wait for their step.
        if key != "trainer.log_every" and value % accumulate:
            raise UserError(
                f"`{key}` (={value}) must be divisible by `optimizer.accumulate` (={accumulate})."
            )
    if accumulate > 1 and config.trainer.precision == "16-mixed":
        raise UserError(
            "`trainer.precision` (=16-mixed) rescales G's and D's gradients at different times and"
            " cannot accumulate them; try trainer.precision=bf16-mixed."
        )
    batch_size = check_count(config, "data.batch_size")
    if batch_size % num_devices:
        raise UserError(
            f"`data.batch_size` (={batch_size}) must be divisible by the number of devices"
            f" ({num_devices}), which share it; try {-(-batch_size // num_devices) * num_devices}."
        )
    has_batch_norm = OmegaConf.select(config, "discriminator.norm") == "batch"
    if has_batch_norm and batch_size == num_devices and config.data.crop_size_px <= _D_STRIDE:
        raise UserError(
            f"`data.batch_size` (={batch_size}) leaves D's last batch norm one value;"
            f" try data.crop_size_px={2 * _D_STRIDE}, a larger batch, or discriminator.norm=none."
        )


def check_count(config: DictConfig, key: str, *, at_least: int = 1) -> int:
    """The value of a key that must be a whole number of at least so much.

    Raises:
        UserError: it is not.
    """
    value = OmegaConf.select(config, key)
    if not isinstance(value, int) or value < at_least:
        raise UserError(f"`{key}` (={value}) must be a whole number of at least {at_least}.")
    return value


def count_devices(config: DictConfig) -> int:
    """How many devices a training asks for, on all machines together.

    Raises:
        UserError: names the key.
    """
    return check_count(config, "trainer.devices") * check_count(config, "trainer.num_nodes")


def build_training(
    config: DictConfig, *, num_workers: int, has_weights: bool
) -> tuple[Protocol, PhotographData, SuperResolution]:
    """What is trained and validated, on what; finds what is wrong before anything is written.

    Args:
        config: of `asrgan train`, resolved.
        num_workers: processes that load the photographs.
        has_weights: whether the generator starts from ``generator.weights``.

    Raises:
        UserError: names the key or the file.
    """
    protocol = Protocol(scale=config.scale, metrics=config.trainer.metrics)
    best_metric = config.trainer.best_metric
    if best_metric in METRICS and best_metric not in protocol.metrics:
        raise UserError(
            f"`trainer.best_metric` (={best_metric}) must be in `trainer.metrics` and have its"
            f" weights at hand; try one of {', '.join(protocol.metrics)}, content_loss."
        )
    minimum_size_px = max(protocol.minimum_size_px, protocol.minimum_size_of(best_metric))
    data = build_data(config, num_workers=num_workers, minimum_size_px=minimum_size_px)
    data.setup("fit")
    module = build_module(
        config,
        module_class=SuperResolution,
        validation_names=data.validation_names,
        protocol=protocol,
        has_weights=has_weights,
    )
    for schedule in module.configure_optimizers()[1]:
        total = getattr(schedule, "total_steps", config.max_iterations)
        if total < config.max_iterations:
            raise UserError(
                f"`total_steps` (={total}) of a learning rate's schedule must be at least"
                f" `max_iterations` (={config.max_iterations}): it ends there. A run that shall go"
                " on from its generator is another one, with generator.weights=."
            )
    return protocol, data, module


def build_data(config: DictConfig, *, num_workers: int, minimum_size_px: int) -> PhotographData:
    """The photographs of a training; nothing is read yet.

    Args:
        config: of `asrgan train`, resolved.
        num_workers: processes that load them.
        minimum_size_px: see `Benchmark`, of the validation.
    """
    settings: dict[str, Any] = instantiate(config.data, _convert_="all")
    settings["num_workers"] = num_workers
    for key in ("train", "validation", "stream_cache_dir"):
        settings[key] = _as_text(settings[key])
    return PhotographData(
        **settings,
        scale=config.scale,
        seed=config.seed,
        max_iterations=config.max_iterations,
        validation_minimum_size_px=minimum_size_px,
    )


def _as_text(path: object) -> Any:
    """A path or a list of some; Hydra reads a folder's name like 2024 as a number."""
    if isinstance(path, list):
        return [str(item) for item in cast("list[object]", path)]
    return None if path is None else str(path)


def build_module(
    config: DictConfig,
    *,
    module_class: Callable[..., Module],
    validation_names: Sequence[str],
    protocol: Protocol,
    has_weights: bool,
) -> Module:
    """Networks, losses, degradation and optimizers, in one module.

    Args:
        config: of `asrgan train`, resolved.
        module_class: ``SuperResolution``, or what takes its arguments.
        validation_names: a name for each validation loader.
        protocol: the validation metrics.
        has_weights: whether the generator starts from ``generator.weights``.
    """
    arguments: Any = OmegaConf.to_container(config.generator)
    weights = arguments.pop("weights")
    generator = instantiate(arguments, _convert_="all")
    if has_weights and weights is not None:
        remarks = load_weights(generator, str(weights))
        exceptions = f" (not as in the file: {', '.join(remarks)})" if remarks else ""
        log.info("Weights from %s%s", weights, exceptions)
    discriminator = instantiate(config.discriminator, _convert_="all")
    losses: dict[str, Any] = instantiate(config.loss, _convert_="all")
    adversarial_loss = losses.pop("adversarial")
    content_losses = {name: loss for name, loss in losses.items() if loss is not None}
    perceptual = [loss for loss in content_losses.values() if isinstance(loss, PerceptualLoss)]
    for network in (generator, discriminator, *(loss.network for loss in perceptual)):
        if network is not None:
            network.recomputes = config.trainer.recompute
    return module_class(
        generator=generator,
        discriminator=discriminator,
        content_losses=content_losses,
        adversarial_loss=adversarial_loss,
        degradation=instantiate(config.degradation, _convert_="all"),
        optimization=instantiate(config.optimizer, _convert_="all"),
        validation_names=validation_names,
        protocol=protocol,
        log_every=config.trainer.log_every,
        on_nonfinite=config.on_nonfinite,
        nonfinite_limit=config.nonfinite_limit,
        channels_last=config.trainer.channels_last,
    )


def build_rehearsal(config: DictConfig, *, precision: str) -> Rehearsal:
    """The same without content, to find what its steps hold and cost.

    Args:
        config: of `asrgan train`, resolved.
        precision: of the training, by Lightning's name.
    """
    return build_module(
        config,
        module_class=partial(Rehearsal, precision=precision),
        validation_names=[],
        protocol=Protocol(scale=config.scale, metrics=["psnr_y_db"]),  # nothing is scored
        has_weights=False,
    )
