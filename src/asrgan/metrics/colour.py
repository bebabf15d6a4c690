"""Whether a picture has the colours of the LR picture it was made from."""

from collections.abc import Iterator
from typing import Any

import torch
from skimage import color
from torch import Tensor

from asrgan.imaging import quantize
from asrgan.metrics.low_resolution import check_sizes, reduce_bicubic
from asrgan.metrics.tiles import spans

_STRIP_ROWS = 64  # of LR


def colour_shift(sr_image: Tensor, lr_image: Tensor, *, scale: int) -> Tensor:
    """Mean colour difference CIEDE2000 between each reduced SR picture and its LR.

    SR is reduced as the benchmarks are. 1 is about what an eye just notices between two patches of
    colour side by side.

    Args:
        sr_image: (N, 3, scale * h, scale * w) in [0, 1], sRGB.
        lr_image: (N, 3, h, w), same range.
        scale: integer factor between the two.

    Returns:
        (N,) in float64, 0 where both are equal.

    Raises:
        ValueError: the sizes do not fit together.

    Source: Sharma, Wu and Dalal 2005, "The CIEDE2000 color-difference formula".
    """
    check_sizes(sr_image, lr_image, scale)
    reduced = reduce_bicubic(sr_image, scale=scale)
    total: Any = 0
    for one, other in _lab_strips(reduced, quantize(lr_image)):
        total = total + color.deltaE_ciede2000(one, other, channel_axis=1).sum(axis=(1, 2))
    height, width = lr_image.shape[-2:]
    return torch.from_numpy(total / (height * width))


def _lab_strips(one: Tensor, other: Tensor) -> Iterator[tuple[Any, Any]]:
    """Both in CIELAB (D65), rows after rows; skimage computes in float64 with many copies."""
    for span in spans(one.shape[-2], keep_px=_STRIP_ROWS, margin_px=0):
        strips = (image[..., span.read, :].double().cpu().numpy() for image in (one, other))
        lab, other_lab = (color.rgb2lab(strip, channel_axis=1) for strip in strips)
        yield lab, other_lab
