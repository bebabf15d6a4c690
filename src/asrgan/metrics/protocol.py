"""The one protocol by which pictures are compared in every table."""

from typing import Self

import torch
from torch import Tensor

from asrgan.imaging import quantize
from asrgan.metrics.full_reference import SSIM_WINDOW_PX, psnr_rgb, psnr_y, ssim_rgb, ssim_y
from asrgan.metrics.perceptual import LPIPS

METRICS: tuple[str, ...] = ("psnr_y_db", "ssim_y", "psnr_rgb_db", "ssim_rgb", "lpips")
"""The columns of a table, in order."""


class Protocol:
    """Every metric of a picture, on its 8-bit version.

    Args:
        scale: super-resolution factor; as many pixels are shaved from each side for PSNR and SSIM.
        lpips: None leaves the ``lpips`` column empty.
    """

    def __init__(self, *, scale: int, lpips: LPIPS | None) -> None:
        self._scale = scale
        self._lpips = lpips

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names out of `METRICS` that get a value."""
        return METRICS if self._lpips is not None else METRICS[:-1]

    @property
    def minimum_size_px(self) -> int:
        """Shortest side that can be scored: SSIM's window within the border, LPIPS' deepest map."""
        minimum_px = SSIM_WINDOW_PX + 2 * self._scale
        return minimum_px if self._lpips is None else max(minimum_px, LPIPS.minimum_size_px)

    @property
    def description(self) -> str:
        """One line that says how the numbers were made, for the head of a table."""
        lpips = (
            "no LPIPS"
            if self._lpips is None
            else f"LPIPS ({self._lpips.network_name}) of the whole picture"
        )
        return (
            "8-bit pictures; PSNR (dB) and SSIM (11x11 Gaussian, sigma 1.5, valid region) of "
            f"BT.601 Y (16-235) and of RGB, {self._scale} px shaved from each side; {lpips}; "
            "per image, then averaged."
        )

    def to(self, device: torch.device) -> Self:
        """Moves LPIPS; no module itself, so that LPIPS stays out of a trainer's checkpoints."""
        if self._lpips is not None:
            self._lpips.to(device)
        return self

    def __call__(self, sr_image: Tensor, hr_image: Tensor) -> list[dict[str, float | None]]:
        """Compares each picture with its ground truth.

        LPIPS sees the whole picture; only PSNR and SSIM shave the border.

        Args:
            sr_image: (N, 3, H, W) in [0, 1].
            hr_image: ground truth, same shape and range.

        Returns:
            For each image `METRICS` -> value; ``lpips`` is None where LPIPS is not available.

        Raises:
            ValueError: shapes differ.
            UserError: a picture is too small for SSIM's window after shaving, or for LPIPS.
        """
        columns: list[list[float] | list[None]] = [
            metric(sr_image, hr_image, border=self._scale).tolist()
            for metric in (psnr_y, ssim_y, psnr_rgb, ssim_rgb)
        ]
        columns.append(
            [None] * len(sr_image)
            if self._lpips is None
            else self._lpips(quantize(sr_image), quantize(hr_image)).tolist()
        )
        return [dict(zip(METRICS, row, strict=True)) for row in zip(*columns, strict=True)]
