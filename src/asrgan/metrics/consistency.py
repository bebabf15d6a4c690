"""How far a picture is from the LR picture it was made from; no ground truth is needed.

Both are compared at low resolution, where SR is brought by the reduction of the benchmarks.
"""

from typing import Any

import torch
from skimage import color
from torch import Tensor

from asrgan.imaging import bicubic_downscale, quantize


def consistency(sr_image: Tensor, lr_image: Tensor, *, scale: int) -> Tensor:
    """PSNR of each reduced SR picture against its LR over R, G and B, in dB.

    Content that was invented, shifted or recoloured lowers it, and so does blur: bicubic
    enlargement reaches 37 dB on Set5, and the challenge below asks for 45.

    Args:
        sr_image: (N, 3, scale * h, scale * w) in [0, 1].
        lr_image: (N, 3, h, w), same range.
        scale: integer factor between the two.

    Returns:
        (N,) in float64, ``inf`` where both are equal.

    Raises:
        ValueError: the sizes do not fit together.

    Source: LR-PSNR of Lugmayr et al. 2021, "NTIRE 2021 Learning the Super-Resolution Space
    Challenge".
    """
    reduced, lr_image = _at_low_resolution(sr_image, lr_image, scale)
    error = (reduced.double() - lr_image.double()).square().mean(dim=(1, 2, 3))
    return -10 * error.log10()


def colour_shift(sr_image: Tensor, lr_image: Tensor, *, scale: int) -> Tensor:
    """Mean colour difference CIEDE2000 between each reduced SR picture and its LR.

    1 is about what an eye just notices between two patches of colour side by side.

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
    images = _at_low_resolution(sr_image, lr_image, scale)
    reduced, reference = (_lab(image) for image in images)
    difference: Any = color.deltaE_ciede2000(reduced, reference)
    return torch.from_numpy(difference).mean(dim=(1, 2))


def _at_low_resolution(sr_image: Tensor, lr_image: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    height, width = (scale * side for side in lr_image.shape[-2:])
    if sr_image.shape != (*lr_image.shape[:-2], height, width):
        raise ValueError(
            f"`sr_image` {tuple(sr_image.shape)} must be scale={scale} times as large as"
            f" `lr_image` {tuple(lr_image.shape)}."
        )
    return bicubic_downscale(sr_image, scale=scale), quantize(lr_image)


def _lab(image: Tensor) -> Any:
    return color.rgb2lab(image.double().cpu().numpy(), channel_axis=1).transpose(0, 2, 3, 1)
