"""The one protocol by which pictures are judged in every table."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from asrgan.downloads import WeightsUnavailableError
from asrgan.errors import UserError
from asrgan.metrics.blocking import blockiness
from asrgan.metrics.colour import colour_patches, colour_shift
from asrgan.metrics.consistency import consistency
from asrgan.metrics.edges import ringing
from asrgan.metrics.full_reference import (
    MS_SSIM_MINIMUM_PX,
    SSIM_WINDOW_PX,
    ms_ssim_y,
    psnr_rgb,
    psnr_y,
    ssim_rgb,
    ssim_y,
)
from asrgan.metrics.naturalness import niqe, open_pristine_model
from asrgan.metrics.perceptual import DISTS, LPIPS, NETWORK_MINIMUM_PX, FeatureDistance

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


def _against_hr(name: str, definition: str, *, is_higher_better: bool, digits: int = 4) -> Metric:
    return Metric(name, definition, is_higher_better, needs_hr=True, digits=digits)


def _without_hr(name: str, definition: str, *, is_higher_better: bool, digits: int = 2) -> Metric:
    return Metric(name, definition, is_higher_better, needs_hr=False, digits=digits)


_IN_ORDER = (
    _against_hr("psnr_y_db", "PSNR of Y, dB", is_higher_better=True, digits=2),
    _against_hr("ssim_y", "SSIM of Y", is_higher_better=True),
    _against_hr("psnr_rgb_db", "PSNR of R, G and B together, dB", is_higher_better=True, digits=2),
    _against_hr("ssim_rgb", "SSIM, mean of R, G and B", is_higher_better=True),
    _against_hr("ms_ssim_y", "MS-SSIM of Y, five scales", is_higher_better=True),
    _against_hr("lpips_alex", "LPIPS 0.1, AlexNet", is_higher_better=False),
    _against_hr("lpips_vgg", "LPIPS 0.1, VGG-16", is_higher_better=False),
    _against_hr("lpips_squeeze", "LPIPS 0.1, SqueezeNet", is_higher_better=False),
    _against_hr("dists", "DISTS, pictures in their own size", is_higher_better=False),
    _against_hr(
        "feature_distance",
        "distance of unit-length features, LPIPS without learned weights",
        is_higher_better=False,
    ),
    _without_hr(
        "consistency_db", "PSNR over RGB of SR reduced again to LR, dB", is_higher_better=True
    ),
    _without_hr("colour_shift", "mean CIEDE2000 of SR reduced again to LR", is_higher_better=False),
    _without_hr("niqe", "NIQE of Y, whole blocks of 96 px", is_higher_better=False),
    _without_hr(
        "blockiness",
        "steps on the grid of LR's JPEG blocks beyond those beside it, grey levels",
        is_higher_better=False,
        digits=3,
    ),
    _without_hr(
        "ringing",
        "swing beside strong edges beyond LR's, % of the edges' height",
        is_higher_better=False,
    ),
    _without_hr(
        "colour_patches",
        "area of patches whose chroma is more than 5 (CIELAB) off LR's, %",
        is_higher_better=False,
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _IN_ORDER}
"""Every column that can be asked for, in the order of a table."""


@dataclass(frozen=True)
class _Measure:
    """How a column gets its value: from SR and HR where it needs HR, else from SR and LR."""

    score: Callable[[Tensor, Tensor], Tensor]
    minimum_size_px: int = 1  # of SR
    is_required: bool = False  # of those that are not, smaller pictures have no value


class Protocol:
    """The metrics of a picture, on its 8-bit version.

    No module itself, so that its networks stay out of a trainer's checkpoints.

    Args:
        scale: super-resolution factor; as many pixels are shaved from each side for PSNR, SSIM and
            MS-SSIM.
        metrics: keys of `METRICS`. One whose weights can be neither read nor downloaded is left out
            with a warning that names the file and its address.
        niqe: file of NIQE's pristine model; None: torch's cache, or downloaded into it.
        feature_network: of `feature_distance`; see ``FeatureDistance``.

    Raises:
        UserError: no or an unknown metric; a wrong file; `feature_distance` without its network.
    """

    def __init__(
        self,
        *,
        scale: int,
        metrics: Sequence[str],
        niqe: str | Path | None = None,
        feature_network: nn.Module | None = None,
    ) -> None:
        unknown = [name for name in metrics if name not in METRICS]
        if isinstance(metrics, str) or unknown or not metrics:
            raise UserError(
                f"`metrics` (={metrics}) must be a list of names out of {', '.join(METRICS)}."
            )
        self._scale = scale
        self._niqe_file = niqe
        self._feature_network = feature_network
        self.networks = nn.ModuleList()
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

    def minimum_size_of(self, name: str) -> int:
        """Shortest side for which a metric has a value; 1 for what it does not compute."""
        return self._measures[name].minimum_size_px if name in self._measures else 1

    @property
    def description(self) -> str:
        """How the numbers were made, for the head of a table; a list in Markdown."""
        lines = [
            f"8-bit pictures, x{self._scale}; Y: BT.601, 16-235; PSNR, SSIM and MS-SSIM: "
            f"{self._scale} px shaved from each side, 11x11 Gaussian of sigma 1.5, valid region; "
            "large pictures in strips and tiles with margins, as if whole; per image, then "
            "averaged.",
            "",
        ]
        for name in self.metrics:
            direction = "higher" if METRICS[name].is_higher_better else "lower"
            network = self._feature_network if name == "feature_distance" else None
            of_network = f" ({type(network).__name__})" if network else ""
            lines.append(f"- {name}: {METRICS[name].definition}{of_network}; {direction} is better")
        lines += [f"- {name}: its weights are missing" for name in self.missing]
        return "\n".join(lines)

    def to(self, device: torch.device) -> Self:
        """Moves the networks."""
        self.networks.to(device)
        return self

    @torch.no_grad()
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
        with torch.autocast(sr_image.device.type, enabled=False):  # values are float32's
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
        value = measure.score(sr_image, reference).item()
        return None if math.isnan(value) else value  # not defined on this picture

    def _open(self, name: str) -> _Measure:
        scale = self._scale
        match name:
            case "psnr_y_db":
                return _Measure(partial(psnr_y, border=scale), 1 + 2 * scale, is_required=True)
            case "ssim_y":
                minimum_px = SSIM_WINDOW_PX + 2 * scale
                return _Measure(partial(ssim_y, border=scale), minimum_px, is_required=True)
            case "psnr_rgb_db":
                return _Measure(partial(psnr_rgb, border=scale), 1 + 2 * scale, is_required=True)
            case "ssim_rgb":
                minimum_px = SSIM_WINDOW_PX + 2 * scale
                return _Measure(partial(ssim_rgb, border=scale), minimum_px, is_required=True)
            case "ms_ssim_y":
                return _Measure(partial(ms_ssim_y, border=scale), MS_SSIM_MINIMUM_PX + 2 * scale)
            case "dists":
                return _Measure(self._keep(DISTS()), NETWORK_MINIMUM_PX)
            case "feature_distance":
                if self._feature_network is None:
                    raise UserError(
                        "the metric feature_distance needs a network; try asrgan evaluate"
                        " 'feature_network={_target_: asrgan.models.VGG19Features, weights: null}'."
                    )
                distance = FeatureDistance(network=self._feature_network)
                return _Measure(self._keep(distance), NETWORK_MINIMUM_PX)
            case "consistency_db":
                return _Measure(partial(consistency, scale=scale))
            case "colour_shift":
                return _Measure(partial(colour_shift, scale=scale))
            case "niqe":
                model = open_pristine_model(self._niqe_file)
                return _Measure(lambda sr_image, _: niqe(sr_image, model=model))
            case "blockiness":
                return _Measure(lambda sr_image, _: blockiness(sr_image, scale=scale))
            case "ringing":
                return _Measure(partial(ringing, scale=scale))
            case "colour_patches":
                return _Measure(partial(colour_patches, scale=scale))
            case _:
                network = LPIPS(network=name.removeprefix("lpips_"))
                return _Measure(self._keep(network), NETWORK_MINIMUM_PX)

    def _keep(self, network: nn.Module) -> nn.Module:
        self.networks.append(network)
        return network
