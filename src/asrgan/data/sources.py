"""What crops are taken from: a folder of photographs, or prepared shards, here or elsewhere."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asrgan.data.photographs import Photographs
from asrgan.data.shards import MANIFEST, UNFINISHED, Shards, read_manifest
from asrgan.data.storage import FolderStorage, StreamedStorage
from asrgan.errors import UserError


class ImageSource(Protocol):
    """HR images by their number.

    Attributes:
        fingerprint: the same for the same images, wherever they lie.
    """

    fingerprint: str

    def __len__(self) -> int: ...

    def read(self, index: int) -> NDArray[np.uint8]:
        """The image of a number, (H, W, 3)."""
        ...

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """All numbers in the order of a pass, drawn from the generator alone."""
        ...


def is_prepared(location: Path | str) -> bool:
    """Whether ``data.train`` names an output of ``asrgan prepare``, here or elsewhere."""
    return "://" in str(location) or (Path(location) / MANIFEST).is_file()


def open_source(
    location: Path | str,
    *,
    minimum_size_px: int,
    cache_mib: float,
    shuffle_shards: int,
    stream_cache_dir: Path | str,
    stream_cache_mib: float,
) -> ImageSource:
    """Opens what ``data.train`` names.

    Args:
        location: folder of photographs, output of ``asrgan prepare``, or the address of such an
            output, ``s3://...`` or another that fsspec knows.
        minimum_size_px: shortest side of an image that is used.
        cache_mib: see `Photographs`.
        shuffle_shards: see `Shards`.
        stream_cache_dir: see `StreamedStorage`.
        stream_cache_mib: see `StreamedStorage`.

    Raises:
        UserError: whatever `Photographs` or `Shards` find wrong, or an unfinished output.
    """
    if "://" in str(location):
        place = str(location)
        storage = StreamedStorage(place, cache_dir=stream_cache_dir, cache_mib=stream_cache_mib)
    else:
        folder = Path(location)
        manifest = folder / MANIFEST
        if not (manifest.is_file() and read_manifest(manifest.read_bytes())):
            if (folder / UNFINISHED).is_dir():
                raise UserError(
                    f"{folder} is an unfinished output of `asrgan prepare`; the same command goes"
                    " on with it."
                )
            return Photographs(folder, minimum_size_px=minimum_size_px, cache_mib=cache_mib)
        place, storage = str(folder), FolderStorage(folder)
    return Shards(
        storage, place=place, minimum_size_px=minimum_size_px, shuffle_shards=shuffle_shards
    )
