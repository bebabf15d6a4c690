import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asrgan.data import Photographs
from asrgan.errors import UserError
from asrgan.imaging import write_image


def photograph(level: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def write_damaged(path: Path) -> None:
    """A PNG with a sound head, whose pixels break off."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write_image(path, noise)
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_photographs_are_read_in_the_order_of_their_paths(cache_mib: float, tmp_path: Path) -> None:
    for level, name in enumerate(["c.png", "a/b.png", "b.bmp"]):
        write_image(tmp_path / name, photograph(level, 10, 12))
    photographs = Photographs(tmp_path, minimum_size_px=10, cache_mib=cache_mib)
    assert [path.name for path in photographs.paths] == ["b.png", "b.bmp", "c.png"]
    assert len(photographs) == 3
    for index, level in enumerate([1, 2, 0]):
        np.testing.assert_array_equal(photographs.read(index), photograph(level, 10, 12))


def test_photographs_that_fit_into_the_cache_are_read_from_memory(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", photograph(7, 512, 512))  # 0.75 MiB decoded
    cached = Photographs(tmp_path, minimum_size_px=1, cache_mib=0.75)
    uncached = Photographs(tmp_path, minimum_size_px=1, cache_mib=0.74)
    write_image(tmp_path / "a.png", photograph(9, 512, 512))
    assert cached.read(0)[0, 0, 0] == 7
    assert uncached.read(0)[0, 0, 0] == 9
    assert not cached.read(0).flags.writeable


def test_unreadable_and_small_files_are_reported_once_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "good.png", photograph(0, 20, 20))
    write_image(tmp_path / "small.png", photograph(0, 20, 19))
    (tmp_path / "text.jpg").write_text("once upon a time")
    photographs = Photographs(tmp_path, minimum_size_px=20, cache_mib=0)
    assert [path.name for path in photographs.paths] == ["good.png"]
    small, text = caplog.messages
    assert small.endswith("small.png is too small: 19x20 < 20 px.")
    assert text.endswith("text.jpg cannot be read: not a known image format.")
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_every_bad_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "good.png", photograph(0, 8, 8))
    for number in range(23):
        (tmp_path / f"bad{number}.png").touch()
    Photographs(tmp_path, minimum_size_px=8, cache_mib=0)
    named = {message.split()[2].rpartition("/")[2] for message in caplog.messages}
    assert named == {f"bad{number}.png" for number in range(23)}


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_the_next_photograph_replaces_a_damaged_one_which_is_reported_once(
    cache_mib: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / "a.png", photograph(1, 32, 32))
    for name in ["b.png", "c.png", "e.png"]:
        write_damaged(tmp_path / name)
    write_image(tmp_path / "d.png", photograph(4, 32, 32))
    photographs = Photographs(tmp_path, minimum_size_px=32, cache_mib=cache_mib)
    for _ in range(2):
        assert [photographs.read(index)[0, 0, 0] for index in range(5)] == [1, 4, 4, 4, 1]
    assert [Path(message.split(" cannot")[0]).name for message in sorted(caplog.messages)] == [
        "b.png",
        "c.png",
        "e.png",
    ]


@pytest.mark.parametrize("cache_mib", [0, 1])
def test_it_is_an_error_if_all_photographs_are_damaged(cache_mib: float, tmp_path: Path) -> None:
    write_damaged(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"none of the 1 photographs in .* can be decoded"):
        Photographs(tmp_path, minimum_size_px=32, cache_mib=cache_mib)


def test_a_folder_without_photographs_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent does not exist"):
        Photographs(tmp_path / "absent", minimum_size_px=8, cache_mib=0)
    with pytest.raises(UserError, match=r"^no image files in .*; give a folder of photographs\.$"):
        Photographs(tmp_path, minimum_size_px=8, cache_mib=0)
    (tmp_path / "text.jpg").write_text("once upon a time")
    with pytest.raises(UserError, match=r"^none of the 1 image files in .* can be read\.$"):
        Photographs(tmp_path, minimum_size_px=8, cache_mib=0)
    write_image(tmp_path / "a.png", photograph(0, 40, 90))
    write_image(tmp_path / "b.png", photograph(0, 60, 50))
    rule = r"^`crop_size_px` \(=96\) must not exceed .* \(at most 50 px in .*\); try a smaller crop"
    with pytest.raises(UserError, match=rule):
        Photographs(tmp_path, minimum_size_px=96, cache_mib=0)
