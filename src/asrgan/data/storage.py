"""Where shards lie: in a folder, or in an object store with a bounded cache before it."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeVar

import fsspec
from filelock import FileLock

from asrgan.errors import UserError
from asrgan.files import atomic_path

_BYTES_PER_MIB = 2**20
_WAITS_S = (1, 4, 16)  # between attempts to reach an object store

T = TypeVar("T")


@dataclass(frozen=True)
class ShardFile:
    """One shard, as the manifest describes it.

    Args:
        name: of the file.
        bytes: its size.
        tiles: how many it holds.
        sha256: of its content, hexadecimal.
    """

    name: str
    bytes: int
    tiles: int
    sha256: str


class Storage(Protocol):
    """Files of a prepared folder, wherever it lies."""

    def load(self, name: str) -> bytes:
        """The whole content of a small file.

        Raises:
            FileNotFoundError: it is not there.
            UserError: the storage cannot be reached.
        """
        ...

    def read(self, shard: ShardFile, *, offset: int, size: int) -> bytes:
        """``size`` bytes of a shard, fewer where it ends before.

        Raises:
            OSError: the shard is not there any more.
            UserError: the storage cannot be reached.
        """
        ...

    def check(self, shards: Sequence[ShardFile], *, at_once: int) -> None:
        """Finds what is wrong before a long run begins.

        Args:
            shards: all of them.
            at_once: how many are going to be read at a time.

        Raises:
            UserError: a shard is missing or cut off, or so many have no room.
        """
        ...

    def expect(self, shards: Sequence[ShardFile]) -> None:
        """Says in which order shards are going to be read."""
        ...


class FolderStorage:
    """A folder on this machine, or one that is mounted.

    Args:
        folder: of the shards.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, name: str) -> bytes:
        """See `Storage`."""
        return (self._folder / name).read_bytes()

    def read(self, shard: ShardFile, *, offset: int, size: int) -> bytes:
        """See `Storage`."""
        return _read(self._folder / shard.name, offset=offset, size=size)

    def check(self, shards: Sequence[ShardFile], *, at_once: int) -> None:
        """See `Storage`."""
        del at_once
        for shard in shards:
            path = self._folder / shard.name
            actual = path.stat().st_size if path.is_file() else 0
            if actual != shard.bytes:
                raise UserError(
                    f"{path} has {actual} bytes, the manifest says {shard.bytes}; copy or prepare"
                    " it anew."
                )

    def expect(self, shards: Sequence[ShardFile]) -> None:
        """See `Storage`; in a folder every order is good."""
        del shards


class StreamedStorage:
    """A folder in an object store, or behind any other address that fsspec knows.

    A shard is fetched whole when its first tile is wanted, and the next one of the expected order
    with it, in the background. All processes of a machine share the cache, and those who need the
    same shard fetch it once. What came first goes first when room is needed.

    Args:
        url: of the prepared folder: ``s3://bucket/name``, ``gs://...``, ``https://...``.
        cache_dir: where shards are kept, by their checksums.
        cache_mib: of all shards in ``cache_dir``, of other data, too.
    """

    def __init__(self, url: str, *, cache_dir: Path | str, cache_mib: float) -> None:
        self._url = url.rstrip("/")
        self._cache_dir = Path(cache_dir).expanduser()
        self._cache_bytes = int(cache_mib * _BYTES_PER_MIB)
        self._following: dict[ShardFile, ShardFile] = {}
        self._entered: set[ShardFile] = set()

    def load(self, name: str) -> bytes:
        """See `Storage`."""

        def fetch() -> bytes:
            filesystem, folder = fsspec.core.url_to_fs(self._url)
            return filesystem.cat_file(f"{folder}/{name}")

        return self._attempt(name, fetch)

    def read(self, shard: ShardFile, *, offset: int, size: int) -> bytes:
        """See `Storage`."""
        if shard not in self._entered:
            self._entered.add(shard)
            self._fetch(shard)
            if following := self._following.get(shard):
                threading.Thread(target=self._read_ahead, args=(following,), daemon=True).start()
        while True:
            try:
                return _read(self._path(shard), offset=offset, size=size)
            except FileNotFoundError:  # it had to make room
                self._fetch(shard)

    def expect(self, shards: Sequence[ShardFile]) -> None:
        """See `Storage`."""
        self._following = dict(pairwise(shards))
        self._entered.clear()

    def check(self, shards: Sequence[ShardFile], *, at_once: int) -> None:
        """See `Storage`. Whether a shard is whole is found out when it is fetched."""
        largest_first = sorted((shard.bytes for shard in shards), reverse=True)
        needed = sum(largest_first[:at_once])
        if needed > self._cache_bytes:
            raise UserError(
                f"`stream_cache_mib` (={self._cache_bytes // _BYTES_PER_MIB}) must hold {at_once}"
                f" shards of {self._url} at once; try {-(-needed // _BYTES_PER_MIB)}, or fewer"
                " `shuffle_shards`."
            )

    def _path(self, shard: ShardFile) -> Path:
        return self._cache_dir / f"{shard.sha256}.tar"

    def _read_ahead(self, shard: ShardFile) -> None:
        try:
            self._fetch(shard)
        except (OSError, UserError):
            return  # whoever needs the shard meets the error

    def _fetch(self, shard: ShardFile) -> None:
        """Lets a shard lie in the cache as its youngest file."""
        path = self._path(shard)
        with suppress(FileNotFoundError):
            os.utime(path)
            return  # without waiting for the shards of others
        self._cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(self._cache_dir / ".lock"):
            if path.exists():
                os.utime(path)
                return
            self._make_room(shard.bytes)

            def fetch() -> None:
                filesystem, folder = fsspec.core.url_to_fs(self._url)
                with atomic_path(path) as temporary:
                    filesystem.get_file(f"{folder}/{shard.name}", str(temporary))
                    with temporary.open("rb") as file:
                        if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                            raise OSError("its content is not what the manifest says")

            try:
                self._attempt(shard.name, fetch)
            except FileNotFoundError as error:
                raise UserError(f"{self._url} lacks {shard.name}; copy it anew.") from error

    def _make_room(self, needed: int) -> None:
        # Also what a killed process left half fetched: the lock is held, nobody else fetches.
        for leftover in self._cache_dir.glob(".*.tar"):
            leftover.unlink()
        files = [(path.stat(), path) for path in self._cache_dir.glob("*.tar")]
        occupied = sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda file: file[0].st_mtime_ns):
            if occupied + needed <= self._cache_bytes:
                break
            path.unlink()
            occupied -= status.st_size

    def _attempt(self, name: str, fetch: Callable[[], T]) -> T:
        """Tries several times; each package of an object store raises errors of its own kind."""
        for wait_s in (*_WAITS_S, None):
            try:
                return fetch()
            except FileNotFoundError:
                raise
            except Exception as error:
                is_lasting = isinstance(error, ImportError | ValueError | PermissionError)
                if wait_s is None or is_lasting:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    raise UserError(
                        f"{self._url}/{name} cannot be fetched ({reason}); check the address, the"
                        " network and the credentials."
                    ) from error
            time.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")


def _read(path: Path, *, offset: int, size: int) -> bytes:
    # No map of the file: its pages would count as this process's memory.
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, offset)
