"""PSNR, SSIM and MS-SSIM of pictures against their ground truth, by the protocol of the field.

Both pictures are rounded to 8 bits first, as if they had been saved, and a border is shaved, since
networks see less context there. Values are per image; tables report their mean. Strips of rows are
summed up, so that a large picture takes little memory.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from asrgan.errors import UserError
from asrgan.imaging import luma, quantize
from asrgan.metrics.filters import gaussian_taps, weigh
from asrgan.metrics.tiles import Mean

SSIM_WINDOW_PX = 11
_TAPS = gaussian_taps(radius_px=SSIM_WINDOW_PX // 2, sigma_px=1.5)
_C1, _C2 = 0.01**2, 0.03**2  # (K L)^2 with L = 1, the 255 grey levels of pictures in [0, 1]

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
_COARSEST = 2 ** (len(_SCALE_WEIGHTS) - 1)  # how much the last scale is reduced
MS_SSIM_MINIMUM_PX = _COARSEST * SSIM_WINDOW_PX

_STRIP_ROWS = 64


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
    return _psnr(sr_image, hr_image, border, channels=luma)


def psnr_rgb(sr_image: Tensor, hr_image: Tensor, *, border: int) -> Tensor:
    """Peak signal-to-noise ratio of each image's pooled R, G and B values, in dB.

    1.5 to 2.5 dB below `psnr_y` on photographs: never put the two in one column. Arguments,
    returned shape and errors are those of `psnr_y`.
    """
    return _psnr(sr_image, hr_image, border, channels=_rgb)


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
    return _ssim(sr_image, hr_image, border, channels=luma)


def ssim_rgb(sr_image: Tensor, hr_image: Tensor, *, border: int) -> Tensor:
    """Structural similarity of each image, the mean of its three channels, at most 1.

    Arguments, returned shape and errors are those of `ssim_y`.
    """
    return _ssim(sr_image, hr_image, border, channels=_rgb)


def ms_ssim_y(sr_image: Tensor, hr_image: Tensor, *, border: int) -> Tensor:
    """Multi-scale structural similarity of each image's luma over five scales, at most 1.

    As torchmetrics with its defaults, but in float64: structure on the valid region of each scale,
    a negative mean counted as 0; luminance on the coarsest scale alone, with mirrored edges.

    Args:
        sr_image: (N, 3, H, W) in [0, 1].
        hr_image: ground truth, same shape and range.
        border: pixels shaved from each side, by convention the scale.

    Returns:
        (N,) in float64, 1 where both are equal.

    Raises:
        ValueError: shapes differ.
        UserError: the window does not fit into the coarsest scale, 1/16 of what is left after
            shaving.

    Source: Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image quality
    assessment", eq. 7.
    """
    strips = _strips(
        sr_image,
        hr_image,
        border,
        minimum_px=MS_SSIM_MINIMUM_PX,
        rows=MS_SSIM_MINIMUM_PX,
        overlap_rows=_COARSEST // 2 * (SSIM_WINDOW_PX - 1),  # of the last scale but one
    )
    fine_scales = range(len(_SCALE_WEIGHTS) - 1)
    means = [Mean() for _ in fine_scales]
    coarse: list[tuple[Tensor, ...]] = []
    for x, y, num_rows in strips:
        images = luma(x), luma(y)
        for scale in fine_scales:
            _, structure = _similarity(*images)
            means[scale].add(structure[..., : num_rows >> scale, :])
            images = F.avg_pool2d(images[0], 2), F.avg_pool2d(images[1], 2)
        coarse.append(tuple(image[..., : num_rows // _COARSEST, :] for image in images))
    margin_px = SSIM_WINDOW_PX // 2
    x, y = (
        F.pad(torch.cat(parts, dim=-2), (margin_px,) * 4, mode="reflect")
        for parts in zip(*coarse, strict=True)
    )
    luminance, structure = _similarity(x, y)
    means.append(Mean())
    means[-1].add(luminance * structure)
    weights = torch.tensor(_SCALE_WEIGHTS, dtype=torch.float64, device=x.device)
    return torch.cat([mean.value for mean in means], dim=1).clamp(min=0).pow(weights).prod(dim=-1)


def _psnr(
    sr_image: Tensor, hr_image: Tensor, border: int, *, channels: Callable[[Tensor], Tensor]
) -> Tensor:
    error = Mean()
    for x, y, _ in _strips(
        sr_image, hr_image, border, minimum_px=1, rows=_STRIP_ROWS, overlap_rows=0
    ):
        error.add((channels(x) - channels(y)).square())
    return -10 * error.value.mean(dim=1).log10()


def _ssim(
    sr_image: Tensor, hr_image: Tensor, border: int, *, channels: Callable[[Tensor], Tensor]
) -> Tensor:
    similarity = Mean()
    for x, y, _ in _strips(
        sr_image,
        hr_image,
        border,
        minimum_px=SSIM_WINDOW_PX,
        rows=_STRIP_ROWS,
        overlap_rows=SSIM_WINDOW_PX - 1,
    ):
        luminance, structure = _similarity(channels(x), channels(y))
        similarity.add(luminance * structure)
    return similarity.value.mean(dim=1)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) twice -> luminance, and contrast with structure, (N, C, H - 10, W - 10)."""
    mean_x, mean_y = weigh(x, _TAPS), weigh(y, _TAPS)
    product, power = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = weigh(x * y, _TAPS) - product
    variances = weigh(x**2 + y**2, _TAPS) - power
    return (2 * product + _C1) / (power + _C1), (2 * covariance + _C2) / (variances + _C2)


def _rgb(image: Tensor) -> Tensor:
    return image


def _strips(
    sr_image: Tensor,
    hr_image: Tensor,
    border: int,
    *,
    minimum_px: int,
    rows: int,
    overlap_rows: int,
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Both pictures shaved and rounded to 8 bits, strip by strip, and each strip's own rows.

    In float64: mean(x^2) - mean(x)^2 of bright flat areas loses SSIM's fifth digit in float32, and
    neither autocast nor TF32 touches float64.

    Args:
        sr_image: (N, 3, H, W) in [0, 1].
        hr_image: the same.
        border: pixels shaved from each side.
        minimum_px: each way, of what is left.
        rows: of a strip; the last one has up to twice as many.
        overlap_rows: of the strip below that follow, at most ``rows``.
    """
    if sr_image.shape != hr_image.shape:
        raise ValueError(
            f"`sr_image` {tuple(sr_image.shape)} and `hr_image` {tuple(hr_image.shape)} "
            "must have the same shape."
        )
    height, width = (side - 2 * border for side in hr_image.shape[-2:])
    if min(height, width) < minimum_px:
        raise UserError(
            f"an image to be measured must have at least {minimum_px + 2 * border} px each way, "
            f"{minimum_px} beside a `border` of {border}, got {width + 2 * border}x"
            f"{height + 2 * border}; leave it out."
        )
    starts = range(0, max(height // rows, 1) * rows, rows)
    for start in starts:
        stop = height if start == starts[-1] else start + rows
        read = slice(border + start, border + min(stop + overlap_rows, height))
        strip = (..., read, slice(border, border + width))
        yield quantize(sr_image[strip]).double(), quantize(hr_image[strip]).double(), stop - start
