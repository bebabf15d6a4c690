"""From HR to LR, on the device, a batch at a time."""

from torch import Tensor, nn

from asrgan.imaging import bicubic_downscale


class BicubicDegradation(nn.Module):
    """The field's standard degradation: MATLAB's bicubic reduction, stored with 8 bits.

    Args:
        scale: integer factor by which LR is smaller.
    """

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, hr_image: Tensor) -> Tensor:
        """Makes the LR partners of a batch.

        Args:
            hr_image: (N, 3, H, W) in [0, 1], H and W divisible by the scale.

        Returns:
            (N, 3, H/scale, W/scale) in [0, 1] on the 256 levels of a file, float32.

        Raises:
            ValueError: H or W is not divisible.
        """
        return bicubic_downscale(hr_image, scale=self.scale)
