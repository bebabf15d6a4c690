"""Whether a picture gives back the LR picture it was made from; no ground truth is needed."""

from torch import Tensor

from asrgan.imaging import quantize
from asrgan.metrics.low_resolution import check_sizes, reduce_bicubic


def consistency(sr_image: Tensor, lr_image: Tensor, *, scale: int) -> Tensor:
    """PSNR of each SR picture, reduced as the benchmarks are, against its LR over RGB, in dB.

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
    check_sizes(sr_image, lr_image, scale)
    reduced = reduce_bicubic(sr_image, scale=scale).double()
    return -10 * (reduced - quantize(lr_image).double()).square().mean(dim=(1, 2, 3)).log10()
