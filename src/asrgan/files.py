"""Files that appear whole or not at all; what tells one set of files from another."""

import csv
import errno
import hashlib
import io
import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)
"""What a disk says that is full, broken or closed to us; of one file, it says something else."""

TEMPORARY_NAME = re.compile(r"(?P<beginning>\..+)\.\d+(\.[^.]*)?", re.DOTALL)
"""What a file is called while it is written, and ever after if the process is killed meanwhile."""

_LONGEST_NAME = 255  # bytes, of Linux
_NUMBER_BYTES = 12  # of a process, with its point


@contextmanager
def atomic_path(path: Path | str) -> Generator[Path]:
    """A temporary path beside ``path`` which takes its name once it is written.

    The temporary name keeps the suffix, since writers choose the format by it. Whatever stood
    under ``path`` stays there until the new file is complete and on disk.

    Args:
        path: the final name; missing parent folders are made.

    Yields:
        The path to write to.

    Raises:
        OSError: the folder cannot be written, or the disk is full; it names the file, and nothing
            is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(f"{beginning_of(path)}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # on a read-only disk, though nothing is there
            temporary.unlink(missing_ok=True)


def beginning_of(path: Path) -> Path:
    """What the temporary path of a file begins with; its number and its suffix follow.

    It is the name with a point, or a checksum in place of one that leaves no room for more.
    """
    room = _LONGEST_NAME - _NUMBER_BYTES - len(os.fsencode(f".{path.suffix}"))
    stem = os.fsencode(path.stem)
    return path.with_name(
        f".{path.stem if len(stem) <= room else hashlib.sha256(stem).hexdigest()}"
    )


def write_text(path: Path | str, text: str) -> None:
    """Writes UTF-8 text; the file appears whole or not at all, see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_unfinished(folder: Path) -> None:
    """Removes what ``atomic_path`` leaves in a folder when its process is killed.

    Args:
        folder: nobody else writes to it; may be missing.
    """
    for path in folder.glob(".*"):
        if TEMPORARY_NAME.fullmatch(path.name):
            path.unlink()


def are_apart(one: Path, other: Path) -> bool:
    """Whether neither of two folders is the other or lies within it, wherever links lead."""
    one, other = one.resolve(), other.resolve()
    return not (one.is_relative_to(other) or other.is_relative_to(one))


def listing_digest(folder: Path | str, paths: Iterable[Path]) -> str:
    """A checksum of the names and sizes of files below a folder, which are not read.

    Raises:
        OSError: a file is gone.
    """
    sizes = sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths)
    listing = "".join(f"{name}\0{size}\0" for name, size in sizes)
    # A name need not be text.
    return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a CSV file that may be growing.

    A process killed in the middle of a write leaves a line without its end: not a row.
    """
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]))
    rows = list(reader)
    return list(reader.fieldnames or []), rows
