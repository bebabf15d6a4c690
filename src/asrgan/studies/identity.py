"""What makes two runs the same: the configuration that matters, the data, the code."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asrgan.errors import UserError
from asrgan.files import file_digest, write_text
from asrgan.weights import find_weights

_LENGTH = 16  # hexadecimal digits; a study has far fewer than 2**32 cells

# Where a run writes, what it is called, how it is watched, and on what it runs. Files and folders
# count by their content, see `Fingerprints`.
_NO_SCIENCE = (
    "verb",
    "experiment",
    "size",
    "seed",  # a cell's, not a variant's
    "output_dir",
    "resume",
    "search",
    "validate_every",
    "checkpoint_every",
    "logger",
    "data.train",
    "data.stream_cache_dir",
    "data.stream_cache_mib",
    "data.validation",
    "data.validation_crop_size_px",
    "data.validation_limit",
    "data.num_workers",
    "data.cache_mib",
    "generator.weights",
    "loss.perceptual.network.weights",
    "trainer.accelerator",
    "trainer.strategy",
    "trainer.log_every",
    "trainer.best_metric",
    "trainer.metrics",
    "trainer.num_samples",
    "trainer.sample_size_px",
)
FILES = ("data.train", "generator.weights", "loss.perceptual.network.weights")
"""Keys of ``asrgan train`` that name a file or a folder which decides what is learned."""


def science(config: Mapping[str, object]) -> dict[str, object]:
    """What of a flat configuration decides the result, but for the seed and the content of files.

    Args:
        config: all values of ``asrgan train`` by their full keys.
    """
    return {
        key: value
        for key, value in config.items()
        if not any(key == left_out or key.startswith(f"{left_out}.") for left_out in _NO_SCIENCE)
    }


def digest(content: object) -> str:
    """The same text for the same plain content, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


class Fingerprints:
    """What files and folders hold, whatever they are called and wherever they are.

    A file that has kept its size and time of change since is not read again.

    Args:
        cache: a JSON file for what was read.
    """

    def __init__(self, cache: Path) -> None:
        self._path = cache
        self._known: dict[str, list[object]] = {}
        self._told: dict[str, str] = {}
        if cache.exists():
            self._known = json.loads(cache.read_text(encoding="utf-8"))

    def of(self, path: str, *, key: str) -> str:
        """The fingerprint of a file, or of all visible files below a folder and their names there.

        Args:
            path: of the file or folder, or the name of a published generator.
            key: of the configuration, for messages.

        Raises:
            UserError: there is nothing at the path, or it cannot be read.
        """
        if path not in self._told:
            try:
                self._told[path] = self._read(find_weights(path), key)
            except OSError as error:
                raise UserError(f"`{key}` (={path}) cannot be read: {error.strerror}.") from error
        return self._told[path]

    def _read(self, path: Path, key: str) -> str:
        if not path.is_dir():
            return self._digests([path])[0][:_LENGTH]
        names = sorted(_visible_files(path))
        if not names:
            raise UserError(f"`{key}` (={path}) holds no files; give a folder of photographs.")
        digests = self._digests([path / name for name in names])
        return digest(list(zip(names, digests, strict=True)))

    def _digests(self, paths: Sequence[Path]) -> list[str]:
        with ThreadPoolExecutor(os.cpu_count()) as threads:  # hashing releases the interpreter
            stamped = list(threads.map(self._stamped_digest, paths))
        self._known |= dict(zip(map(str, paths), stamped, strict=True))
        return [str(stamp[-1]) for stamp in stamped]

    def _stamped_digest(self, path: Path) -> list[object]:
        status = path.stat()
        stamp: list[object] = [status.st_size, status.st_mtime_ns]
        known = self._known.get(str(path))
        return known if known and known[:2] == stamp else [*stamp, file_digest(path)]

    def save(self) -> None:
        """Writes the cache."""
        write_text(self._path, json.dumps(self._known))


def _visible_files(folder: Path) -> Iterator[str]:
    """Paths below a folder, through links, each folder once."""
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                yield Path(root, name).relative_to(folder).as_posix()
