"""The folder that pictures are written to."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from asrgan.files import atomic_path

# File names may hold any bytes.
_TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file was changed.

    Args:
        size: in bytes.
        modified_ns: since 1970.
    """

    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """None where there is no such file."""
        try:
            state = path.stat()
        except OSError:
            return None
        return cls(state.st_size, state.st_mtime_ns)

    def __str__(self) -> str:
        return f"{self.size}-{self.modified_ns}"


class OutputFolder:
    """A folder of this machine; what is written appears whole or not at all.

    Args:
        path: made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def open(self, name: str) -> Generator[IO[bytes]]:
        """A new file to write to, that can seek.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        with atomic_path(self.path / name) as temporary, temporary.open("wb") as file:
            yield file

    def append(self, name: str, text: str) -> None:
        """Adds to a text file."""
        with (self.path / name).open("a", **_TEXT) as file:
            file.write(text)

    def read(self, name: str) -> str | None:
        """The content of a text file, its line ends as they are; None if there is none."""
        if not (self.path / name).exists():
            return None
        with (self.path / name).open(**_TEXT) as file:
            return file.read()

    def stamp(self, name: str) -> Stamp | None:
        """Of a file."""
        return Stamp.of(self.path / name)
