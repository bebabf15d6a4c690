"""Separable windows on pictures."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def gaussian_taps(*, radius_px: int, sigma_px: float) -> list[float]:
    """A Gaussian's weights at -radius...radius; their sum is 1."""
    taps = [math.exp(-0.5 * (i / sigma_px) ** 2) for i in range(-radius_px, radius_px + 1)]
    return [tap / sum(taps) for tap in taps]


def weigh(image: Tensor, taps: Sequence[float], *, stride: int = 1) -> Tensor:
    """The weighted sum under a window, over rows and then columns, where it lies inside.

    As sums of shifted slices: faster on a CPU than torch's convolution in float64.

    Args:
        image: (..., H, W).
        taps: the window's weights along each side.
        stride: px between two places of the window.

    Returns:
        (..., (H - len(taps)) // stride + 1, (W - len(taps)) // stride + 1).
    """
    for dim in (-2, -1):
        length = (image.shape[dim] - len(taps)) // stride + 1
        places = [
            slice(start, start + (length - 1) * stride + 1, stride) for start in range(len(taps))
        ]
        slices = [image[..., place] if dim == -1 else image[..., place, :] for place in places]
        total = torch.zeros_like(slices[0])
        for part, tap in zip(slices, taps, strict=True):
            total.add_(part, alpha=tap)
        image = total
    return image
