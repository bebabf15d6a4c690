"""The parts that SRGAN's generator repeats."""

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

from asrgan.errors import UserError

Norm = Literal["batch", "none"]


class ResidualBlock(nn.Module):
    """Convolution, norm, PReLU, convolution, norm, added to the input.

    Source: Ledig et al. 2017, figure 4.
    """

    def __init__(self, num_features: int, *, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_features, num_features, 3, padding=1)
        self.norm1 = norm_layer(num_features, norm=norm)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(num_features, num_features, 3, padding=1)
        self.norm2 = norm_layer(num_features, norm=norm)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        residual = self.prelu(self.norm1(self.conv1(features)))
        return features + self.norm2(self.conv2(residual))


class UpsampleBlock(nn.Module):
    """Doubles height and width by a sub-pixel convolution.

    Source: Ledig et al. 2017, figure 4; Shi et al. 2016 (pixel shuffle).
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_features, 4 * num_features, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.prelu = nn.PReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2 H, 2 W)."""
        return self.prelu(self.shuffle(self.conv(features)))


def norm_layer(num_features: int, *, norm: Norm) -> nn.Module:
    """Batch norm, or nothing."""
    return nn.BatchNorm2d(num_features) if norm == "batch" else nn.Identity()


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Refuses a value that is none of the choices.

    Raises:
        UserError: names the argument, the value and the choices.
    """
    choices = list(choices)
    if value not in choices:
        known = ", ".join(str(choice) for choice in choices)
        raise UserError(f"`{name}` (={value}) must be one of: {known}.")


def check_positive(name: str, value: int) -> None:
    """Refuses a count below 1.

    Raises:
        UserError: names the argument and the value.
    """
    if value < 1:
        raise UserError(f"`{name}` (={value}) must be at least 1.")
