"""Whether a picture has the colours of the LR picture it was made from."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from skimage import color, measure
from torch import Tensor
from torch.nn import functional as F

from asrgan.imaging import quantize
from asrgan.metrics.filters import gaussian_taps, weigh
from asrgan.metrics.low_resolution import check_sizes, reduce_area, reduce_bicubic
from asrgan.metrics.tiles import spans

_STRIP_ROWS = 64  # of LR
_SMOOTHING_PX = 2.0  # of LR; what is left is colour of areas, not of details
_PATCH_CHROMA = 5.0  # about twice what an eye just notices; see `colour_patches`
_PATCH_AREA_PX = 256  # of SR


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


def colour_patches(sr_image: Tensor, lr_image: Tensor, *, scale: int) -> Tensor:
    """Share of each picture that lies in patches whose colour is not LR's, in percent.

    The generator of an SRGAN may give an area a colour of its own ("blue patches"). A patch is a
    connected area of at least 256 px (of SR) where the chroma, smoothed with a Gaussian of 2 px of
    LR, differs by more than 5 in CIELAB. Bicubic enlargement and ground truth of Set5 and Set14
    stay below 1.4 everywhere.

    Args:
        sr_image: (N, 3, scale * h, scale * w) in [0, 1], sRGB.
        lr_image: (N, 3, h, w), same range.
        scale: integer factor between the two.

    Returns:
        (N,) in float64, 0...100.

    Raises:
        ValueError: the sizes do not fit together.
    """
    patches = colour_patch_map(sr_image, lr_image, scale=scale) > 0
    return 100 * patches.double().mean(dim=(1, 2))


def colour_patch_map(sr_image: Tensor, lr_image: Tensor, *, scale: int) -> Tensor:
    """How far the chroma is from LR's, inside of patches; see `colour_patches` for the arguments.

    Returns:
        (N, h, w) on the CPU, hypot(a* - a*, b* - b*) of CIELAB, 0 outside of patches.
    """
    check_sizes(sr_image, lr_image, scale)
    reduced = reduce_area(sr_image, scale=scale)
    differences = torch.cat(
        [
            torch.from_numpy(one - other)[:, 1:].float()
            for one, other in _lab_strips(reduced, quantize(lr_image))
        ],
        dim=-2,
    )
    chroma = _smooth(differences).norm(dim=1)
    minimum_area = _PATCH_AREA_PX / scale**2
    for of_image in chroma:
        labels: Any = measure.label(of_image.numpy() > _PATCH_CHROMA, connectivity=2)
        areas = np.bincount(labels.ravel())
        areas[0] = 0  # what is no patch
        of_image[torch.from_numpy((areas < minimum_area)[labels])] = 0
    return chroma


def _smooth(image: Tensor) -> Tensor:
    radius_px = round(3 * _SMOOTHING_PX)
    padded = F.pad(image, (radius_px,) * 4, mode="replicate")
    return weigh(padded, gaussian_taps(radius_px=radius_px, sigma_px=_SMOOTHING_PX))


def _lab_strips(one: Tensor, other: Tensor) -> Iterator[tuple[Any, Any]]:
    """Both in CIELAB (D65), rows after rows; skimage computes in float64 with many copies."""
    for span in spans(one.shape[-2], keep_px=_STRIP_ROWS, margin_px=0):
        strips = (image[..., span.read, :].double().cpu().numpy() for image in (one, other))
        lab, other_lab = (color.rgb2lab(strip, channel_axis=1) for strip in strips)
        yield lab, other_lab
