import pytest
import torch

from asrgan.inference.forecast import Forecast, Speed, forecast, num_pairs
from asrgan.inference.network import Network, Place, describe
from asrgan.inference.plan import Precision, plans
from asrgan.models import SRGANGenerator

HALF = Precision(torch.bfloat16, image=torch.float32, tokens=torch.float32)
SPEED = Speed(operation_s=1e-12, pair_s=1e-9)


def network(**attention: object) -> Network:
    with torch.device("meta"):
        generator = SRGANGenerator(
            scale=4,
            num_features=64,
            num_blocks=16,
            norm="none",
            trunk_end="norm",
            output="linear",
            spectral_norm=False,
            spectral_norm_output=False,
            attention=[attention] if attention else [],
            pool_size=4,
            attention_resize="nearest",
        )
    return describe(generator)


def forecast_for(
    of: Network, height: int, width: int, *, window_px: int | None = None, index: int = 0
) -> Forecast:
    plan = list(plans(of, height=height, width=width, precision=HALF, device=torch.device("cpu")))[
        index
    ]
    return forecast(of, plan, precision=HALF, speed=SPEED, held_bytes=10**9, window_px=window_px)


@pytest.mark.parametrize(
    ("pool_size", "positions", "gib"), [(1, 250_000, 116), (4, 15_625, 0.45), (8, 3969, 0.03)]
)
def test_the_map_of_a_500x500_picture_in_half_precision(pool_size: int, positions: int, gib: float):
    attended = network(after="trunk", pool_size=pool_size)
    (place,) = attended.places
    height, width = place.pooled_size(500, 500)
    assert height * width == positions
    map_bytes = forecast_for(attended, 500, 500).attention_map_bytes
    assert map_bytes / 2**30 == pytest.approx(gib, rel=0.04)


def test_a_picture_of_the_16_block_srgan_takes_as_many_operations_as_counted_by_hand():
    """Multiplications and additions for each pixel of LR: Ledig et al. 2017, figure 4."""
    head = 2 * 3 * 64 * 81
    trunk = 33 * 2 * 64 * 64 * 9
    upsampling = (1 + 4) * 2 * 64 * 256 * 9
    output = 16 * 2 * 64 * 3 * 81
    total = forecast_for(network(), 250, 250).num_operations
    assert total == 250 * 250 * (head + trunk + upsampling + output)
    assert total / 1e9 == pytest.approx(277, rel=0.01)


def test_attention_is_quadratic_and_told_apart():
    attended = network(after="trunk", pool_size=4)
    small, large = (forecast_for(attended, size, size) for size in (400, 800))
    assert large.num_attention_operations == 16 * small.num_attention_operations
    assert large.attention_seconds == pytest.approx(16 * small.attention_seconds)
    without = forecast_for(network(), 800, 800)
    assert large.num_operations - large.num_attention_operations == without.num_operations
    assert large.seconds == pytest.approx(without.seconds + large.attention_seconds)


def test_time_for_a_pixel_is_constant_without_attention():
    for height, width in ((100, 200), (1500, 2000)):
        predicted = forecast_for(network(), height, width)
        assert predicted.seconds / (height * width) == pytest.approx(4.4e-6, rel=0.02)


def test_features_in_a_file_take_time():
    attended = network(after="trunk", pool_size=4)
    kept, spilled = (forecast_for(attended, 900, 900, index=index) for index in (0, -1))
    assert spilled.plan.is_spilled
    assert spilled.seconds > kept.seconds
    assert spilled.peak_bytes < kept.peak_bytes


def test_the_peak_is_what_is_held_and_what_the_plan_adds():
    predicted = forecast_for(network(), 100, 100)
    assert predicted.peak_bytes == 10**9 + predicted.plan.peak_bytes


def test_windows_have_few_pairs():
    """10x7 positions in windows of 4: sides of 4, 4, 2 and 4, 3."""
    place = Place("trunk", 1, features=64, num_inner=8, pool_size=6)
    assert num_pairs(place, 60, 42, window_px=24) == (16 + 16 + 4) * (16 + 9)
    assert num_pairs(place, 60, 42, window_px=None) == 70**2
