"""PSNR and SSIM of pictures against their ground truth, by the protocol of the field's tables.

Both pictures are rounded to 8 bits first, as if they had been saved, and a border is shaved, since
networks see less context there. Values are per image; tables report their mean.
"""

import math

import torch
from torch import Tensor

from asrgan.errors import UserError
from asrgan.imaging import luma, quantize

SSIM_WINDOW_PX = 11
_WINDOW_SIGMA_PX = 1.5
_C1, _C2 = 0.01**2, 0.03**2  # (K L)^2 with L = 1, the 255 grey levels of pictures in [0, 1]


def psnr_y(sr_image: Tensor, hr_image: Tensor, *, border: int) -> Tensor:
    """Peak signal-to-noise ratio of each image's luma, in dB.

    The peak is 255 grey levels though studio-range luma spans only 219. Pooling squared errors
    over images before the logarithm would give less.

    Args:
        sr_image: (N, 3, H, W) in [0, 1].
        hr_image: ground truth, same shape and range.
        border: pixels shaved from each side, by convention the scale.

    Returns:
        (N,) in float64, ``inf`` where both are equal.

    Raises:
        ValueError: shapes differ.
        UserError: nothing is left after shaving.

    Source: Ledig et al. 2017, section 3.2.
    """
    return _psnr(*(luma(image) for image in _prepare(sr_image, hr_image, border, minimum_px=1)))


def psnr_rgb(sr_image: Tensor, hr_image: Tensor, *, border: int) -> Tensor:
    """Peak signal-to-noise ratio of each image's pooled R, G and B values, in dB.

    1.5 to 2.5 dB below `psnr_y` on photographs: never put the two in one column. Arguments,
    returned shape and errors are those of `psnr_y`.
    """
    return _psnr(*_prepare(sr_image, hr_image, border, minimum_px=1))


def ssim_y(sr_image: Tensor, hr_image: Tensor, *, border: int) -> Tensor:
    """Structural similarity of each image's luma, at most 1.

    Gaussian window of 11x11 and sigma 1.5, only where it lies wholly inside of the shaved image.

    Args:
        sr_image: (N, 3, H, W) in [0, 1].
        hr_image: ground truth, same shape and range.
        border: pixels shaved from each side, by convention the scale.

    Returns:
        (N,) in float64, 1 where both are equal.

    Raises:
        ValueError: shapes differ.
        UserError: the window does not fit into what is left after shaving.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, eq. 13 and section III-C.
    """
    images = _prepare(sr_image, hr_image, border, minimum_px=SSIM_WINDOW_PX)
    return _ssim(*(luma(image) for image in images))


def ssim_rgb(sr_image: Tensor, hr_image: Tensor, *, border: int) -> Tensor:
    """Structural similarity of each image, the mean of its three channels, at most 1.

    Arguments, returned shape and errors are those of `ssim_y`.
    """
    images = _prepare(sr_image, hr_image, border, minimum_px=SSIM_WINDOW_PX)
    channels = zip(*(image.split(1, dim=1) for image in images), strict=True)
    return torch.stack([_ssim(sr, hr) for sr, hr in channels]).mean(dim=0)


def _prepare(
    sr_image: Tensor, hr_image: Tensor, border: int, *, minimum_px: int
) -> tuple[Tensor, Tensor]:
    """Both pictures shaved and rounded to 8 bits.

    In float64: mean(x^2) - mean(x)^2 of bright flat areas loses SSIM's fifth digit in float32, and
    neither autocast nor TF32 touches float64.
    """
    if sr_image.shape != hr_image.shape:
        raise ValueError(
            f"`sr_image` {tuple(sr_image.shape)} and `hr_image` {tuple(hr_image.shape)} "
            "must have the same shape."
        )
    height, width = hr_image.shape[-2:]
    if min(height, width) - 2 * border < minimum_px:
        raise UserError(
            f"an image to be measured must have at least {minimum_px + 2 * border} px each way, "
            f"{minimum_px} beside a `border` of {border}, got {width}x{height}; leave it out."
        )
    inside = (..., slice(border, height - border), slice(border, width - border))
    return quantize(sr_image[inside]).double(), quantize(hr_image[inside]).double()


def _psnr(sr_image: Tensor, hr_image: Tensor) -> Tensor:
    """(N, C, H, W) twice -> (N,) dB."""
    return -10 * (sr_image - hr_image).square().mean(dim=(1, 2, 3)).log10()


def _ssim(sr_image: Tensor, hr_image: Tensor) -> Tensor:
    """(N, 1, H, W) twice -> (N,)."""
    x, y = sr_image, hr_image
    mean_x, mean_y = _blur(x), _blur(y)
    product, power = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = _blur(x * y) - product
    variances = _blur(x**2 + y**2) - power
    luminance = (2 * product + _C1) / (power + _C1)
    structure = (2 * covariance + _C2) / (variances + _C2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _blur(image: Tensor) -> Tensor:
    """Gaussian mean around each pixel, (N, 1, H, W) -> (N, 1, H - 10, W - 10).

    Separable, as sums of shifted slices: faster on a CPU than torch's convolution in float64.
    """
    half = SSIM_WINDOW_PX // 2
    taps = [math.exp(-0.5 * (i / _WINDOW_SIGMA_PX) ** 2) for i in range(-half, half + 1)]
    for dim in (-2, -1):
        length = image.shape[dim] - 2 * half
        blurred = torch.zeros_like(image.narrow(dim, 0, length))
        for start, tap in enumerate(taps):
            blurred.add_(image.narrow(dim, start, length), alpha=tap / sum(taps))
        image = blurred
    return image
