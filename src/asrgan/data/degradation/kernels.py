"""Blur kernels: square, odd, float32, of sum 1."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Ellipse(NamedTuple):
    """Where a kernel's argument is 1: half axes in px, and the first one's angle in radians."""

    first_px: float
    second_px: float
    angle: float


def gaussian_kernel(size_px: int, ellipse: Ellipse, *, beta: float) -> Tensor:
    """A generalized Gaussian, exp(-d^beta / 2) at the squared distance d; beta = 1 is Gaussian.

    Returns:
        (size_px, size_px).

    Source: Wang et al. 2021 (Real-ESRGAN), section 3.1, "Blur".
    """
    return _normalized(torch.exp(-0.5 * _squared_distance(size_px, ellipse) ** beta))


def plateau_kernel(size_px: int, ellipse: Ellipse, *, beta: float) -> Tensor:
    """The plateau-shaped 1 / (1 + d^beta) at the squared distance d.

    Returns:
        (size_px, size_px).

    Source: Wang et al. 2021 (Real-ESRGAN), section 3.1, "Blur".
    """
    return _normalized(1 / (1 + _squared_distance(size_px, ellipse) ** beta))


def sinc_kernel(size_px: int, *, cutoff: float) -> Tensor:
    """The circular ideal low pass, cut off at the kernel's border: it rings and overshoots.

    Args:
        size_px: height and width.
        cutoff: first frequency that is removed, as a fraction of the highest one, in (0, 1].

    Returns:
        (size_px, size_px), with negative values.

    Source: Wang et al. 2021 (Real-ESRGAN), section 3.2.
    """
    frequency = math.pi * cutoff
    radius = _squared_distance(size_px, Ellipse(1, 1, 0)).sqrt()
    kernel = frequency * torch.special.bessel_j1(frequency * radius) / (2 * math.pi * radius)
    kernel[radius == 0] = frequency**2 / (4 * math.pi)  # the limit
    return _normalized(kernel)


def identity_kernel(size_px: int) -> Tensor:
    """The kernel that changes nothing, (size_px, size_px)."""
    kernel = torch.zeros(size_px, size_px)
    kernel[size_px // 2, size_px // 2] = 1
    return kernel


def _squared_distance(size_px: int, ellipse: Ellipse) -> Tensor:
    """Of each pixel to the centre, in half axes."""
    offset = torch.arange(size_px, dtype=torch.float64) - size_px // 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    cosine, sine = math.cos(ellipse.angle), math.sin(ellipse.angle)
    first = (cosine * x + sine * y) / ellipse.first_px
    second = (cosine * y - sine * x) / ellipse.second_px
    return first**2 + second**2


def _normalized(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()
