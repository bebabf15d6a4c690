"""What happens to a batch of pictures; float (N, 3, H, W) in [0, 1] unless said otherwise."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import torch
from kornia.color import rgb_to_grayscale
from kornia.filters import filter2d
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

_LARGEST_COUNT = 511  # 16 standard deviations above the brightest level's rate of 255


def blur(image: Tensor, kernels: Tensor) -> Tensor:
    """Filters each picture with its own kernel; edge pixels continue beyond the border.

    Args:
        image: (N, 3, H, W), any range.
        kernels: (N, k, k), k odd; symmetric about their centre.
    """
    return filter2d(image, kernels.to(image.device), border_type="replicate")


def resize(image: Tensor, size: tuple[int, int], *, mode: str) -> Tensor:
    """To another height and width, without antialiasing: aliases are part of the degradation.

    Args:
        image: (N, 3, H, W).
        size: height and width of the result.
        mode: area, bilinear or bicubic; the last one may leave [0, 1].
    """
    return F.interpolate(image, size, mode=mode)


def add_gaussian_noise(
    image: Tensor, generator: Generator, *, sigma: float, is_grey: bool
) -> Tensor:
    """One picture with noise of the same strength everywhere, unclamped.

    Args:
        image: (1, 3, H, W) in [0, 1].
        generator: where the noise comes from.
        sigma: standard deviation in grey levels of 255.
        is_grey: all channels get the same noise.
    """
    shape = (1, 1 if is_grey else 3, *image.shape[-2:])
    noise = torch.from_numpy(generator.standard_normal(shape, np.float32))
    return image + noise.to(image.device) * (sigma / 255)


def add_poisson_noise(
    image: Tensor, generator: Generator, *, scale: float, is_grey: bool
) -> Tensor:
    """One picture with shot noise, unclamped: its variance grows with the brightness.

    A pixel of level L becomes a Poisson count of rate L; what differs is scaled and added.

    Args:
        image: (1, 3, H, W) in [0, 1].
        generator: where the noise comes from.
        scale: of the noise; 1 is a count of one photon per grey level.
        is_grey: the counts are of the picture's grey, and all channels get the same noise.

    Source: Wang et al. 2021 (Real-ESRGAN), section 3.1, "Noise".
    """
    counted = rgb_to_grayscale(image) if is_grey else image
    levels = counted.clamp(0, 1).mul(255).round().double()
    # One uniform number a pixel, through the inverse of the distribution: another level or device
    # never shifts the numbers that follow, as it would in NumPy's rejection sampling.
    uniform = torch.from_numpy(generator.random(tuple(levels.shape))).to(image.device)
    row = levels.long() * (_LARGEST_COUNT + 1)
    counts = torch.searchsorted(_poisson_rows(image.device), levels + uniform, right=True) - row
    return image + (scale / 255) * (counts - levels).float()


@cache
def _poisson_rows(device: torch.device) -> Tensor:
    """Row L holds L + P(count <= k) for the rate L: one sorted vector of all 256 levels."""
    rates = torch.arange(256, dtype=torch.float64)[:, None]
    counts = torch.arange(_LARGEST_COUNT + 1, dtype=torch.float64)
    logarithms = torch.xlogy(counts, rates) - rates - torch.lgamma(counts + 1)
    probabilities = logarithms.exp().cumsum(dim=1).clamp(max=1)
    probabilities[:, -1] = 1
    return (rates + probabilities).flatten().to(device)


def compress(image: Tensor, qualities: Sequence[int]) -> Tensor:
    """Each picture as it comes back from a JPEG file with 4:2:0 chroma, on the 256 levels.

    This is libjpeg itself, on the CPU: kornia's differentiable JPEG rounds neither coefficients
    nor pixels as a decoder does, and is about half as far from libjpeg's result as libjpeg's is
    from the picture, at ten times the time.

    Args:
        image: (N, 3, H, W); clamped and rounded to 8 bits first.
        qualities: one of 1...100 for each picture.
    """
    levels = image.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    decoded = [_compress_one(*pair) for pair in zip(levels, qualities, strict=True)]
    result = torch.from_numpy(np.stack(decoded)).to(image.device)
    return result.permute(0, 3, 1, 2).contiguous().float().div(255)


def _compress_one(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    bgr = np.ascontiguousarray(picture[..., ::-1])
    done, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded[..., ::-1], np.uint8)
