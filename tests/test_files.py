import errno
from pathlib import Path

import pytest

from asrgan.files import TEMPORARY_NAME, atomic_path, beginning_of, remove_unfinished


def test_a_file_appears_once_it_is_complete(tmp_path: Path):
    path = tmp_path / "new" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def fill_the_disk(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("hal")
        raise OSError(errno.ENOSPC, "No space left on device")  # as of a write, without a name


def test_a_full_disk_names_the_file_and_leaves_the_earlier_one(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.txt'$"):
        fill_the_disk(path)
    assert path.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path):
    for name in (".last.123.ckpt", ".a.b.7.csv", ".hidden", ".notes.txt", "1.2.txt"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".hidden", ".notes.txt", "1.2.txt"}
    remove_unfinished(tmp_path / "missing")


@pytest.mark.parametrize("stem", ["x" * 251, "\u5bbf" * 83], ids=["long", "three bytes a letter"])
def test_the_longest_name_can_be_written(stem: str, tmp_path: Path):
    path = tmp_path / f"{stem}.png"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        match = TEMPORARY_NAME.fullmatch(temporary.name)
        assert match is not None
        assert tmp_path / match["beginning"] == beginning_of(path)
    assert path.read_text() == "whole"
