"""Pictures with all that they hold, through the network."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from asrgan.imaging import resize_bands
from asrgan.inference.upscaler import Upscaler, as_grey, as_planes, fill_levels, row_bands
from asrgan.pictures import Picture


def enlarged_size(height: int, width: int, *, scale: int, scale_to: int | None) -> tuple[int, int]:
    """Height and width of the result in px.

    With ``scale_to`` the long side gets exactly this length, and a picture whose long side has it
    already keeps its size.
    """
    if scale_to is None:
        return scale * height, scale * width
    long_side = max(height, width)
    if long_side >= scale_to:
        return height, width
    return max(1, round(height * scale_to / long_side)), max(1, round(width * scale_to / long_side))


def enlarge(
    picture: Picture,
    upscaler: Upscaler,
    *,
    size: tuple[int, int],
    bits: int,
    caller_bytes: int = 0,
) -> Picture:
    """The picture through the network, and then to ``size``; all else stays with it.

    The network is applied once: a second time would see its own inventions, and has been further
    from the truth than bicubic interpolation of what is left to the size (benchmarks/README.md).

    What is grey, also where it is stored as colour, stays grey: the network sees it as three equal
    channels. So it sees alpha, whose result is kept between the smallest and the largest alpha of
    the px around: what is wholly opaque, or wholly transparent, stays so.

    Args:
        picture: of any size that the upscaler's memory allows.
        upscaler: the network.
        size: height and width of the result, px.
        bits: 8 or 16, of the result.
        caller_bytes: of memory that others will take meanwhile.

    Raises:
        UserError: the upscaler's memory can never hold the picture.
    """
    result_type = np.dtype(np.uint16 if bits == 16 else np.uint8)

    def through_network(levels: NDArray[Any], channels: int, *, is_alpha: bool = False) -> Any:
        planes, scale = as_planes(levels), upscaler.scale
        result = np.empty((*size, channels), result_type)  # takes no memory before it is filled
        to_come = (caller_bytes + result.nbytes) if upscaler.device.type == "cpu" else 0
        bands = _enlarged_bands(planes, upscaler, caller_bytes=to_come)
        if is_alpha:
            bands = _within_range(bands, planes, scale=scale)
        height, width = (scale * side for side in levels.shape[:2])
        if size != (height, width):
            bands = resize_bands(bands, height=height, size=size)
        fill_levels(result, bands)
        return result

    if picture.colour.ndim == 2:
        colour = through_network(picture.colour, 1)[..., 0]
    else:
        levels = picture.colour[..., 0] if _is_grey(picture.colour) else picture.colour
        colour = through_network(levels, 3)
    alpha = picture.alpha
    if alpha is not None:
        alpha = through_network(alpha, 1, is_alpha=True)[..., 0]
    return replace(picture, colour=colour, alpha=alpha)


def consistency_db(enlarged: Picture, original: Picture) -> float:
    """PSNR of the enlarged picture, reduced again, against the original, in dB.

    Over all channels of colour, rounded to 8 bits; ``inf`` where both are equal. It is
    `asrgan.metrics.consistency` in bands of rows, for any ratio of the sizes.
    """
    size = (original.height, original.width)
    bands = resize_bands(row_bands(enlarged.colour), height=enlarged.height, size=size)
    error, top = 0.0, 0
    for band in bands:
        there = as_planes(original.colour[top : top + band.shape[1]])
        error += float((_rounded(band) - _rounded(there)).double().square().sum())
        top += band.shape[1]
    mean = error / (255**2 * original.colour.size)
    return -10 * math.log10(mean) if mean else math.inf


def _rounded(planes: Tensor) -> Tensor:
    return planes.clamp(0, 1).mul(255).round()


def _is_grey(colour: NDArray[Any]) -> bool:
    return bool((colour == colour[..., :1]).all())


def _enlarged_bands(planes: Tensor, upscaler: Upscaler, *, caller_bytes: int) -> Iterator[Tensor]:
    """(1 or 3, H, W) as bands in [0, 1], scale times as large, of as many channels."""
    for band in upscaler.bands(planes.expand(3, -1, -1), caller_bytes=caller_bytes):
        yield (band if len(planes) == 3 else as_grey(band)).clamp(0, 1)


def _within_range(bands: Iterable[Tensor], planes: Tensor, *, scale: int) -> Iterator[Tensor]:
    """Keeps enlarged px between the smallest and the largest of the original px around."""
    lowest, highest, top = -_largest_around(-planes), _largest_around(planes), 0
    for band in bands:
        rows = torch.arange(top, top + band.shape[1]) // scale
        around = (..., rows[:, None], torch.arange(band.shape[2]) // scale)
        yield band.clamp(lowest[around], highest[around])
        top += band.shape[1]


def _largest_around(planes: Tensor) -> Tensor:
    return F.max_pool2d(planes, kernel_size=3, stride=1, padding=1)
