"""`asrgan doctor experiment=NAME`: the memory of a training, before it begins."""

import logging
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from asrgan import doctor
from asrgan.configuration import compose
from asrgan.errors import UserError

OVERRIDES = ("experiment=srgan_x4", "size=small", "loss/perceptual=vgg19", "generator.num_blocks=1")


def told(caplog: pytest.LogCaptureFixture, *overrides: str) -> list[str]:
    with caplog.at_level(logging.INFO, logger="asrgan"):
        doctor.run(OmegaConf.create(compose("doctor", [*OVERRIDES, *overrides])), Path())
    return caplog.messages[-1].splitlines()


def mib(amount: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+) ([MG]iB)", amount.strip()).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return float(number) * (1024 if unit == "GiB" else 1)


def test_the_table_grows_with_crop_and_batch_and_recomputing_needs_less(
    caplog: pytest.LogCaptureFixture,
):
    table = told(caplog, "crop_sizes_px=[96,512]", "batch_sizes=[1,8]")
    cells = [line.strip("| ").split("|") for line in table if re.match(r"\| \d+ px", line)]
    rows = [[cell.strip() for cell in row] for row in cells]
    assert [row[:2] for row in rows] == [
        ["96 px", "1"],
        ["96 px", "8"],
        ["512 px", "1"],
        ["512 px", "8"],
    ]
    plain = [mib(row[2]) for row in rows]
    recomputing = [mib(row[3]) for row in rows]
    assert plain[3] > plain[1] >= plain[0]
    assert plain[3] > plain[2]
    assert recomputing[3] < 0.8 * plain[3]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("crop_sizes_px=[98]", r"`crop_sizes_px` \(=\[98\]\) must be multiples of `scale`"),
        ("crop_sizes_px=[0]", r"`crop_sizes_px` \(=\[0\]\) must be whole numbers of at least 1"),
        ("batch_sizes=[]", r"`batch_sizes` \(=\[\]\) must be whole numbers of at least 1"),
        ("size_px=20x10", r"`size` is of an original to be enlarged, by a network: give weights="),
    ],
)
def test_what_cannot_be_forecast_is_refused(override: str, message: str):
    with pytest.raises(UserError, match=message):
        doctor.run(OmegaConf.create(compose("doctor", [*OVERRIDES, override])), Path())
