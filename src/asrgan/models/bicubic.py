"""The baseline of every table."""

from torch import Tensor, nn

from asrgan.imaging import bicubic_upscale


class BicubicUpscaler(nn.Module):
    """Bicubic interpolation with the interface of a generator.

    Args:
        scale: integer factor.
    """

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, lr_image: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] to (N, 3, scale * H, scale * W)."""
        return bicubic_upscale(lr_image, scale=self.scale)
