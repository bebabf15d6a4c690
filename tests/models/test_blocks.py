import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.errors import UserError
from asrgan.models.blocks import (
    OutputConvolution,
    PReLU,
    ResidualBlock,
    SubpixelConvolution,
    UpsampleBlock,
    check_choice,
    check_positive,
)

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def gradients_of(layer: nn.Module, x: Tensor, gradient: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    result = layer(x)
    return [result, *torch.autograd.grad(result, [x, *layer.parameters()], gradient)]


def test_a_residual_block_is_two_convolutions_beside_a_skip():
    block = ResidualBlock(4, norm="none")
    x = torch.randn(2, 4, 5, 6)
    inner = F.conv2d(x, block.conv1.weight, block.conv1.bias, padding=1)
    inner = inner.clamp(min=0) + 0.25 * inner.clamp(max=0)  # PReLU's start in torch
    expected = x + F.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1)
    torch.testing.assert_close(block(x), expected)


def test_an_upsampling_block_interleaves_four_maps():
    block = UpsampleBlock(3)
    block.prelu.weight.data.fill_(1)
    x = torch.randn(1, 3, 4, 5)
    maps = F.conv2d(x, block.conv.weight, block.conv.bias, padding=1)
    output = block(x)
    for offset in range(4):
        part = output[:, :, offset // 2 :: 2, offset % 2 :: 2]
        torch.testing.assert_close(part, maps[:, offset::4])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_subpixel_convolution_and_its_gradients_are_pixel_shuffle_s(
    layout: torch.memory_format,
):
    torch.manual_seed(0)
    ours = SubpixelConvolution(3, 8, 3, padding=1).double()
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.PixelShuffle(2)).double()
    plain[0].load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).contiguous(memory_format=layout)
    gradient = torch.randn(2, 2, 8, 10, dtype=torch.float64)
    for mine, expected in zip(
        gradients_of(ours, x, gradient), gradients_of(plain, x, gradient), strict=True
    ):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_prelu_and_its_gradients_are_torch_s(layout: torch.memory_format):
    torch.manual_seed(0)
    ours, torch_s = PReLU().double(), nn.PReLU().double()
    torch_s.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).contiguous(memory_format=layout)
    gradient = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    for mine, expected in zip(
        gradients_of(ours, x, gradient), gradients_of(torch_s, x, gradient), strict=True
    ):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7)])
def test_the_output_convolution_and_its_gradients_are_a_plain_one_s(
    size: tuple[int, int], layout: torch.memory_format
):
    torch.manual_seed(0)
    ours = OutputConvolution(4, 3, 9, padding=4).double()
    plain = nn.Conv2d(4, 3, 9, padding=4).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, *size, dtype=torch.float64).contiguous(memory_format=layout)
    gradient = torch.randn(2, 3, *size, dtype=torch.float64)
    for mine, expected in zip(
        gradients_of(ours, x, gradient), gradients_of(plain, x, gradient), strict=True
    ):
        torch.testing.assert_close(mine, expected)


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"`scale` \(=3\) must be one of: 2, 4, 8\."):
        check_choice("scale", 3, (2, 4, 8))
    with pytest.raises(UserError, match=r"`num_blocks` \(=0\) must be at least 1\."):
        check_positive("num_blocks", 0)
