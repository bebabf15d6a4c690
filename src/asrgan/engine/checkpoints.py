"""What a run keeps on disk, and how it stops."""

import logging
import math
import os
import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from asrgan.engine.directions import DIRECTIONS
from asrgan.engine.loggers import IterationLogger
from asrgan.engine.super_resolution import SuperResolution
from asrgan.errors import DivergedError, InterruptedRunError, PreemptedRunError, UserError
from asrgan.files import atomic_path, remove_unfinished
from asrgan.models import save_generator

log = logging.getLogger(__name__)

# GPUs that ask each other wait until all that they were given is computed.
_STEPS_BETWEEN_QUESTIONS = 10


class Progress(NamedTuple):
    """How far a run has come."""

    iteration: int
    is_validation_due: bool


def read_progress(path: Path) -> Progress:
    """Where a run goes on that resumes from a checkpoint of ``asrgan train``.

    Raises:
        UserError: the file is damaged, or something else.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)["asrgan"]
        return Progress(checkpoint["iteration"], checkpoint["is_validation_due"])
    except Exception as error:  # damaged files raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"`{path}` is no checkpoint of `asrgan train`, or damaged ({reason}); copy best.ckpt"
            " over it, or take another output_dir."
        ) from error


class Schedule(Callback):
    """Asks for validation by the module's own iteration.

    Lightning counts the batches of its own process, so a resumed run would drift.

    Args:
        validate_every: iterations, the last one is validated, too; None: never.
        max_iterations: where the run ends.
    """

    NEVER = 2**62

    def __init__(self, *, validate_every: int | None, max_iterations: int) -> None:
        self.validate_every = validate_every
        self.max_iterations = max_iterations

    def is_validated(self, iteration: int) -> bool:
        """Whether validation follows this many iterations."""
        if self.validate_every is None:
            return False
        return iteration % self.validate_every == 0 or iteration == self.max_iterations

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts with the validation that was interrupted, if one was and is still wanted."""
        assert isinstance(pl_module, SuperResolution)
        pl_module.is_validation_due &= self.validate_every is not None
        if pl_module.is_validation_due:
            trainer.num_sanity_val_steps = math.inf  # what Lightning calls it before any batch

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Decides before each batch whether validation follows it."""
        del batch, batch_idx
        assert isinstance(pl_module, SuperResolution)
        trainer.val_check_batch = 1 if self.is_validated(pl_module.iteration + 1) else self.NEVER


class Checkpoints(Callback):
    """Writes ``last.ckpt``, ``best.ckpt`` and the averaged generator, each whole or not at all.

    A checkpoint that falls on a validated iteration is written after the validation, so that no
    row of it is missing from a resumed run. Ctrl-C, SIGTERM and SIGUSR1 let the iteration end, or
    the image of a validation, save, and raise; a second one stops at once. An interrupted
    validation is the first thing that a resumed run does.

    Args:
        output_dir: the run's folder.
        every: iterations between checkpoints; the last iteration has one, too.
        schedule: says which iterations are validated.
        best_metric: decides ``best.ckpt``, a key of ``DIRECTIONS``.
        judged_on: what its values depend on besides the network. Where a resumed run has another
            metric or is judged on something else, the best is chosen anew.
        recipe: goes into the metadata of ``generator.safetensors``.

    Raises:
        UserError: ``best_metric`` is unknown; a checkpoint cannot be written.
        InterruptedRunError: a signal asked the run to stop; its state is saved.
    """

    def __init__(
        self,
        output_dir: Path,
        *,
        every: int,
        schedule: Schedule,
        best_metric: str,
        judged_on: Mapping[str, object],
        recipe: Mapping[str, object],
    ) -> None:
        if best_metric not in DIRECTIONS:
            known = ", ".join(DIRECTIONS)
            raise UserError(f"`trainer.best_metric` (={best_metric}) must be one of {known}.")
        self.output_dir = output_dir
        self.every = every
        self.schedule = schedule
        self.best_metric = best_metric
        self.judged_on = {"metric": best_metric, **judged_on}
        self.recipe = recipe
        self.best_score: float | None = None
        self.saved_iteration: int | None = None
        self._received: int | None = None
        self._earlier_handlers: dict[int, Any] = {}

    @property
    def last_path(self) -> Path:
        """Where a resumed run starts."""
        return self.output_dir / "checkpoints" / "last.ckpt"

    # When

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves where a checkpoint is due, unless validation comes first."""
        del outputs, batch, batch_idx
        assert isinstance(pl_module, SuperResolution)
        if not self.schedule.is_validated(pl_module.iteration):
            self._end_iteration(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lets a signal interrupt a validation, which may last for long."""
        del outputs, batch, batch_idx, dataloader_idx
        assert isinstance(pl_module, SuperResolution)
        if self._is_stopping(trainer):
            self._stop(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves the best, and the last where it is due."""
        assert isinstance(pl_module, SuperResolution)
        score = pl_module.validation_scores[self.best_metric]
        sign = DIRECTIONS[self.best_metric]
        is_better = self.best_score is None or sign * score > sign * self.best_score
        if math.isnan(score):
            log.warning(
                "`%s` has no value at iteration %d, which cannot be the best.",
                self.best_metric,
                pl_module.iteration,
            )
        elif is_better:
            pl_module.raise_if_broken()
            self.best_score = score
            self._save(trainer, pl_module, "best.ckpt")
        self._end_iteration(trainer, pl_module)

    def _end_iteration(self, trainer: pl.Trainer, module: SuperResolution) -> None:
        iteration, end = module.iteration, self.schedule.max_iterations
        if self._is_stopping_after(trainer, module) and iteration < end:
            self._stop(trainer, module)
        if iteration % self.every == 0 or iteration == end:
            self._save_last(trainer, module)

    def _stop(self, trainer: pl.Trainer, module: SuperResolution) -> NoReturn:
        self._save_last(trainer, module)
        is_preempted = self._is_any(trainer, self._received == signal.SIGUSR1)
        raise (PreemptedRunError if is_preempted else InterruptedRunError)(
            f"Stopped at iteration {module.iteration} of {self.schedule.max_iterations} and saved"
            f" {self.last_path}; the same command with resume=true goes on."
        )

    # How

    def _save(self, trainer: pl.Trainer, module: SuperResolution, name: str) -> None:
        path = self.last_path.with_name(name)
        with self._explaining(path, module.iteration):
            if trainer.is_global_zero:
                with atomic_path(path) as temporary:
                    trainer.save_checkpoint(temporary)
            else:
                trainer.save_checkpoint(path)  # takes part, and writes nothing

    def _save_last(self, trainer: pl.Trainer, module: SuperResolution) -> None:
        module.raise_if_broken()
        if trainer.is_global_zero:
            # First: a run that is killed behind its last checkpoint writes nothing any more.
            path = self.output_dir / "generator.safetensors"
            recipe = {**self.recipe, "iteration": module.iteration}
            with self._explaining(path, module.iteration):
                save_generator(path, module.averaged_generator, recipe=recipe)
        for logger in trainer.loggers:
            if isinstance(logger, IterationLogger):
                logger.flush()  # a resumed run does not write these rows again
        self._save(trainer, module, self.last_path.name)
        self.saved_iteration = module.iteration

    @contextmanager
    def _explaining(self, path: Path, iteration: int) -> Generator[None]:
        """Words what goes wrong with the disk."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"`{path}` could not be written at iteration {iteration}"
                f" ({error.strerror or error}); {self._describe_last()}"
            ) from error

    def _describe_last(self) -> str:
        if self.saved_iteration is None:
            return "there is no earlier checkpoint of this run."
        return f"the last good checkpoint is of iteration {self.saved_iteration}: {self.last_path}"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Removes what a killed run has left half-written.

        Raises:
            UserError: there is a folder of checkpoints, and it cannot be written.
        """
        assert isinstance(pl_module, SuperResolution)
        self.saved_iteration = pl_module.iteration or None
        checkpoints = self.last_path.parent
        if trainer.is_global_zero:
            if checkpoints.exists() and not os.access(checkpoints, os.W_OK):
                raise UserError(f"`{checkpoints}` cannot be written; take another output_dir.")
            for folder in (self.output_dir, checkpoints, self.output_dir / "samples"):
                remove_unfinished(folder)

    # Signals

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over the signals while an interrupted validation is made up for."""
        del trainer, pl_module
        self._take_over_signals()

    def on_sanity_check_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the signals back: what follows may be no training."""
        del trainer, pl_module
        self._give_back_signals()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes over Ctrl-C, SIGTERM and SIGUSR1."""
        del trainer, pl_module
        self._take_over_signals()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives the signals back."""
        del trainer, pl_module
        self._give_back_signals()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Gives the signals back, and tells a diverged run where it can go on."""
        del trainer, pl_module
        self._give_back_signals()
        if isinstance(exception, DivergedError):
            exception.args = (f"{exception} In any case {self._describe_last()}",)

    def _take_over_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._earlier_handlers[number] = signal.signal(number, self._on_signal)

    def _give_back_signals(self) -> None:
        for number, handler in self._earlier_handlers.items():
            signal.signal(number, handler)
        self._earlier_handlers.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._received is not None:
            raise KeyboardInterrupt
        self._received = number

    def _is_stopping_after(self, trainer: pl.Trainer, module: SuperResolution) -> bool:
        """Whether this iteration is the last one of a run that was asked to stop."""
        if module.is_accumulating:  # gradients that wait for their step are in no checkpoint
            return False
        asks_gpus = trainer.world_size > 1 and module.device.type != "cpu"
        steps = module.iteration // module.optimization.accumulate
        if asks_gpus and steps % _STEPS_BETWEEN_QUESTIONS:
            return False
        return self._is_stopping(trainer)

    def _is_stopping(self, trainer: pl.Trainer) -> bool:
        return self._is_any(trainer, self._received is not None)

    @staticmethod
    def _is_any(trainer: pl.Trainer, is_here: bool) -> bool:
        if trainer.world_size == 1:
            return is_here
        return trainer.strategy.reduce_boolean_decision(is_here, all=False)

    # Its own state

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, and what it was on."""
        return {"best_score": self.best_score, "judged_on": self.judged_on}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the best score, if the next ones can be compared with it."""
        if state_dict["judged_on"] == self.judged_on:
            self.best_score = state_dict["best_score"]
