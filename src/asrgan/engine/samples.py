"""Pictures of the same validation crops, over the whole run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from asrgan.data import BenchmarkImage
from asrgan.engine.loggers import SAMPLES, IterationLogger
from asrgan.engine.super_resolution import SuperResolution
from asrgan.imaging import bicubic_upscale, to_array, write_image


class Samples(Callback):
    """After each validation a picture with a row for each image: bicubic, SR, HR.

    Args:
        folder: receives ``iteration_XXXXXXXX.png``.
        num_samples: rows; the first images of the validation folders.
        size_px: side of the central HR crop that is shown, smaller where an image is.
    """

    def __init__(self, folder: Path, *, num_samples: int, size_px: int) -> None:
        self.folder = folder
        self.num_samples = num_samples
        self.size_px = size_px
        self._rows: list[NDArray[np.uint8]] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts a new picture."""
        del trainer, pl_module
        self._rows.clear()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: BenchmarkImage,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Adds a row."""
        del batch_idx, dataloader_idx
        assert isinstance(pl_module, SuperResolution)
        if trainer.is_global_zero and len(self._rows) < self.num_samples:
            bicubic = bicubic_upscale(batch.lr_image.float(), scale=pl_module.generator.scale)
            self._rows.append(self._row([bicubic, outputs, batch.hr_image]))

    def _row(self, images: list[Tensor]) -> NDArray[np.uint8]:
        height, width = images[-1].shape[-2:]
        size = self.size_px
        top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
        crops = [image[0, :, top : top + size, left : left + size] for image in images]
        padded = torch.ones(len(crops), 3, size, size)
        for place, crop in zip(padded, crops, strict=True):
            place[:, : crop.shape[1], : crop.shape[2]] = crop.float().clamp(0, 1)
        return to_array(torch.cat(list(padded), dim=2))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes the picture, and hands it to the loggers."""
        assert isinstance(pl_module, SuperResolution)
        if not self._rows:
            return
        picture = np.concatenate(self._rows)
        write_image(self.folder / f"iteration_{pl_module.iteration:08d}.png", picture)
        for logger in trainer.loggers:
            if isinstance(logger, IterationLogger):
                logger.log_picture(SAMPLES, picture, step=pl_module.iteration)
