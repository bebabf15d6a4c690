"""Object stores, by Arrow's file system of this machine."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from asrgan import upscale
from asrgan.configuration import compose, quoted
from asrgan.errors import UnreadableImageError, UserError
from asrgan.imaging import read_image
from asrgan.inference.jobs.folders import Folder, RemoteFolder, folder_at, read_picture_at
from asrgan.pictures import Picture, write_picture

pytest.importorskip("pyarrow", reason="pyarrow is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    for name in ("b/ü x.png", "a.jpg", ".hidden/c.png", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("g"):
            write_picture(tmp_path / name, Picture(np.zeros((2, 3, 3), np.uint8)))
        else:
            (tmp_path / name).write_text("text")
    return folder_at(f"file://{tmp_path}/")


def test_pictures_are_found_and_read(folder: Folder, tmp_path: Path):
    assert isinstance(folder, RemoteFolder)
    left_out: list[tuple[str, str]] = []
    assert folder.find(report=lambda *why: left_out.append(why)) == ["a.jpg", "b/ü x.png"]
    assert left_out == [("b/notes.txt", "is no image file by its name")]
    assert folder.locate("b/ü x.png") == f"file://{tmp_path}/b/ü x.png"
    assert read_picture_at(folder.locate("b/ü x.png")).colour.shape == (2, 3, 3)
    stamp = folder.stamp("a.jpg")
    assert stamp is not None
    assert stamp.size == (tmp_path / "a.jpg").stat().st_size
    assert stamp.modified_ns == (tmp_path / "a.jpg").stat().st_mtime_ns
    assert folder.stamp("z.jpg") is None
    with pytest.raises(UnreadableImageError, match=r"z\.jpg cannot be read: .*No such file"):
        read_picture_at(folder.locate("z.jpg"))


def test_text_that_is_added_is_there_after_closing(tmp_path: Path):
    folder = folder_at(f"file://{tmp_path}/new/folder")
    folder.write_text("table.csv", "a\r\n")
    folder.append_text("table.csv", "b\n")
    folder.append_text("table.csv", "c\n")
    assert (tmp_path / "new" / "folder" / "table.csv").read_bytes() == b"a\r\n"
    folder.close()
    folder.append_text("table.csv", "d\n")
    folder.close()
    assert (tmp_path / "new" / "folder" / "table.csv").read_bytes() == b"a\r\nb\nc\nd\n"
    assert folder_at(folder.location).read_text("table.csv") == "a\r\nb\nc\nd\n"


def test_what_arrow_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"carrier://pigeon/ cannot be opened: Unrecognized"):
        folder_at("carrier://pigeon/loft")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"s3://other/ needs pyarrow; pip install"):
        folder_at("s3://other/folder")


def test_a_store_is_enlarged_into_a_store(
    folder: Folder, tiny_weights: Callable[[int], Path], tmp_path: Path
):
    config = [
        f"weights={tiny_weights(2)}",
        f"input={quoted(folder.location)}",
        f"output={quoted(f'file://{tmp_path}/out')}",
        "device=cpu",
    ]
    for _ in range(2):  # nothing is done again
        upscale.run(OmegaConf.create(compose("upscale", config)), Path())
        with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        assert [(row["input"], row["error"]) for row in table] == [("a.jpg", ""), ("b/ü x.png", "")]
        assert read_image(tmp_path / "out" / "b" / "ü x.png").shape == (4, 6, 3)


def test_a_table_is_read_once_however_many_rows_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = folder_at(f"file://{tmp_path}")
    folder.write_text("table.csv", "a\n")
    reads: list[str] = []
    read = RemoteFolder.read_text

    def read_text(self: RemoteFolder, name: str) -> str:
        reads.append(name)
        return read(self, name)

    monkeypatch.setattr(RemoteFolder, "read_text", read_text)
    for _ in range(5):
        folder.append_text("table.csv", "b\n")
    assert reads == ["table.csv"]


def test_a_file_can_be_removed(folder: Folder, tmp_path: Path):
    folder.remove("a.jpg")
    assert folder.stamp("a.jpg") is None
    assert not (tmp_path / "a.jpg").exists()
