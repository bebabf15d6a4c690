"""The training of a super-resolution network, with or without a discriminator."""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MeanMetric

from asrgan.data import BenchmarkImage, Degradation, sample_numbers
from asrgan.engine.averaging import start_average, update_average, warmed_up
from asrgan.engine.hardware import CompileMode, peak_memory_mib
from asrgan.engine.loggers import IterationLogger
from asrgan.engine.means import RunningMeans
from asrgan.errors import DivergedError, UserError
from asrgan.losses import AdversarialObjective, ContentLoss
from asrgan.metrics import FiniteMean, Protocol, mean_over_benchmarks
from asrgan.models import (
    FlexibleSelfAttention,
    SRGANGenerator,
    UNetDiscriminator,
    VGGDiscriminator,
    largest_singular_value,
)

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
ScheduleFactory = Callable[[Optimizer], LRScheduler]

log = logging.getLogger(__name__)

_REMEDIES = (
    "try a lower optimizer.generator.lr, optimizer.gradient_clip_norm=1 or"
    " trainer.precision=32-true"
)


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How the networks are optimized.

    Attributes:
        generator: makes G's optimizer from G's parameters.
        discriminator: makes D's optimizer from D's parameters.
        generator_schedule: makes G's learning rate schedule, stepped once per iteration; or None.
        discriminator_schedule: the same for D.
        gradient_clip_norm: largest 2-norm of a network's gradient, after unscaling; or None.
        accumulate: batches per optimizer step.
        discriminator_steps: discriminator steps per generator step, each on a fresh batch
            (Goodfellow et al. 2014, algorithm 1).
        average_decay: of the generator's exponential moving average, per generator step.
    """

    generator: OptimizerFactory
    discriminator: OptimizerFactory
    generator_schedule: ScheduleFactory | None
    discriminator_schedule: ScheduleFactory | None
    gradient_clip_norm: float | None
    accumulate: int
    discriminator_steps: int
    average_decay: float

    def __post_init__(self) -> None:
        for name in ("accumulate", "discriminator_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"`optimizer.{name}` (={getattr(self, name)}) must be at least 1.")
        if not 0 <= self.average_decay < 1:
            raise UserError(
                f"`optimizer.average_decay` (={self.average_decay}) must be in [0, 1);"
                " 0 turns averaging off."
            )


class Batch(NamedTuple):
    """What a training step works on: (N, 3, h, w) and (N, 3, H, W) in [0, 1]."""

    lr_image: Tensor
    hr_image: Tensor


class _NotFiniteError(Exception):
    """Ends an iteration that is to be skipped; names the value."""


class SuperResolution(pl.LightningModule):
    """Trains a generator on content losses and, with a discriminator, on an adversarial one.

    Its own ``iteration`` (batches, across resumes) is the only clock: Lightning's ``global_step``
    counts the optimizer steps of both networks. Optimizers run by hand, the generator's first;
    see ``training_step``.

    Args:
        generator: the network that is trained; see ``asrgan.models.SRGANGenerator``.
        discriminator: None for the content-only stage.
        content_losses: named losses of (SR, HR); G minimizes the sum of weight x value.
        adversarial_loss: None exactly where ``discriminator`` is.
        degradation: HR (N, 3, H, W) and sample numbers -> LR, on the device.
        optimization: optimizers, schedules, clipping, averaging.
        validation_names: a name for each validation loader.
        protocol: the validation metrics.
        log_every: iterations between two rows of training values.
        on_nonfinite: what becomes of a loss or gradient that is not finite: ``stop`` ends the run;
            ``skip`` ends the iteration, takes back what the batch has left in the networks'
            statistics, and drops gradients that wait for their step.
        nonfinite_limit: iterations that may end like that; one more ends the run.
        channels_last: memory layout of networks and images.

    Raises:
        UserError: a discriminator without an adversarial loss or the reverse; nothing to minimize;
            an unknown ``on_nonfinite``.

    Source: Ledig et al. 2017, section 2.1; Goodfellow et al. 2014, algorithm 1.
    """

    def __init__(
        self,
        *,
        generator: SRGANGenerator,
        discriminator: VGGDiscriminator | UNetDiscriminator | None,
        content_losses: Mapping[str, ContentLoss],
        adversarial_loss: AdversarialObjective | None,
        degradation: Degradation,
        optimization: Optimization,
        validation_names: Sequence[str],
        protocol: Protocol,
        log_every: int,
        on_nonfinite: Literal["stop", "skip"],
        nonfinite_limit: int,
        channels_last: bool,
    ) -> None:
        super().__init__()
        if (discriminator is None) != (adversarial_loss is None):
            raise UserError(
                "`discriminator` and `loss.adversarial` go together: give both, or none of them."
            )
        if not content_losses and adversarial_loss is None:
            raise UserError("`loss` must name at least one loss; try loss/pixel=l1.")
        if discriminator is None and optimization.discriminator_steps > 1:
            raise UserError(
                f"`optimizer.discriminator_steps` (={optimization.discriminator_steps}) must be 1"
                " without a discriminator."
            )
        if on_nonfinite not in ("stop", "skip"):
            raise UserError(f"`on_nonfinite` (={on_nonfinite}) must be stop or skip.")
        self.automatic_optimization = False
        self.iteration = 0
        self.is_validation_due = False  # true while it runs: a checkpoint of then starts with it
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.generator = generator.to(memory_format=memory_format)
        self.discriminator = (
            None if discriminator is None else discriminator.to(memory_format=memory_format)
        )
        self.averaged_generator = start_average(self.generator)
        self.content_losses = nn.ModuleDict(content_losses).to(memory_format=memory_format)
        self._content_weights = {name: loss.weight for name, loss in content_losses.items()}
        self.adversarial_loss = adversarial_loss
        self.degradation = degradation
        self.optimization = optimization
        self.validation_names = list(validation_names)
        self.protocol = protocol
        self.log_every = log_every
        self.on_nonfinite = on_nonfinite
        self.nonfinite_limit = nonfinite_limit
        self.num_skipped = 0
        self.validation_scores: dict[str, float] = {}
        self._memory_format = memory_format
        self._is_compiled = False
        self._means = RunningMeans()
        self._kept_statistics: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}
        losses = [*(f"loss_{name}" for name in content_losses), "content_loss"]
        # These gather sums and counts of all processes, so each image counts once.
        self._validation_means = [
            {score: FiniteMean() for score in protocol.metrics}
            | {loss: MeanMetric(nan_strategy="disable") for loss in losses}
            for _ in self.validation_names
        ]
        self._last_write_s: float | None = None
        self._images_since_write = 0

    def compile_networks(self, mode: CompileMode) -> None:
        """Has torch compile both networks at their first use.

        Not the average, whose pictures have many sizes. Names of weights stay as they are.
        """
        self._is_compiled = True
        for network in (self.generator, self.discriminator):
            if network is not None:
                network.compile(mode=mode)

    # The step

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """HR crops (N, 3, H, W) as 8-bit values become LR and HR in [0, 1], on the device."""
        del dataloader_idx
        if isinstance(batch, BenchmarkImage):
            return batch
        hr_image = batch.to(memory_format=self._memory_format).float().div_(255)
        numbers = sample_numbers(
            iteration=self.iteration,
            batch_size=len(hr_image),
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        lr_image = self.degradation(hr_image, sample_numbers=numbers)
        return Batch(lr_image.contiguous(memory_format=self._memory_format), hr_image)

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """One iteration: G's step and the average of G, then D's step on the same pictures."""
        del batch_index
        if self._is_compiled:  # D passes twice before it goes back: both belong to this iteration
            torch.compiler.cudagraph_mark_step_begin()
        real_logits = fake_logits = None
        try:
            self._keep_statistics(self.generator, self.discriminator)
            if self._is_generators_turn:
                sr_image = self.generator(batch.lr_image)  # once; D sees it detached
                real_logits, fake_logits = self._step_generator(sr_image, batch.hr_image)
                self._average_generator()
                self._keep_statistics(self.generator)
            else:
                with torch.no_grad():
                    sr_image = self.generator(batch.lr_image)
            if self.discriminator is not None:
                if fake_logits is None:
                    fake_logits = self._judge(sr_image.detach())
                if real_logits is None:
                    real_logits = self._judge(batch.hr_image)
                self._step_discriminator(real_logits, fake_logits)
        except _NotFiniteError as error:
            self._skip(error)
        if self._completes_a_step:
            self._step_schedules()
        self.iteration += 1
        self._report(len(batch.hr_image))

    def _step_generator(
        self, sr_image: Tensor, hr_image: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """G's step; returns D's real and fake logits, as far as it needed them, with their graphs.

        D's weights stay as they are until its own step, which goes back through the same passes:
        here the way back ends at G's picture, and goes on from there with the content losses'.
        """
        total = sr_image.new_zeros((), dtype=torch.float32)
        values = self._content_values(sr_image, hr_image)
        for name, value in values.items():
            total = total + self._content_weights[name] * value
        minimized = total
        real_logits = fake_logits = None
        if self.adversarial_loss is not None:
            picture = sr_image.detach().float().requires_grad_()
            if self.adversarial_loss.needs_real:
                real_logits = self._judge(hr_image)
            fake_logits = self._judge(picture)
            value = self.adversarial_loss.generator_loss(
                None if real_logits is None else real_logits.detach(), fake_logits
            )
            scale = self._loss_scale
            (slope,) = torch.autograd.grad(scale * value, picture, retain_graph=True)
            weight = self.adversarial_loss.weight
            minimized = total + weight * (sr_image.float() * (slope / scale)).sum()
            total = total + weight * value.detach()
            values["adversarial"] = value
        values["total"] = total
        self._require_finite("train/loss_g/total", total)
        for name, value in values.items():
            self._means.add(f"train/loss_g/{name}", value)
        self._descend(self._optimizers[0], minimized)
        return real_logits, fake_logits

    def _step_discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        assert self.adversarial_loss is not None
        loss = self.adversarial_loss.discriminator_loss(real_logits, fake_logits)
        self._require_finite("train/loss_d/total", loss)
        self._means.add("train/loss_d/total", loss)
        judged = self.adversarial_loss.probabilities(real_logits.detach(), fake_logits.detach())
        for name, probability in zip(("real", "fake"), judged, strict=True):
            self._means.add(f"train/d_{name}", probability.mean())
        self._descend(self._optimizers[1], loss)

    def _judge(self, image: Tensor) -> Tensor:
        """D's logits; its weights get autocast's precision once per iteration."""
        assert self.discriminator is not None
        is_cached = torch.is_autocast_cache_enabled()
        torch.set_autocast_cache_enabled(True)
        try:
            return self.discriminator(image)
        finally:
            torch.set_autocast_cache_enabled(is_cached)

    @property
    def _loss_scale(self) -> float:
        """What keeps float16's gradients from vanishing; 1 in all other precisions."""
        return 1.0 if self._scaler is None else self._scaler.get_scale()

    @property
    def _scaler(self) -> Any:
        """Of float16's losses and gradients; None in all other precisions."""
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def _content_values(self, sr_image: Tensor, hr_image: Tensor) -> dict[str, Tensor]:
        return {name: loss(sr_image, hr_image) for name, loss in self.content_losses.items()}

    def _descend(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        # Not to D's picture, which has had its gradient in G's step.
        inputs = _parameters_of(optimizer)
        self.manual_backward(loss / self.optimization.accumulate, inputs=inputs)
        if self._completes_a_step:
            self._require_finite_gradient(optimizer)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clips and reports the gradient's norm, unscaled."""
        if self._scaler and getattr(optimizer, "_step_supports_amp_scaling", False):
            self._scaler.unscale_(optimizer)  # Lightning leaves it to fused optimizers
        clip_norm = self.optimization.gradient_clip_norm
        steps = self._iterations_of_a_step(optimizer)
        # The last one before the next row.
        is_written = -(self.iteration + 1) % self.log_every < steps
        if clip_norm is None and not is_written:
            return
        largest = math.inf if clip_norm is None else clip_norm
        norm = nn.utils.clip_grad_norm_(_parameters_of(optimizer), largest)
        self._means.add(_gradient_norm_of(optimizer, self._optimizers), norm)

    def _iterations_of_a_step(self, optimizer: Optimizer) -> int:
        is_generators = optimizer is self._optimizers[0].optimizer
        turns = self.optimization.discriminator_steps if is_generators else 1
        return self.optimization.accumulate * turns

    def _average_generator(self) -> None:
        if self._completes_a_step:
            recipe = self.optimization
            steps = self.iteration // recipe.accumulate // recipe.discriminator_steps
            decay = warmed_up(recipe.average_decay, steps=steps)
            update_average(self.averaged_generator, self.generator, decay=decay)

    def _step_schedules(self) -> None:
        schedules = self.lr_schedulers() or []
        for schedule in schedules if isinstance(schedules, list) else [schedules]:
            for _ in range(self.optimization.accumulate):  # schedules count iterations
                schedule.step()  # pyright: ignore[reportCallIssue] - no plateau schedules here

    @property
    def is_accumulating(self) -> bool:
        """Whether gradients of earlier batches wait for their step."""
        return self.iteration % self.optimization.accumulate != 0

    @property
    def _completes_a_step(self) -> bool:
        return (self.iteration + 1) % self.optimization.accumulate == 0

    @property
    def _is_generators_turn(self) -> bool:
        step = self.iteration // self.optimization.accumulate
        return step % self.optimization.discriminator_steps == 0

    @property
    def _optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]  # type: ignore[list-item]

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """One optimizer per network, over its own parameters.

        Raises:
            UserError: an optimizer or a schedule does not take its settings, or wants a metric.
        """
        recipe = self.optimization
        optimizers: list[Optimizer] = []
        schedules: list[LRScheduler] = []
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        for name, network in networks.items():
            if network is None:
                continue
            with _explaining(f"optimizer.{name}"):
                optimizers.append(getattr(recipe, name)(network.parameters()))
            if build := getattr(recipe, f"{name}_schedule"):
                with _explaining(f"optimizer.{name}_schedule"):
                    schedules.append(build(optimizers[-1]))
        if any(isinstance(schedule, ReduceLROnPlateau) for schedule in schedules):
            raise UserError(
                "`optimizer`: ReduceLROnPlateau waits for a metric, and schedules count iterations"
                " here; try MultiStepLR."
            )
        return optimizers, schedules

    # Where a loss is not finite, and is to be skipped

    def _keep_statistics(self, *networks: nn.Module | None) -> None:
        """Keeps what forward passes change: running statistics and singular vectors."""
        if self.on_nonfinite == "skip":
            for network in networks:
                if network is not None:
                    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
                    self._kept_statistics[network] = kept

    def _require_finite(self, name: str, value: Tensor) -> None:
        """Ends the iteration in every process if the value of one of them is not finite."""
        if self.on_nonfinite == "skip":
            is_finite = bool(value.isfinite())
            if self.trainer.world_size > 1:
                is_finite = self.trainer.strategy.reduce_boolean_decision(is_finite, all=True)
            if not is_finite:
                raise _NotFiniteError(name)

    def _require_finite_gradient(self, optimizer: LightningOptimizer) -> None:
        # The scaler of 16-mixed looks at gradients itself: they may overflow until it has adapted.
        if self.on_nonfinite == "skip" and self.trainer.precision != "16-mixed":
            parameters = _parameters_of(optimizer)
            norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
            self._require_finite(_gradient_norm_of(optimizer.optimizer, self._optimizers), norm)

    def _skip(self, error: "_NotFiniteError") -> None:
        for statistics in self._kept_statistics.values():
            for buffer, kept in statistics:
                buffer.copy_(kept)
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.num_skipped += 1
        number = self.iteration + 1
        if self.num_skipped > self.nonfinite_limit:
            raise DivergedError(
                f"`{error}` was not finite at iteration {number}, and `nonfinite_limit`"
                f" (={self.nonfinite_limit}) iterations were skipped already; {_REMEDIES}."
            )
        log.warning("`%s` is not finite at iteration %d: the batch is skipped.", error, number)

    # What is reported

    def _report(self, num_images: int) -> None:
        self._images_since_write += num_images * self.trainer.world_size
        is_due = self.iteration % self.log_every == 0
        if is_due or self.device.type == "cpu":  # elsewhere a look at the values waits for them
            self.raise_if_diverged()
        if not is_due:
            return
        values = self._means.read()
        self._means.reset()
        names = ["generator", "discriminator"]
        for name, optimizer in zip(names, self._optimizers, strict=False):
            values[f"train/learning_rate/{name}"] = optimizer.param_groups[0]["lr"]
        for name, layer in self._attention_layers().items():
            values[f"train/gamma/{name}"] = float(layer.gamma.detach())
        if self.on_nonfinite == "skip":
            values["train/skipped"] = self.num_skipped
        now_s = time.perf_counter()
        if self._last_write_s is not None:
            values["train/images_per_s"] = self._images_since_write / (now_s - self._last_write_s)
        values["train/peak_memory_mib"] = peak_memory_mib(self.device)
        self._restart_throughput()
        self.write(values)

    def raise_if_diverged(self) -> None:
        """Looks at the losses since the last written row.

        Raises:
            DivergedError: one of them is not finite; names it and the iteration.
        """
        for name, value in self._means.read().items():
            if "/loss_" in name and not math.isfinite(value):
                raise DivergedError(
                    f"`{name}` is no longer finite ({value}) at iteration {self.iteration};"
                    f" {_REMEDIES}; on_nonfinite=skip leaves out single batches."
                )

    def raise_if_broken(self) -> None:
        """Looks at everything that a checkpoint would keep.

        Raises:
            DivergedError: a loss, a weight or a statistic is not finite; names it.
        """
        self.raise_if_diverged()
        for name, tensor in self.state_dict().items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise DivergedError(
                    f"`{name}` is no longer finite at iteration {self.iteration}; {_REMEDIES}."
                )

    def write(self, values: Mapping[str, float]) -> None:
        """Hands values of this iteration to every logger, from one process."""
        if self.trainer.is_global_zero:
            for logger in self.trainer.loggers:
                logger.log_metrics(dict(values), step=self.iteration)

    def _restart_throughput(self) -> None:
        self._last_write_s = time.perf_counter()
        self._images_since_write = 0

    def _attention_layers(self) -> dict[str, FlexibleSelfAttention]:
        layers = {f"generator/{k}": v for k, v in self.generator.attention_layers.items()}
        if self.discriminator is not None:
            of_d = self.discriminator.attention_layers
            layers |= {f"discriminator/{k}": v for k, v in of_d.items()}
        return layers

    def on_fit_start(self) -> None:
        """Drops rows that a killed run wrote after the checkpoint it resumes from."""
        for logger in self.trainer.loggers:
            if isinstance(logger, IterationLogger):
                logger.resume_from(self.iteration, is_validated=not self.is_validation_due)

    # Validation

    def on_validation_epoch_start(self) -> None:
        """Clears the means; all processes score the same network.

        Batch norm's statistics are of each process's own pictures, and nothing else averages them:
        what rank 0 saves is what all score.
        """
        self.is_validation_due = True
        self.protocol.to(self.device)
        if self.trainer.world_size > 1:
            for buffer in self.averaged_generator.buffers():
                torch.distributed.broadcast(buffer, src=0)
        for means in self._validation_means:
            for mean in means.values():
                mean.to(self.device).reset()

    def validation_step(
        self, batch: BenchmarkImage, batch_index: int, dataloader_idx: int = 0
    ) -> Tensor:
        """Scores the averaged generator on one image; returns SR (1, 3, H, W), unclamped."""
        lr_image = batch.lr_image.contiguous(memory_format=self._memory_format)
        sr_image = self.averaged_generator(lr_image).float()
        scores: dict[str, Any] = self.protocol(
            sr_image, hr_image=batch.hr_image, lr_image=batch.lr_image
        )[0]
        content = self._content_values(sr_image, batch.hr_image)
        scores |= {f"loss_{name}": value for name, value in content.items()}
        scores["content_loss"] = sum(
            self._content_weights[name] * value for name, value in content.items()
        )
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] - set by fit
        if not data.is_repeated(loader=dataloader_idx, batch=batch_index):
            for name, mean in self._validation_means[dataloader_idx].items():
                # None: the picture is too small for it, and so the mean says nothing.
                mean.update(math.nan if scores[name] is None else scores[name])
        return sr_image

    def on_validation_epoch_end(self) -> None:
        """Writes the means over each benchmark, over all, and the networks' spectral norms."""
        values: dict[str, float] = {}
        for benchmark, means in zip(self.validation_names, self._validation_means, strict=True):
            values |= {f"val/{benchmark}/{k}": float(mean.compute()) for k, mean in means.items()}
        keys = self._validation_means[0].keys()
        self.validation_scores = {
            key: mean_over_benchmarks(
                key, [values[f"val/{b}/{key}"] for b in self.validation_names]
            )
            for key in keys
        }
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        for name, network in networks.items():
            if network is not None:
                key = f"val/largest_singular_value/{name}"
                values[key] = largest_singular_value(network)
        self.write(values)
        self.is_validation_due = False

    def on_validation_end(self) -> None:
        """Keeps the time of validation out of the throughput."""
        if self._last_write_s is not None:
            self._restart_throughput()

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds this module's clock, and what is needed to rebuild the generator alone."""
        # Loops start anew in a resumed run: the iteration says where, the crops follow from it.
        del checkpoint["loops"]
        checkpoint["asrgan"] = {
            "iteration": self.iteration,
            "is_validation_due": self.is_validation_due,
            "num_skipped": self.num_skipped,
            "means": self._means.state(),
        }
        checkpoint["asrgan_generator"] = {
            "generator": type(self.generator).__name__,
            "architecture": self.generator.architecture,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes up the clock where the checkpoint left it."""
        self.iteration = checkpoint["asrgan"]["iteration"]
        self.is_validation_due = checkpoint["asrgan"]["is_validation_due"]
        self.num_skipped = checkpoint["asrgan"]["num_skipped"]
        # The module is moved to its device later.
        device = self.trainer.strategy.root_device
        self._means.restore(checkpoint["asrgan"]["means"], device=device)


@contextmanager
def _explaining(key: str) -> Generator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`{key}`: {error}. To replace all of it: '~{key}' '+{key}={{_target_: ...}}'."
        ) from error


def _parameters_of(optimizer: Optimizer | LightningOptimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _gradient_norm_of(optimizer: Optimizer, optimizers: Sequence[LightningOptimizer]) -> str:
    network = "generator" if optimizer is optimizers[0].optimizer else "discriminator"
    return f"train/gradient_norm/{network}"
