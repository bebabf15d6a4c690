"""Where originals and pictures lie: on this machine, or in an object store."""

import io
import os
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

from asrgan.errors import UnreadableImageError, UserError
from asrgan.files import TEMPORARY_NAME, atomic_path, beginning_of
from asrgan.imaging import IMAGE_SUFFIXES, NO_IMAGE, find_images
from asrgan.pictures import Picture, decode_picture, read_picture
from asrgan.subprocesses import Lock

# File names may hold any bytes.
_TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
_FLUSH_EVERY_S = 30.0  # objects cannot be appended to: they are written anew

Report = Callable[[str, str], None]  # of a name, and why it is left out


@dataclass(frozen=True)
class Stamp:
    """What tells whether a file was changed.

    Args:
        size: in bytes.
        modified_ns: since 1970.
    """

    size: int
    modified_ns: int

    def __str__(self) -> str:
        return f"{self.size}-{self.modified_ns}"


class Folder:
    """A folder of this machine. Names in it are relative, with slashes.

    Args:
        location: made when something is written.
    """

    def __init__(self, location: str) -> None:
        self.location = location

    def find(self, *, report: Report) -> list[str]:
        """Names of all pictures in it, at any depth, sorted; nothing that is hidden.

        Args:
            report: is told of each other name, and why it is left out.

        Raises:
            UserError: it cannot be searched.
        """

        def name_of(path: Path) -> str:
            return path.relative_to(self.location).as_posix()

        paths = find_images(
            self.location, report=lambda path, reason: report(name_of(path), reason)
        )
        return [name_of(path) for path in paths]

    def locate(self, name: str) -> str:
        """The location of a file in it."""
        return str(Path(self.location, name))

    def stamp(self, name: str) -> Stamp | None:
        """Of a file in it; None where there is none."""
        return stamp_of(self.locate(name))

    def read_text(self, name: str) -> str:
        """The content of a text file, its line ends as they are; empty where there is none."""
        path = Path(self.location, name)
        return path.read_bytes().decode(**_TEXT) if path.exists() else ""

    def append_text(self, name: str, text: str) -> None:
        """Adds to a text file."""
        with Path(self.location, name).open("ab") as file:
            file.write(text.encode(**_TEXT))

    @contextmanager
    def open(self, name: str) -> Generator[IO[bytes]]:
        """A new file that can seek; it appears at the end, whole, or not at all.

        Raises:
            OSError: it cannot be written, or there is no room.
        """
        with atomic_path(self.locate(name)) as temporary, temporary.open("wb") as file:
            yield file

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file anew."""
        with self.open(name) as file:
            file.write(text.encode(**_TEXT))

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        Path(self.location, name).unlink(missing_ok=True)

    @contextmanager
    def locked(self, name: str) -> Generator[None]:
        """Keeps other runs off the folder, by a file of it that stays there.

        Raises:
            UserError: another run has it, or files of this disk cannot be locked.
            OSError: the folder cannot be written.
        """
        lock = Lock(Path(self.location, name))
        lock.path.parent.mkdir(parents=True, exist_ok=True)
        lock.path.touch()
        if not lock.acquire():
            raise UserError(
                f"another run is writing to {self.location} ({lock.holder}); wait for it, or name"
                " another output."
            )
        try:
            yield
        finally:
            lock.release()

    def sweep(self, names: Iterable[str]) -> None:
        """Removes what processes that were killed left of these files."""
        beginnings = {beginning_of(Path(self.location, name)) for name in names}
        for root, _, files in os.walk(self.location):
            for file in files:
                match = TEMPORARY_NAME.fullmatch(file)
                if match and Path(root, match["beginning"]) in beginnings:
                    Path(root, file).unlink(missing_ok=True)

    def close(self) -> None:
        """All that was added is there."""


class RemoteFolder(Folder):
    """A folder of an object store, where a file appears whole or not at all by nature.

    Args:
        location: ``s3://bucket/folder``, ``gs://...``, and what else Arrow knows.
    """

    def __init__(self, location: str) -> None:
        super().__init__(location.rstrip("/"))
        self._system, self._path = _system_of(self.location)
        self._stamps: dict[str, Stamp] | None = None
        self._texts: dict[str, list[str]] = {}
        self._flush_at_s = time.monotonic() + _FLUSH_EVERY_S

    def find(self, *, report: Report) -> list[str]:
        """As `Folder.find`."""
        found: list[str] = []
        for name in sorted(self._all_stamps()):
            path = PurePosixPath(name)
            if any(part.startswith(".") for part in path.parts):
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES:
                found.append(name)
            else:
                report(name, NO_IMAGE)
        return found

    def locate(self, name: str) -> str:
        """As `Folder.locate`."""
        return f"{self.location}/{name}"

    def stamp(self, name: str) -> Stamp | None:
        """As `Folder.stamp`, by one listing of all files: a million requests would take hours."""
        return self._all_stamps().get(name)

    def read_text(self, name: str) -> str:
        """As `Folder.read_text`."""
        if self.stamp(name) is None:
            return ""
        return read_bytes(self.locate(name)).decode(**_TEXT)

    def append_text(self, name: str, text: str) -> None:
        """As `Folder.append_text`, but it is there only after a while, or after `close`."""
        if name not in self._texts:
            self._texts[name] = [self.read_text(name)]
        self._texts[name].append(text)
        if time.monotonic() > self._flush_at_s:
            self.close()

    def write_text(self, name: str, text: str) -> None:
        """As `Folder.write_text`."""
        super().write_text(name, text)
        self._texts.pop(name, None)
        self._stamps = None

    @contextmanager
    def open(self, name: str) -> Generator[IO[bytes]]:
        """As `Folder.open`."""
        content = io.BytesIO()
        yield content
        path = f"{self._path}/{name}"
        self._system.create_dir(path.rpartition("/")[0], recursive=True)
        with self._system.open_output_stream(path) as stream:
            stream.write(content.getbuffer())

    def remove(self, name: str) -> None:
        """As `Folder.remove`."""
        with suppress(FileNotFoundError):
            self._system.delete_file(f"{self._path}/{name}")
        self._stamps = None

    @contextmanager
    def locked(self, name: str) -> Generator[None]:
        """Object stores have no locks."""
        del name
        yield

    def sweep(self, names: Iterable[str]) -> None:
        """Nothing is left behind there."""

    def close(self) -> None:
        """As `Folder.close`."""
        start = time.monotonic()
        for name, parts in self._texts.items():
            parts[:] = ["".join(parts)]
            with self.open(name) as file:
                file.write(parts[0].encode(**_TEXT))
        now = time.monotonic()
        self._flush_at_s = now + max(_FLUSH_EVERY_S, 20 * (now - start))

    def _all_stamps(self) -> dict[str, Stamp]:
        if self._stamps is None:
            from pyarrow import fs

            self._stamps = {}
            everything = fs.FileSelector(self._path, allow_not_found=True, recursive=True)
            for info in self._system.get_file_info(everything):
                if info.is_file:
                    name = info.path.removeprefix(self._path).lstrip("/")
                    self._stamps[name] = Stamp(info.size, info.mtime_ns or 0)
        return self._stamps


def is_remote(location: str) -> bool:
    """Whether it is the address of an object store."""
    return "://" in location


def folder_at(location: str) -> Folder:
    """The folder of a path or an address.

    Raises:
        UserError: an address, and pyarrow is not installed or does not know its kind.
    """
    return RemoteFolder(location) if is_remote(location) else Folder(location)


def real_folder(location: str) -> str:
    """One name for each folder, without a slash at its end."""
    return location.rstrip("/") if is_remote(location) else os.path.realpath(location)


def place_of(location: str, *, folder_of: Callable[[str], str] = real_folder) -> str:
    """One name for each file, whichever way its folder is named.

    Args:
        location: its path or address. Not followed, if it is a link: that would be replaced.
        folder_of: `real_folder`, or one that remembers.
    """
    parent, slash, name = location.rpartition("/")
    return f"{folder_of(parent or slash)}/{name}"


def stamp_of(path: str) -> Stamp | None:
    """Of a file of this machine; None where there is none, and of an object store's."""
    try:
        state = Path(path).stat()
    except (OSError, ValueError):
        return None
    return Stamp(state.st_size, state.st_mtime_ns)


def read_bytes(location: str) -> bytes:
    """The content of a file of this machine or of an object store.

    Raises:
        OSError: it cannot be read.
    """
    if not is_remote(location):
        return Path(location).read_bytes()
    system, path = _system_of(location)
    with system.open_input_stream(path) as stream:
        return stream.read()


def read_picture_at(location: str) -> Picture:
    """As `asrgan.pictures.read_picture`, also from an object store."""
    if not is_remote(location):
        return read_picture(location)
    try:
        content = read_bytes(location)
    except OSError as error:
        raise UnreadableImageError(f"{location} cannot be read: {error}.") from error
    return decode_picture(content, name=location)


def _system_of(location: str) -> tuple[Any, str]:
    """Arrow's file system of an address, and the path in it."""
    scheme, _, rest = location.partition("://")
    bucket, _, key = rest.partition("/")
    system, root = _open_system(f"{scheme}://{bucket}/")
    return system, f"{root.rstrip('/')}/{key}"


@cache
def _open_system(root: str) -> tuple[Any, str]:
    try:
        from pyarrow import fs
    except ImportError as error:
        raise UserError(f"{root} needs pyarrow; pip install 'asrgan[arrow]'.") from error
    try:
        return fs.FileSystem.from_uri(root)
    except (ValueError, OSError) as error:
        raise UserError(f"{root} cannot be opened: {error}.") from error
