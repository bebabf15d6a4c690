import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from asrgan import doctor
from asrgan.configuration import compose
from asrgan.errors import UserError
from asrgan.models import save_generator
from small_networks import small_generator


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    generator = small_generator(spectral_norm=True, attention=[{"after": "trunk"}], pool_size=4)
    path = tmp_path / "tiny.safetensors"
    save_generator(path, generator, recipe={})
    return path


def table(weights: Path, caplog: pytest.LogCaptureFixture, *overrides: str) -> list[list[str]]:
    """The cells of the table that `asrgan doctor` tells."""
    config = compose("doctor", [f"weights={weights}", "device=cpu", *overrides])
    with caplog.at_level(logging.INFO):
        doctor.run(OmegaConf.create(config), Path())
    lines = [line for line in caplog.messages[-1].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_row_for_each_place_and_pool_size(weights: Path, caplog: pytest.LogCaptureFixture):
    header, _, *rows = table(weights, caplog, "size_px=200x150")
    assert header[:4] == ["attention after", "pool", "positions", "map, if stored"]
    places = ["head", "block1", "trunk", "upsample1"]
    assert [row[:2] for row in rows] == [
        ["trunk (as it is)", "4"],
        ["nothing", ""],
        *([place, pool] for place in places for pool in ("1", "2", "4", "8")),
    ]
    unpooled = rows[10]
    assert unpooled[:3] == ["trunk", "1", "30,000"]
    assert unpooled[3] in ("1.68 GiB", "3.35 GiB")  # 30,000 squared in bfloat16 or float32


def test_the_forecast_is_of_the_network_that_the_row_names(
    weights: Path, caplog: pytest.LogCaptureFixture
):
    *_, as_it_is, _, same = table(
        weights, caplog, "size_px=200x150", "places=trunk", "pool_sizes=4"
    )
    assert as_it_is[2:5] == same[2:5]
    assert caplog.messages[-1].startswith("tiny.safetensors: x4, 2 blocks of 8 features, in ")
    assert "200x150 -> 800x600 px; no limit of memory" in caplog.messages[-1]


def test_a_published_generator_is_named(
    weights: Path, publish: Callable[[str, Path], Path], caplog: pytest.LogCaptureFixture
):
    publish("toy", weights)
    assert len(table(Path("toy"), caplog, "size_px=20x10", "places=[trunk]")) > 2
    assert caplog.messages[-1].startswith("toy: x4, 2 blocks of 8 features")


def test_a_budget_too_small_says_what_is_enough(weights: Path, caplog: pytest.LogCaptureFixture):
    *_, row = table(weights, caplog, "size_px=200x150", "memory=1MiB", "places=[trunk]")
    assert row[5].startswith("at least ")
    assert row[7] == ""


@pytest.mark.parametrize("size", ["200", "200x", "0x150", "200x150x3", "200 x 150", "axb"])
def test_a_size_that_is_none_is_refused(weights: Path, size: str):
    config = compose("doctor", [f"weights={weights}", f"size_px='{size}'"])
    with pytest.raises(UserError, match="must be a width and a height in px; try 2000x1500"):
        doctor.run(OmegaConf.create(config), Path())


@pytest.mark.parametrize(
    ("number", "expected"),
    [(999, "999 B"), (1000, "0.977 KiB"), (1 << 30, "1 GiB"), (65.5 * 2**30, "65.5 GiB")],
)
def test_amounts_have_three_digits(number: float, expected: str):
    assert doctor._amount(number, doctor._BYTES) == expected  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.04, "0.0 s"), (4.2, "4.2 s"), (75, "75 s"), (120, "2.0 min"), (4 * 86400, "4.0 days")],
)
def test_durations_have_two_digits(seconds: float, expected: str):
    assert doctor._duration(seconds) == expected  # pyright: ignore[reportPrivateUsage]
