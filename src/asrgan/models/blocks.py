"""The parts of SRGAN's generator."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        self.prelu = PReLU()
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
        self.conv = SubpixelConvolution(num_features, 4 * num_features, 3, padding=1)
        self.prelu = PReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2 H, 2 W)."""
        return self.prelu(self.conv(features))


class SubpixelConvolution(nn.Conv2d):
    """A convolution that keeps the size, then pixel shuffle by 2.

    Pixel shuffle picks single values out of all channels of a pixel. On a CPU the channels are
    computed in another order here, so that all of an output pixel's lie together and are moved
    together; with channels last that takes a third of the time. The result is the same.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(N, in_channels, H, W) to (N, out_channels / 4, 2 H, 2 W)."""
        if input.device.type != "cpu" or torch.compiler.is_exporting():
            return F.pixel_shuffle(super().forward(input), 2)
        bias = None if self.bias is None else pixel_by_pixel(self.bias)
        weight = pixel_by_pixel(self.weight)
        result = F.conv2d(input, weight, bias, padding=self.padding)
        squares = result.permute(0, 2, 3, 1).unflatten(3, (2, 2, -1))  # N, H, W, row, column, C
        rows = squares.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return rows.permute(0, 3, 1, 2)


def pixel_by_pixel(parameter: Tensor) -> Tensor:
    """Output channels (C, 2, 2) as (2, 2, C): pixel shuffle then moves all features of a pixel.

    Args:
        parameter: weight or bias of a convolution, (4 * C, ...).

    Returns:
        The same shape.
    """
    return parameter.unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)


class PReLU(nn.PReLU):
    """PReLU with one learned slope for all channels.

    On a CPU, torch's own backward pass takes ten times as long as the forward pass: it writes the
    slope's gradient for each value before it adds them up. Here a dot product does it.
    """

    def __init__(self) -> None:
        super().__init__(num_parameters=1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Negative values times the slope: (N, C, H, W) to the same shape."""
        if (
            input.device.type == "cpu"
            and torch.is_grad_enabled()
            and not torch.compiler.is_compiling()  # torch does better then
        ):
            return _PReLU.apply(input, self.weight)
        return super().forward(input)


class _PReLU(torch.autograd.Function):
    """`PReLU` on a CPU."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        return F.leaky_relu(features, weight.item())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        features, weight = ctx.saved_tensors
        (gradient,) = gradients
        below = torch.ops.aten.leaky_relu_backward(gradient, features, weight.item(), False)
        # Channels last, as they lie in memory: nothing is copied.
        pixels = [t.permute(0, 2, 3, 1).flatten() for t in (gradient, features.clamp(max=0))]
        return below, torch.dot(*pixels).to(weight.dtype).reshape(1)


class OutputConvolution(nn.Conv2d):
    """A convolution with few output channels that keeps the size.

    On a CPU it computes squares of 2x2 pixels at a time where the size is even; see `as_phases`.
    The result is the same.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """(N, in_channels, H, W) to (N, out_channels, H, W)."""
        if input.device.type != "cpu" or torch.compiler.is_exporting():
            return super().forward(input)  # exported, a plain convolution that all programs know
        if input.shape[2] % 2 or input.shape[3] % 2:
            return super().forward(input)
        weight = as_phases(self.weight, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        result = F.conv2d(input, weight, bias, stride=2, padding=self.kernel_size[0] // 2)
        return F.pixel_shuffle(result, 2)


def as_phases(weight: Tensor, phases: int) -> Tensor:
    """The weights of a convolution whose channels are the pixels of a small square of its result.

    A CPU multiplies 16 output channels at a time, and the output convolution has 3. With 2x2
    phases it has 12, a stride of 2 and a kernel of 10 instead of 9: a quarter more multiplications
    (by zeros), and two to three times faster. Pixel shuffle puts the channels in their places.

    Args:
        weight: (O, I, K, K).
        phases: side of the square.

    Returns:
        (O * phases * phases, I, K + phases - 1, K + phases - 1).
    """
    size = weight.shape[2]
    shifted = weight.new_zeros(
        weight.shape[0], phases, phases, weight.shape[1], size + phases - 1, size + phases - 1
    )
    for row in range(phases):
        for column in range(phases):
            shifted[:, row, column, :, row : row + size, column : column + size] = weight
    return shifted.flatten(0, 2)


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
