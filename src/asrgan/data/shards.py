"""Prepared photographs: tiles in tar files, read by their number.

A prepared folder holds

- ``shard-00000.tar`` ...: the tiles as picture files, as WebDataset has them;
- ``tiles.npy``: where each tile lies, see `TILE`;
- ``photographs.csv`` and ``rejected.csv``: what was used, and what was not and why;
- ``manifest.json``: counts, settings and checksums. It is written last.
"""

import hashlib
import io
import json
import logging
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrgan.data.storage import ShardFile, Storage
from asrgan.data.tiles import Tile, decode_tile
from asrgan.errors import UserError

_log = logging.getLogger(__name__)

FORMAT = "asrgan shards 1"
MANIFEST = "manifest.json"
TILES = "tiles.npy"
UNFINISHED = ".asrgan-unfinished"
"""Folder in which a preparation keeps its state until the manifest is written."""

TILE = np.dtype(
    [
        ("photograph", "<u4"),  # number in photographs.csv
        ("shard", "<u4"),
        ("offset", "<u8"),  # of the tile's file in the shard, bytes
        ("size", "<u4"),  # bytes
        ("crc32", "<u4"),
        ("height", "<u4"),  # px
        ("width", "<u4"),  # px
    ]
)
"""A row of the table of tiles."""


def write_shard(
    path: Path, tiles: Iterable[tuple[int, Tile]], *, suffix: str, number: int
) -> NDArray[np.void]:
    """Writes tiles into a tar file that depends on them alone.

    Args:
        path: of the file.
        tiles: each with the number of its photograph.
        suffix: of the tiles' names.
        number: of the shard.

    Returns:
        (tiles,) of type `TILE`.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    rows: list[tuple[int, ...]] = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for photograph, tile in tiles:
            # Its owner is root and its time 1970, wherever and whenever it is written.
            entry = tarfile.TarInfo(f"{photograph:06d}_{tile.top:05d}_{tile.left:05d}.{suffix}")
            entry.size = len(tile.content)
            offset = tar.offset + tarfile.BLOCKSIZE
            tar.addfile(entry, io.BytesIO(tile.content))
            checksum = zlib.crc32(tile.content)
            size = (tile.height, tile.width)
            rows.append((photograph, number, offset, entry.size, checksum, *size))
    return np.array(rows, TILE)


def read_manifest(content: bytes) -> dict[str, Any] | None:
    """The manifest of a prepared folder; None if the content is something else."""
    try:
        manifest = json.loads(content)
    except ValueError:
        return None
    is_ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    return manifest if is_ours else None


class Shards:
    """The tiles of a prepared folder that are large enough to be cropped.

    Tiles are read one by one; of an object store, whole shards are fetched. So that few of them are
    needed at a time, a pass goes through the shards in a new order and mixes the tiles of
    neighbouring ones.

    Args:
        storage: of the prepared folder.
        place: how messages name it.
        minimum_size_px: shortest side a tile must have; smaller ones are left out, which is
            reported once.
        shuffle_shards: how many neighbouring shards are mixed. Photographs lie in the shards by
            chance, so few are enough.

    Attributes:
        fingerprint: of all that is in the shards.

    Raises:
        UserError: no finished prepared folder, a damaged one, or no tile is large enough.
    """

    def __init__(
        self, storage: Storage, *, place: str, minimum_size_px: int, shuffle_shards: int
    ) -> None:
        if shuffle_shards < 1:
            raise UserError(f"`shuffle_shards` (={shuffle_shards}) must be at least 1.")
        self._storage = storage
        self._place = place
        self._shuffle_shards = shuffle_shards
        try:
            manifest = read_manifest(storage.load(MANIFEST))
            table = storage.load(TILES)
        except FileNotFoundError as error:
            raise UserError(
                f"{place} holds no finished output of `asrgan prepare`; finish or copy it."
            ) from error
        if manifest is None:
            raise UserError(f"{place}/{MANIFEST} was not written by this `asrgan prepare`.")
        if hashlib.sha256(table).hexdigest() != manifest["tiles"]["sha256"]:
            raise UserError(f"{place}/{TILES} is damaged; copy or prepare it anew.")
        self.fingerprint: str = manifest["content_sha256"]
        self._files = [ShardFile(**shard) for shard in manifest["shards"]]
        storage.check(self._files, at_once=shuffle_shards + 2)  # one leaves, one is read ahead
        self._tiles: NDArray[np.void] = np.load(io.BytesIO(table))
        shortest_px = np.minimum(self._tiles["height"], self._tiles["width"])
        self._tiles = self._tiles[shortest_px >= minimum_size_px]
        if not len(self._tiles):
            raise UserError(
                f"`crop_size_px` (={minimum_size_px}) must not exceed the shorter side of the tiles"
                f" (at most {shortest_px.max()} px in {place}); try a smaller crop, or prepare"
                " larger tiles."
            )
        if len(self._tiles) < len(shortest_px):
            _log.warning(
                "left out: %d of the %d tiles in %s have a side below %d px.",
                len(shortest_px) - len(self._tiles),
                len(shortest_px),
                place,
                minimum_size_px,
            )

    def __len__(self) -> int:
        return len(self._tiles)

    def read(self, index: int) -> NDArray[np.uint8]:
        """The tile of a number.

        Returns:
            (H, W, 3).

        Raises:
            UserError: its shard cannot be reached, or is damaged.
        """
        tile = self._tiles[index]
        shard = self._files[tile["shard"]]
        content = self._storage.read(shard, offset=int(tile["offset"]), size=int(tile["size"]))
        if zlib.crc32(content) != tile["crc32"]:
            raise UserError(
                f"{shard.name} of {self._place} is damaged at byte {tile['offset']}; copy or"
                " prepare it anew."
            )
        return decode_tile(content)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """The numbers of all tiles in the order of a pass.

        At any moment its tiles come from ``shuffle_shards`` shards and the next one.
        """
        sequence = generator.permutation(len(self._files))
        self._storage.expect([self._files[shard] for shard in sequence])
        places = np.argsort(sequence)  # of each shard in the sequence
        delays = self._shuffle_shards * generator.random(len(self._tiles))
        return np.argsort(places[self._tiles["shard"]] + delays)
