import csv
import errno
import json
import os
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from asrgan.data import FolderStorage, Photographs, Preparation, Shards, Tiling, open_source
from asrgan.data import preparation as preparation_module
from asrgan.data.shards import TILE, UNFINISHED
from asrgan.errors import UserError
from asrgan.imaging import read_image, write_image

TILING = Tiling(
    tile_size_px=64,
    overlap_px=16,
    downscale=1,
    minimum_size_px=32,
    flat_below=1,
    flat_kept=0,
    tile_format="png",
    quality=None,
)

Prepare = Callable[..., Path]


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    generator = np.random.default_rng((height, width, seed))
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve photographs, and one of everything that cannot be used."""
    folder = tmp_path / "photographs"
    names = ["a b.png", "ü/ñ.jpg", "ü/深/x.tif", "c.webp", "d.bmp", *[f"{n}.png" for n in range(7)]]
    for number, name in enumerate(names):
        write_image(folder / name, noise(120, 90, number))
    write_image(folder / "small.png", noise(31, 90))
    write_image(folder / "pixel.png", noise(1, 1))
    write_image(folder / "flat.png", np.full((120, 90, 3), 7, np.uint8))
    whole = (folder / "ü" / "ñ.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "bomb.png").write_bytes(png_claiming(30000, 30000))
    frames = [Image.fromarray(noise(120, 90, seed)) for seed in (50, 51, 52)]
    frames[0].save(folder / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)
    (folder / "notes.txt").write_text("once upon a time")
    (folder / "circle").symlink_to(folder)
    (folder / "dangling.png").symlink_to(folder / "gone.png")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


def png_claiming(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDAT1234"


@pytest.fixture
def prepare(folder: Path, tmp_path: Path) -> Prepare:
    """A whole preparation, with whatever differs from a common setting."""

    def run(
        output: Path | str = "prepared",
        *,
        progress: Callable[[], object] = lambda: None,
        **changes: object,
    ) -> Path:
        preparation = start(folder, tmp_path / output, **changes)
        with preparation.exclusive():
            preparation.run(progress=progress)
        return tmp_path / output

    return run


def start(folder: Path, output: Path, **changes: object) -> Preparation:
    settings = {
        "tiling": TILING,
        "shard_mib": 0.15,
        "held_out": [],
        "held_out_bits": 48,
        "num_workers": 1,
    }
    return Preparation(folder, output, **(settings | changes))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_every_file_is_either_used_or_rejected_with_a_reason(prepare: Prepare, folder: Path):
    output = prepare()
    used = [row["path"] for row in rows_of(output / "photographs.csv")]
    names = ["a b.png", "ü/ñ.jpg", "ü/深/x.tif", "c.webp", "d.bmp", *[f"{n}.png" for n in range(7)]]
    assert sorted(used) == sorted(names)
    assert used != sorted(used)  # by chance, so that each shard is a sample of all
    rejected = {row["path"]: row["reason"] for row in rows_of(output / "rejected.csv")}
    bomb = rejected.pop("bomb.png")
    truncated = rejected.pop("truncated.jpg")
    assert "million px" in bomb
    assert truncated.startswith("cannot be read: ")
    assert "truncated" in truncated
    assert rejected == {
        "animated.webp": "holds 3 frames; save the one that is meant",
        "circle": "leads to a folder that is searched already",
        "dangling.png": "leads to no file",
        "empty.jpg": "cannot be read: not a known image format",
        "flat.png": "is flat: all its 2 tiles",
        "notes.txt": "is no image file by its name",
        "pixel.png": "is too small: 1x1 < 32 px",
        "small.png": "is too small: 90x31 < 32 px",
    }
    manifest = json.loads((output / "manifest.json").read_text("utf-8"))
    assert manifest["photographs"] == {"used": 12, "rejected": 10}
    assert manifest["settings"]["tile_size_px"] == 64
    assert manifest["input"]["files"] == 19
    assert manifest["tiles"]["flat_left_out"] == 2


def test_tiles_are_windows_of_their_photographs(prepare: Prepare, folder: Path):
    output = prepare()
    names = {int(row["number"]): row["path"] for row in rows_of(output / "photographs.csv")}
    rows = np.load(output / "tiles.npy")
    assert rows.dtype == TILE
    source = Shards(FolderStorage(output), place="x", minimum_size_px=1, shuffle_shards=1)
    assert len(source) == len(rows) == 24
    seen: set[str] = set()
    for index, row in enumerate(rows):
        path = names[row["photograph"]]
        tile = source.read(index)
        assert tile.shape == (row["height"], row["width"], 3)
        photograph = read_image(folder / path)
        tops = [
            top
            for top in (0, 48)
            if np.array_equal(photograph[top : top + 72, :90][: len(tile)], tile)
        ]
        assert len(tops) == 1
        seen.add(f"{path}:{tops[0]}")
    assert len(seen) == 24


def test_shards_are_plain_tar_files_of_pictures(prepare: Prepare, tmp_path: Path):
    output = prepare()
    shards = sorted(output.glob("shard-*.tar"))
    assert len(shards) == 3
    names: list[str] = []
    for shard in shards:
        with tarfile.open(shard) as tar:
            names += tar.getnames()
            tar.extractall(tmp_path / "extracted", filter="data")
    assert names == sorted(names)
    assert names[0].endswith("_00000_00000.png")
    assert all(read_image(tmp_path / "extracted" / name).shape[1] == 90 for name in names)


@pytest.mark.parametrize("num_workers", [2, 7, None])
def test_the_number_of_workers_changes_no_byte(prepare: Prepare, num_workers: int | None):
    expected = content_of(prepare("one"))
    assert content_of(prepare("other", num_workers=num_workers)) == expected


def test_the_place_of_the_photographs_changes_no_byte(
    prepare: Prepare, folder: Path, tmp_path: Path
):
    expected = content_of(prepare("one"))
    shutil.copytree(folder, tmp_path / "elsewhere", symlinks=True)
    (tmp_path / "elsewhere" / "circle").unlink()
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "elsewhere")
    preparation = start(tmp_path / "elsewhere", tmp_path / "other")
    with preparation.exclusive():
        preparation.run(progress=lambda: None)
    assert content_of(tmp_path / "other") == expected


class Killed(BaseException):
    """What no `except` in the code under test catches."""


@pytest.mark.parametrize("after", [1, 9, 14, 18])
def test_a_stopped_run_goes_on_and_changes_no_byte(
    prepare: Prepare, folder: Path, tmp_path: Path, after: int
):
    expected = content_of(prepare("whole"))
    calls = iter(range(after))

    def stop_after_some() -> None:
        if next(calls, None) is None:
            raise Killed

    with pytest.raises(Killed):
        prepare("stopped", progress=stop_after_some)
    with pytest.raises(
        UserError, match=r"stopped is an unfinished output of `asrgan prepare`; the"
    ):
        open_source(
            tmp_path / "stopped",
            minimum_size_px=1,
            cache_mib=0,
            shuffle_shards=1,
            stream_cache_dir="unused",
            stream_cache_mib=0,
        )
    stopped = start(folder, tmp_path / "stopped")
    with stopped.exclusive():
        assert after - 9 <= stopped.num_done <= after + 1  # one shard in the making may be lost
    done: list[None] = []
    prepare("stopped", progress=lambda: done.append(None), num_workers=3)
    assert len(done) == 19 - stopped.num_done
    assert content_of(tmp_path / "stopped") == expected


@pytest.mark.parametrize("step", range(12))
def test_a_kill_between_any_two_files_loses_nothing(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
):
    """The file of that number gets half its content and no name, as by kill -9."""
    expected = content_of(prepare("whole"))
    replace_file, count = Path.replace, iter(range(step))

    def die_at_step(path: Path, target: Path) -> Path:
        if next(count, None) is None:
            path.with_name(path.name.replace(str(os.getpid()), "1")).write_bytes(b"half")
            raise Killed
        return replace_file(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", die_at_step)
        try:
            prepare("killed")
        except Killed:
            assert not (tmp_path / "killed" / "manifest.json").exists()
            prepare_again = True
        else:
            prepare_again = False
    assert prepare_again == (step < 11)  # plan, 3 shards with records, 4 files at the end
    if prepare_again:
        prepare("killed")
    assert content_of(tmp_path / "killed") == expected


def test_a_lost_shard_of_an_unfinished_output_is_made_anew(prepare: Prepare, tmp_path: Path):
    expected = content_of(prepare("whole"))
    calls = iter(range(15))

    def stop() -> None:
        if next(calls, None) is None:
            raise Killed

    with pytest.raises(Killed):
        prepare("stopped", progress=stop)
    (tmp_path / "stopped" / "shard-00000.tar").unlink()
    prepare("stopped")
    assert content_of(tmp_path / "stopped") == expected


def test_a_full_disk_is_one_line_and_loses_nothing(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = content_of(prepare("whole"))
    write_shard = preparation_module.write_shard

    def fill_disk(path: Path, *args: object, number: int, **kwargs: object) -> object:
        result = write_shard(path, *args, number=number, **kwargs)
        if number == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(preparation_module, "write_shard", fill_disk)
        with pytest.raises(
            UserError, match=r"full could not be written \(No space left on device\); see to it"
        ):
            prepare("full")
    output = tmp_path / "full"
    assert sorted(path.name for path in output.iterdir()) == [
        UNFINISHED,
        "shard-00000.tar",
        "shard-00001.tar",
    ]
    prepare("full")
    assert content_of(output) == expected


def test_a_second_run_at_the_same_time_is_refused(folder: Path, tmp_path: Path):
    first, second = (start(folder, tmp_path / "prepared") for _ in range(2))
    with (
        first.exclusive(),
        pytest.raises(UserError, match=r"another `asrgan prepare` is writing to .*prepared; wait"),
        second.exclusive(),
    ):
        pytest.fail("both have the lock")
    with second.exclusive():
        pass


@pytest.mark.parametrize("is_finished", [False, True])
def test_other_settings_or_photographs_on_an_existing_output_are_refused(
    prepare: Prepare, folder: Path, tmp_path: Path, is_finished: bool
):
    output = tmp_path / "prepared"
    if is_finished:
        prepare()
    else:
        with start(folder, output).exclusive():
            pass
    for change, message in [
        ({"tiling": replace(TILING, downscale=2)}, r"`downscale` was 1 and is 2, so .*prepared"),
        ({"shard_mib": 1}, r"`shard_mib` was 0\.15 and is 1, so "),
        ({"held_out": [folder]}, r"`held_out` has other files than .*prepared was made of"),
    ]:
        with (
            pytest.raises(UserError, match=message),
            start(folder, output, **change).exclusive(),
        ):
            pass
    write_image(folder / "more.png", noise(99, 99))
    with (
        pytest.raises(UserError, match=r"`input` has other files than .*prepared was made of; put"),
        start(folder, output).exclusive(),
    ):
        pass


def test_what_is_finished_says_so(prepare: Prepare, folder: Path, tmp_path: Path):
    assert start(folder, tmp_path / "prepared").manifest is None
    output = prepare()
    manifest = start(folder, output).manifest
    assert manifest is not None
    assert manifest["photographs"] == {"used": 12, "rejected": 10}


def test_held_out_pictures_are_left_out(prepare: Prepare, folder: Path, tmp_path: Path):
    benchmark = tmp_path / "Set2"
    shutil.copytree(folder / "ü", benchmark / "HR")
    write_image(folder / "mirrored.jpg", read_image(folder / "ü" / "深" / "x.tif")[:, ::-1])
    output = prepare(held_out=[benchmark])
    rejected = {row["path"]: row["reason"] for row in rows_of(output / "rejected.csv")}
    assert rejected["ü/ñ.jpg"] == "is a copy of Set2/HR/ñ.jpg"
    assert rejected["ü/深/x.tif"] == "is a copy of Set2/HR/深/x.tif"
    assert rejected["mirrored.jpg"].startswith("is a version of Set2/HR/深/x.tif (")
    manifest = json.loads((output / "manifest.json").read_text("utf-8"))
    assert manifest["photographs"]["used"] == 10
    assert [entry["name"] for entry in manifest["held_out"]] == ["Set2"]


def test_a_folder_that_cannot_be_searched_is_reported_and_the_rest_is_used(
    prepare: Prepare, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    (folder / "locked").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    rejected = {row["path"]: row["reason"] for row in rows_of(prepare() / "rejected.csv")}
    assert rejected["locked"] == "cannot be searched: Permission denied"


def test_a_disk_that_fails_for_a_moment_is_no_fault_of_the_photograph(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
):
    expected = content_of(prepare("whole"))
    read_picture = preparation_module.read_picture

    def fail_once(path: Path) -> object:
        if path.name == "3.png":
            raise OSError(errno.EIO, "Input/output error")
        return read_picture(path)

    with monkeypatch.context() as patch:
        patch.setattr(preparation_module, "read_picture", fail_once)
        with pytest.raises(
            UserError, match=r"3\.png cannot be read now \(Input/output error\); the"
        ):
            prepare("other")
    assert content_of(prepare("other")) == expected


def test_too_large_for_memory_is_told(prepare: Prepare, monkeypatch: pytest.MonkeyPatch):
    def fail(path: Path) -> object:
        raise MemoryError

    monkeypatch.setattr(preparation_module, "read_picture", fail)
    with pytest.raises(
        UserError, match=r"has no room in memory beside 1 others; try num_workers=1"
    ):
        prepare(num_workers=2)


def test_names_that_are_no_text_are_kept_as_they_are(prepare: Prepare, folder: Path):
    raw = os.fsencode(folder) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(raw)).write_bytes((folder / "1.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes only text as names")
    output = prepare()
    assert b"caf\xe9.png" in (output / "photographs.csv").read_bytes()


def test_none_that_can_be_used_is_an_error_that_says_where_the_reasons_are(tmp_path: Path):
    folder, output = tmp_path / "photographs", tmp_path / "prepared"
    write_image(folder / "a.png", noise(8, 8))
    preparation = start(folder, output)
    with (
        pytest.raises(
            UserError, match=r"none of the 1 photographs in .* can be used; .*rejected\.csv says"
        ),
        preparation.exclusive(),
    ):
        preparation.run(progress=lambda: None)
    assert rows_of(output / "rejected.csv") == [
        {"path": "a.png", "reason": "is too small: 8x8 < 32 px"}
    ]


def test_folders_that_do_not_fit_are_refused(folder: Path, tmp_path: Path):
    for output in (folder, folder / "prepared", tmp_path):
        with pytest.raises(UserError, match=r"`input` .* and `output` .* must lie outside of each"):
            start(folder, output)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"^no image files in .*empty or below it"):
        start(tmp_path / "empty", tmp_path / "prepared")
    with pytest.raises(UserError, match="absent does not exist"):
        start(tmp_path / "absent", tmp_path / "prepared")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "letter.txt").touch()
    with (
        pytest.raises(UserError, match=r"`output` \(=.*taken\) holds other files \(letter\.txt\);"),
        start(folder, tmp_path / "taken").exclusive(),
    ):
        pass
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_workers": 0}, r"`num_workers` \(=0\) must be at least 1, or null"),
        ({"shard_mib": 0}, r"`shard_mib` \(=0\) must be positive"),
    ],
)
def test_settings_without_sense_are_refused(
    folder: Path, tmp_path: Path, change: dict[str, object], message: str
):
    with pytest.raises(UserError, match=message):
        start(folder, tmp_path / "prepared", **change)


def test_a_photograph_folder_with_a_manifest_of_its_own_stays_one(folder: Path):
    (folder / "manifest.json").write_text('{"format": "holiday"}')
    source = open_source(
        folder,
        minimum_size_px=64,
        cache_mib=0,
        shuffle_shards=1,
        stream_cache_dir="unused",
        stream_cache_mib=0,
    )
    assert isinstance(source, Photographs)
