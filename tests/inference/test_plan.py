from typing import Any

import pytest
import torch

from asrgan.inference.network import Network, describe, with_attention
from asrgan.inference.plan import Plan, Precision, plans
from asrgan.models import SRGANGenerator

CPU = torch.device("cpu")
FLOAT32 = Precision(*[torch.float32] * 3)
BFLOAT16 = Precision(torch.bfloat16, image=torch.float32, tokens=torch.float32)
MIB = 2**20


def network(*places: str, pool_size: int = 4, **changes: Any) -> Network:
    """SRGAN's generator with 16 blocks of 64 features, and attention after some places."""
    architecture: dict[str, Any] = {
        "scale": 4,
        "num_features": 64,
        "num_blocks": 16,
        "norm": "none",
        "trunk_end": "norm",
        "output": "linear",
        "spectral_norm": False,
        "spectral_norm_output": False,
        "attention": [{"after": place} for place in places],
        "pool_size": pool_size,
        "attention_resize": "nearest",
    }
    with torch.device("meta"):
        return describe(SRGANGenerator(**(architecture | changes)))


def all_plans(
    of: Network, height: int, width: int, *, precision: Precision = FLOAT32
) -> list[Plan]:
    return list(plans(of, height=height, width=width, precision=precision, device=CPU))


def rows_of(plan: Plan) -> list[int]:
    return [part.rows for parts in plan.segments for part in parts]


def test_each_plan_holds_less_than_the_one_before():
    for places in ((), ("trunk",), ("head", "upsample1")):
        peaks = [plan.peak_bytes for plan in all_plans(network(*places), 1500, 2000)]
        assert peaks == sorted(peaks, reverse=True)
        assert len(peaks) > 4


def test_a_small_picture_goes_in_one_piece():
    plan = all_plans(network("trunk"), 24, 24)[0]
    assert rows_of(plan) == [24, 24, 48, 96]
    assert not plan.is_spilled


def test_memory_does_not_grow_with_the_height_except_by_the_picture():
    low, high = (all_plans(network(), height, 2000)[0] for height in (1000, 4000))
    image_bytes = 3000 * 2000 * 3 * 4
    grown = high.peak_bytes - low.peak_bytes
    assert image_bytes <= grown < 1.2 * image_bytes


def test_features_wait_in_memory_before_they_wait_in_a_file():
    tried = all_plans(network("trunk"), 1500, 2000)
    spilled = [plan.is_spilled for plan in tried]
    assert spilled == sorted(spilled)
    assert set(spilled) == {False, True}
    map_bytes = 1500 * 2000 * 64 * 4
    first_spilled = tried[spilled.index(True)]
    assert first_spilled.spilled_bytes == map_bytes
    assert tried[0].peak_bytes - first_spilled.peak_bytes > map_bytes


def test_nothing_waits_without_attention():
    assert not any(plan.is_spilled for plan in all_plans(network(), 1500, 2000))


@pytest.mark.parametrize(
    ("places", "num_maps"),
    [
        (("trunk",), 1),
        (("head",), 1),
        (("block8",), 2),  # and the head's features, for the long skip
        (("block4", "block8", "trunk"), 2),  # one after the other in the same place
        (("upsample1",), 4),
    ],
)
def test_maps_that_wait(places: tuple[str, ...], num_maps: int):
    (plan,) = [plan for plan in all_plans(network(*places), 900, 1000) if plan.is_spilled][:1]
    assert plan.spilled_bytes == num_maps * 900 * 1000 * 64 * 4


def test_bfloat16_halves_what_rows_and_waiting_maps_take():
    exact, half = (
        all_plans(network("trunk"), 900, 1000, precision=precision)[0]
        for precision in (FLOAT32, BFLOAT16)
    )
    assert half.peak_bytes < 0.7 * exact.peak_bytes
    assert rows_of(half)[0] > rows_of(exact)[0]


def test_query_key_and_value_are_counted():
    """Three times 8 of 64 channels, and the result, for as many positions as there are pixels."""
    pooled, unpooled = (
        all_plans(network("trunk", pool_size=size), 900, 1000)[0].peak_bytes for size in (8, 1)
    )
    tokens = 4 * 8 * 900 * 1000 * 4
    assert unpooled - pooled > tokens * (1 - 1 / 64)


def test_rows_are_shared_out_evenly():
    for height in (17, 66, 101):
        rows = all_plans(network(), height, 1000)[0].segments[0][0].rows
        num_bands = -(-height // rows)
        assert num_bands > 1
        assert num_bands * rows - height < num_bands  # none is left with a few


def test_every_width_has_a_plan():
    smallest = all_plans(network(), 10, 30_000, precision=BFLOAT16)[-1]
    assert smallest.peak_bytes < 2 * 2**30
    assert min(rows_of(smallest)) == 2


def test_other_placements_are_planned_alike():
    generator = SRGANGenerator(
        scale=2,
        num_features=8,
        num_blocks=1,
        norm="batch",
        trunk_end="norm",
        output="linear",
        spectral_norm=True,
        spectral_norm_output=True,
        attention=[],
        pool_size=2,
        attention_resize="nearest",
    )
    plan = all_plans(with_attention(generator, [{"after": "upsample1"}]), 10, 10)[0]
    assert [len(parts) for parts in plan.segments] == [2, 1]
