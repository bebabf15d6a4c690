"""The progress bar of a training run."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from asrgan.console import open_bar
from asrgan.engine.super_resolution import SuperResolution


class Progress(Callback):
    """Iterations, speed and time left on stderr, with the last validation score behind.

    Where stderr is not a terminal it prints a line now and then instead of redrawing one.

    Args:
        max_iterations: where the run ends.
        metric: the validation score that is shown.
    """

    def __init__(self, *, max_iterations: int, metric: str) -> None:
        self.max_iterations = max_iterations
        self.metric = metric
        self._bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Opens the bar where the run goes on."""
        assert isinstance(pl_module, SuperResolution)
        self._bar = open_bar(
            total=self.max_iterations,
            initial=pl_module.iteration,
            desc="training",
            unit="it",
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """One iteration further."""
        del trainer, pl_module, outputs, batch, batch_idx
        if self._bar is not None:
            self._bar.update()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows the new score."""
        del trainer
        assert isinstance(pl_module, SuperResolution)
        if self._bar is not None:
            score = pl_module.validation_scores[self.metric]
            self._bar.set_postfix_str(f"{self.metric} {score:.4g}", refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the finished bar on the screen."""
        del trainer, pl_module
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leaves the line to the error."""
        del trainer, pl_module, exception
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
