import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import small_networks
from asrgan.errors import UserError
from asrgan.inference.network import describe, with_attention
from asrgan.models import SRGANGenerator

SMALL = small_networks.SMALL | {"norm": "none", "trunk_end": "prelu", "attention_resize": "nearest"}


def build(**changes: Any) -> SRGANGenerator:
    torch.manual_seed(0)
    return SRGANGenerator(**(SMALL | changes)).double().eval()


def rows_seen(sr_image: Tensor, lr_image: Tensor, *, row: int, scale: int) -> tuple[int, int]:
    """The first and the last row of LR that the enlarged row depends on, by its gradient."""
    pixels = sr_image[..., scale * row : scale * (row + 1), :]
    (gradient,) = torch.autograd.grad(pixels.square().sum(), lr_image)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(rows[0]), int(rows[-1])


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_the_halo_is_the_receptive_field(scale: int, num_blocks: int):
    generator = build(scale=scale, num_blocks=num_blocks)
    (segment,) = describe(generator).segments
    lr_image = torch.rand(1, 3, 41, 3, dtype=torch.float64, requires_grad=True)
    halo = math.ceil(segment.halo)
    seen = rows_seen(generator(lr_image), lr_image, row=20, scale=scale)
    assert seen == (20 - halo, 20 + halo)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_operations_are_those_that_torch_counts(scale: int):
    generator = build(scale=scale).to("meta")  # where it does nothing for a CPU's sake
    counter = FlopCounterMode(display=False)
    with counter:
        generator(torch.rand(1, 3, 6, 5, dtype=torch.float64, device="meta"))
    assert describe(generator).operations_per_px * 6 * 5 == counter.get_total_flops()


def test_segments_end_where_attention_stands():
    attention = [{"after": "block1"}, {"after": "trunk"}, {"after": "upsample1"}]
    network = describe(build(attention=attention))
    assert [[step.name for step in segment.steps] for segment in network.segments] == [
        ["head.0", "blocks.0.conv1", "blocks.0.conv2"],
        ["blocks.1.conv1", "blocks.1.conv2", "trunk.0"],
        ["upsamples.0.conv"],
        ["upsamples.1.conv", "tail"],
    ]
    assert [(place.name, place.resolution) for place in network.places] == [
        ("block1", 1),
        ("trunk", 1),
        ("upsample1", 2),
    ]


def test_the_long_skip_reaches_over_attention():
    skips = {skip.name: skip for skip in describe(build(attention=[{"after": "block2"}])).skips}
    assert (skips["head"].start, skips["head"].stop) == (0, 1)
    assert (skips["block2"].start, skips["block2"].stop) == (0, 0)
    assert skips["block2"].delay == 2


@pytest.mark.parametrize(("place_name", "expected"), [("trunk", (4, 3)), ("upsample1", (7, 6))])
def test_a_pooled_map_covers_the_picture(place_name: str, expected: tuple[int, int]):
    """10x9 and 20x18 positions in windows of 3, the last of which may be cut off."""
    (place,) = describe(build(attention=[{"after": place_name, "pool_size": 3}])).places
    assert place.pooled_size(10, 9) == expected


def test_another_placement_needs_no_weights():
    generator = build(attention=[{"after": "trunk"}])
    network = with_attention(generator, [{"after": "head", "pool_size": 5}])
    assert [(place.name, place.pool_size) for place in network.places] == [("head", 5)]
    assert with_attention(generator, [{"after": "trunk"}]) == describe(generator)


def test_an_unknown_place_is_refused():
    attention: Sequence[Mapping[str, object]] = [{"after": "tail"}]
    with pytest.raises(UserError, match="unknown place `tail`"):
        with_attention(build(), attention)
