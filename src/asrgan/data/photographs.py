"""A folder of photographs as arrays, from disk or from memory."""

import logging
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asrgan.errors import UnreadableImageError, UserError
from asrgan.files import listing_digest
from asrgan.imaging import find_images, image_size, read_image

_log = logging.getLogger(__name__)

_BYTES_PER_MIB = 2**20


class Photographs:
    """The photographs below a folder that are large enough to be cropped.

    Files that cannot be read and files that are too small are left out, each reported once with
    its reason. Photographs that fit into memory together are decoded once, here, so that data
    loader processes share them.

    Args:
        folder: searched with everything below it.
        minimum_size_px: shortest side a photograph must have.
        cache_mib: memory for decoded photographs, in MiB. If they need more, each is decoded
            whenever it is read.

    Attributes:
        paths: the files, sorted; an index is a place in this list.
        fingerprint: of the names and sizes of these files.

    Raises:
        UserError: no folder, no image files, or none that can be decoded and is large enough.
    """

    def __init__(self, folder: Path | str, *, minimum_size_px: int, cache_mib: float) -> None:
        self._folder = Path(folder)
        sizes = _usable_sizes(self._folder, minimum_size_px)
        self.paths = list(sizes)
        self.fingerprint = listing_digest(self._folder, self.paths)
        # Shared with the loader's processes, so that only the first to meet a bad file reports it.
        self._is_unreadable = multiprocessing.Array("b", len(self.paths))
        self._cache: list[NDArray[np.uint8] | None] | None = None
        num_bytes = sum(3 * height * width for height, width in sizes.values())
        if num_bytes <= cache_mib * _BYTES_PER_MIB:
            with _threads() as threads:
                self._cache = list(threads.map(self._decode, range(len(self.paths))))
            for image in self._cache:
                if image is not None:
                    image.flags.writeable = False  # a transform in place would damage it for good
        self.read(0)  # if none can be decoded, fail here and not in a loader's process

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> NDArray[np.uint8]:
        """The photograph at a place in `paths`; the next readable one if it is damaged.

        Which photograph replaces a damaged one depends on the files alone, so every process and
        every run sees the same.

        Returns:
            (H, W, 3); write-protected if it stays in memory.

        Raises:
            UserError: no photograph can be decoded.
        """
        for offset in range(len(self)):
            candidate = (index + offset) % len(self)
            image = self._decode(candidate) if self._cache is None else self._cache[candidate]
            if image is not None:
                return image
        raise UserError(f"none of the {len(self)} photographs in {self._folder} can be decoded.")

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """All indices in an order of chance."""
        return generator.permutation(len(self))

    def _decode(self, index: int) -> NDArray[np.uint8] | None:
        if self._is_unreadable[index]:
            return None
        try:
            return read_image(self.paths[index])
        except UnreadableImageError as error:
            with self._is_unreadable.get_lock():
                is_news = not self._is_unreadable[index]
                self._is_unreadable[index] = True
            if is_news:
                _log.warning("%s The next photograph takes its place.", error)
            return None


def _usable_sizes(folder: Path, minimum_size_px: int) -> dict[Path, tuple[int, int]]:
    """Height and width of each file that has a readable head and is large enough."""
    paths = find_images(folder)
    if not paths:
        raise UserError(f"no image files in {folder} or below it; give a folder of photographs.")
    with _threads() as threads:
        sizes = list(threads.map(_size_or_reason, paths))
    usable: dict[Path, tuple[int, int]] = {}
    largest_side_px = 0
    for path, size in zip(paths, sizes, strict=True):
        if isinstance(size, UnreadableImageError):
            _log.warning("left out: %s", size)
            continue
        largest_side_px = max(largest_side_px, min(size))
        if min(size) < minimum_size_px:
            height, width = size
            _log.warning(
                "left out: %s is too small: %dx%d < %d px.", path, width, height, minimum_size_px
            )
        else:
            usable[path] = size
    if usable:
        return usable
    if largest_side_px == 0:
        raise UserError(f"none of the {len(paths)} image files in {folder} can be read.")
    raise UserError(
        f"`crop_size_px` (={minimum_size_px}) must not exceed the shorter side of the photographs "
        f"(at most {largest_side_px} px in {folder}); try a smaller crop or larger photographs."
    )


def _size_or_reason(path: Path) -> tuple[int, int] | UnreadableImageError:
    try:
        return image_size(path)
    except UnreadableImageError as error:
        return error


def _threads() -> ThreadPoolExecutor:
    # Decoders release the interpreter lock.
    return ThreadPoolExecutor(max_workers=os.cpu_count())
