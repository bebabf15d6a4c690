"""The one protocol by which pictures are judged in every table."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from asrgan.downloads import WeightsUnavailableError
from asrgan.errors import UserError
from asrgan.imaging import quantize
from asrgan.metrics.consistency import colour_shift, consistency
from asrgan.metrics.full_reference import SSIM_WINDOW_PX, psnr_rgb, psnr_y, ssim_rgb, ssim_y
from asrgan.metrics.perceptual import LPIPS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """What a column of a table is.

    Attributes:
        name: the column's.
        definition: one clause for the head of a table.
        is_higher_better: what an improvement is.
        needs_hr: whether there is no value without ground truth.
        digits: behind the point, in a table.
    """

    name: str
    definition: str
    is_higher_better: bool
    needs_hr: bool
    digits: int


_IN_ORDER = (
    Metric("psnr_y_db", "PSNR of Y, dB", is_higher_better=True, needs_hr=True, digits=2),
    Metric("ssim_y", "SSIM of Y", is_higher_better=True, needs_hr=True, digits=4),
    Metric("psnr_rgb_db", "PSNR of RGB, dB", is_higher_better=True, needs_hr=True, digits=2),
    Metric("ssim_rgb", "SSIM of RGB", is_higher_better=True, needs_hr=True, digits=4),
    Metric("lpips_alex", "LPIPS with AlexNet", is_higher_better=False, needs_hr=True, digits=4),
    Metric("lpips_vgg", "LPIPS with VGG-16", is_higher_better=False, needs_hr=True, digits=4),
    Metric(
        "lpips_squeeze", "LPIPS with SqueezeNet", is_higher_better=False, needs_hr=True, digits=4
    ),
    Metric(
        "consistency_db",
        "PSNR over RGB of SR reduced again against LR, dB",
        is_higher_better=True,
        needs_hr=False,
        digits=2,
    ),
    Metric(
        "colour_shift",
        "mean CIEDE2000 of SR reduced again against LR",
        is_higher_better=False,
        needs_hr=False,
        digits=2,
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _IN_ORDER}
"""Every column that can be asked for, in the order of a table."""


@dataclass(frozen=True)
class _Measure:
    """How a column gets its value: from SR and HR where it needs HR, else from SR and LR."""

    score: Callable[[Tensor, Tensor], Tensor]
    minimum_size_px: int  # of SR
    is_required: bool  # else smaller pictures have no value


class Protocol:
    """The metrics of a picture, on its 8-bit version.

    No module itself, so that its networks stay out of a trainer's checkpoints.

    Args:
        scale: super-resolution factor; as many pixels are shaved from each side for PSNR and SSIM.
        metrics: keys of `METRICS`. One whose weights can be neither read nor downloaded is left out
            with a warning that names the file and its address.

    Raises:
        UserError: no or an unknown metric.
    """

    def __init__(self, *, scale: int, metrics: Sequence[str]) -> None:
        unknown = [name for name in metrics if name not in METRICS]
        if isinstance(metrics, str) or unknown or not metrics:
            raise UserError(
                f"`metrics` (={metrics}) must be a list of names out of {', '.join(METRICS)}."
            )
        self._scale = scale
        self.networks = nn.ModuleDict()
        self._measures: dict[str, _Measure] = {}
        for name in METRICS:
            if name in metrics:
                try:
                    self._measures[name] = self._open(name)
                except WeightsUnavailableError as error:
                    log.warning("%s stays empty: %s", name, error)
        self.missing = tuple(n for n in METRICS if n in metrics and n not in self._measures)
        """What was asked for and cannot be computed."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that are computed, in the order of `METRICS`."""
        return tuple(self._measures)

    @property
    def minimum_size_px(self) -> int:
        """Shortest side that can be scored: PSNR and SSIM must have a value, others may be None."""
        required = [m.minimum_size_px for m in self._measures.values() if m.is_required]
        return max(required, default=self._scale)

    @property
    def description(self) -> str:
        """One line that says how the numbers were made, for the head of a table."""
        clauses = "; ".join(f"{name}: {METRICS[name].definition}" for name in self.metrics)
        missing = f" No weights for {', '.join(self.missing)}." if self.missing else ""
        return (
            f"8-bit pictures, x{self._scale}; {self._scale} px shaved from each side for PSNR and"
            " SSIM; Y: BT.601, 16-235; SSIM: 11x11 Gaussian, sigma 1.5, valid region; per image,"
            f" then averaged. {clauses}.{missing}"
        )

    def to(self, device: torch.device) -> Self:
        """Moves the networks."""
        self.networks.to(device)
        return self

    def __call__(
        self, sr_image: Tensor, *, hr_image: Tensor | None, lr_image: Tensor
    ) -> list[dict[str, float | None]]:
        """Judges each picture.

        Args:
            sr_image: (N, 3, H, W) in [0, 1].
            hr_image: ground truth, same shape and range; None where there is none.
            lr_image: what SR was made from, (N, 3, H/scale, W/scale).

        Returns:
            For each image `metrics` -> value; None where it needs ground truth and there is none,
            or where the picture is too small for it.

        Raises:
            ValueError: shapes do not fit together.
            UserError: a picture is smaller than `minimum_size_px`.
        """
        return [
            {
                name: self._score(
                    name,
                    sr_image[i : i + 1],
                    None if hr_image is None else hr_image[i : i + 1],
                    lr_image[i : i + 1],
                )
                for name in self.metrics
            }
            for i in range(len(sr_image))
        ]

    def _score(
        self, name: str, sr_image: Tensor, hr_image: Tensor | None, lr_image: Tensor
    ) -> float | None:
        measure = self._measures[name]
        reference = hr_image if METRICS[name].needs_hr else lr_image
        is_too_small = min(sr_image.shape[-2:]) < measure.minimum_size_px
        if reference is None or (is_too_small and not measure.is_required):
            return None
        return measure.score(sr_image, reference).item()

    def _open(self, name: str) -> _Measure:
        scale = self._scale
        if name in ("psnr_y_db", "psnr_rgb_db"):
            psnr = partial(psnr_y if name == "psnr_y_db" else psnr_rgb, border=scale)
            return _Measure(psnr, 1 + 2 * scale, is_required=True)
        if name in ("ssim_y", "ssim_rgb"):
            ssim = partial(ssim_y if name == "ssim_y" else ssim_rgb, border=scale)
            return _Measure(ssim, SSIM_WINDOW_PX + 2 * scale, is_required=True)
        if name in ("consistency_db", "colour_shift"):
            function = consistency if name == "consistency_db" else colour_shift
            return _Measure(partial(function, scale=scale), scale, is_required=False)
        network = LPIPS(network=name.removeprefix("lpips_"))
        self.networks[name] = network
        return _Measure(
            lambda sr_image, hr_image: network(quantize(sr_image), quantize(hr_image)),
            network.minimum_size_px,
            is_required=False,
        )
