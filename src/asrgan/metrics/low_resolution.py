"""A picture at the resolution of the LR picture it was made from, strip by strip."""

import torch
from torch import Tensor
from torch.nn import functional as F

from asrgan.imaging import bicubic_downscale, quantize
from asrgan.metrics.tiles import spans

_STRIP_ROWS = 64  # of LR
_CUBIC_REACH = 2  # px of LR beyond which the bicubic reduction sees nothing


def check_sizes(sr_image: Tensor, lr_image: Tensor, scale: int) -> None:
    """Looks whether SR has ``scale`` times the height and width of LR.

    Raises:
        ValueError: the sizes do not fit together.
    """
    height, width = (scale * side for side in lr_image.shape[-2:])
    if sr_image.shape != (*lr_image.shape[:-2], height, width):
        raise ValueError(
            f"`sr_image` {tuple(sr_image.shape)} must be scale={scale} times as large as"
            f" `lr_image` {tuple(lr_image.shape)}."
        )


def reduce_bicubic(sr_image: Tensor, *, scale: int) -> Tensor:
    """`asrgan.imaging.bicubic_downscale` of a picture of any size."""
    height = sr_image.shape[-2]
    margin_px = _CUBIC_REACH * scale
    return torch.cat(
        [
            bicubic_downscale(sr_image[..., span.read, :], scale=scale)[..., span.kept(scale), :]
            for span in spans(height, keep_px=_STRIP_ROWS * scale, margin_px=margin_px)
        ],
        dim=-2,
    )


def reduce_area(sr_image: Tensor, *, scale: int) -> Tensor:
    """The mean of the px that lie in each px of LR, of a picture rounded to 8 bits.

    Unlike the bicubic reduction it adds no overshoot of its own.
    """
    height = sr_image.shape[-2]
    return torch.cat(
        [
            F.avg_pool2d(quantize(sr_image[..., span.read, :]), scale)
            for span in spans(height, keep_px=_STRIP_ROWS * scale, margin_px=0)
        ],
        dim=-2,
    )
