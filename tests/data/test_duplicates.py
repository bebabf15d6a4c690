import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from asrgan.data.duplicates import HeldOut, perceptual_hash
from asrgan.errors import UserError
from asrgan.imaging import find_images, read_image, write_image

MAX_BITS = 48

Picture = NDArray[np.uint8]


def as_jpeg(image: Picture, quality: int) -> Picture:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def resized(image: Picture, factor: float) -> Picture:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.array(Image.fromarray(image).resize(size))


VERSIONS: dict[str, Callable[[Picture], Picture]] = {
    "coded again": lambda image: as_jpeg(image, 30),
    "enlarged": lambda image: as_jpeg(resized(image, 1.7), 80),
    "reduced": lambda image: resized(image, 0.25),
    "mirrored": lambda image: as_jpeg(image[:, ::-1], 75),
    "turned": lambda image: as_jpeg(np.rot90(image), 75),
    "turned and mirrored": lambda image: as_jpeg(np.rot90(image, 3)[::-1], 75),
    "brighter": lambda image: (image * 1.1 + 15).clip(0, 255).astype(np.uint8),
    "without colour": lambda image: (
        image.mean(axis=-1, keepdims=True).astype(np.uint8).repeat(3, axis=-1)
    ),
    "trimmed": lambda image: image[4:-4, 4:-4],
}


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    folder = tmp_path / "some" / "Set3"
    for name in ("coffee", "chelsea", "astronaut"):
        write_image(folder / "HR" / f"{name}.png", getattr(data, name)())
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_a_held_out_picture_is_found(
    version: str, benchmark: Path, tmp_path: Path
):
    held_out = HeldOut([benchmark], max_bits=MAX_BITS)
    for name in ("coffee", "chelsea", "astronaut"):
        image = VERSIONS[version](getattr(data, name)())
        write_image(tmp_path / "other.png", image)
        found = held_out.find(image, path=tmp_path / "other.png")
        assert found is not None
        assert found.startswith(f"is a version of Set3/HR/{name}.png (")


def test_a_copy_is_told_from_a_version(benchmark: Path, tmp_path: Path):
    shutil.copy(benchmark / "HR" / "coffee.png", tmp_path / "copy.png")
    found = HeldOut([benchmark], max_bits=MAX_BITS).find(data.coffee(), path=tmp_path / "copy.png")
    assert found == "is a copy of Set3/HR/coffee.png"


def test_other_pictures_are_not_found(benchmark: Path):
    held_out = HeldOut([benchmark], max_bits=MAX_BITS)
    for image in (
        data.rocket(),
        data.immunohistochemistry(),
        data.retina(),
        data.hubble_deep_field(),
    ):
        assert held_out.find(image, path=Path("unused")) is None
    blank = np.full((50, 50, 3), 200, np.uint8)
    assert held_out.find(blank, path=Path("unused")) is None
    assert HeldOut([], max_bits=MAX_BITS).find(blank, path=Path("unused")) is None


def test_the_hash_does_not_see_the_light():
    image = data.chelsea()
    assert perceptual_hash(image).shape == (255,)
    darker = (image * 0.8).astype(np.uint8)
    assert (perceptual_hash(image) != perceptual_hash(darker)).sum() <= 12


def test_published_training_and_test_photographs_are_disjoint(shared_folder: Path):
    """BSDS400 is without BSD100: far fewer bits would tell them apart."""
    folder = shared_folder / "data"
    held_out = HeldOut([folder / "benchmarks" / "BSD100" / "HR"], max_bits=MAX_BITS + 32)
    for path in find_images(folder / "train" / "BSDS400")[::8]:
        assert held_out.find(read_image(path), path=path) is None, path


def test_a_held_out_picture_that_cannot_be_read_is_reported(
    benchmark: Path, caplog: pytest.LogCaptureFixture
):
    (benchmark / "broken.png").write_text("once upon a time")
    held_out = HeldOut([benchmark], max_bits=MAX_BITS)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "broken.png cannot be read: not a known image format." in caplog.messages[0]
    assert held_out.find(data.coffee(), path=benchmark / "HR" / "chelsea.png") is not None


def test_a_benchmark_without_pictures_and_a_threshold_without_meaning_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"no image files in .* of `held_out`; give a benchmark\.$"):
        HeldOut([tmp_path], max_bits=MAX_BITS)
    with pytest.raises(UserError, match=r"`held_out_bits` \(=127\) must lie between 0 and 126"):
        HeldOut([], max_bits=127)
