"""Photographs -> tiles: small pictures that are decoded quickly."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from asrgan.errors import UserError
from asrgan.imaging import shrink
from asrgan.pictures import FORMATS, Picture, encode_picture

GRID_PX = 16
"""Tiles begin at multiples of this: where a JPEG has its blocks, and the doubled ones of colour.

A tile that keeps the blocks of its source loses next to nothing when it is coded again.
"""

_TILE_FORMATS = ("jpg", "webp", "png")


@dataclass(frozen=True)
class Tile:
    """A part of a photograph as the content of a picture file.

    Args:
        top: first row in the photograph, px.
        left: first column, px.
        height: in px.
        width: in px.
        content: of the file.
    """

    top: int
    left: int
    height: int
    width: int
    content: bytes


@dataclass(frozen=True)
class Tiling:
    """How photographs become tiles.

    A photograph is reduced, and divided evenly into as many tiles as have at least ``tile_size_px``
    in each direction; one that is smaller is a single tile. Crops of up to ``overlap_px`` are each
    inside of some tile, wherever they lie.

    Args:
        tile_size_px: least height and width of a tile, if the photograph has them.
        overlap_px: of neighbours.
        downscale: factor of an antialiased reduction before; it also takes off JPEG's blocks.
        minimum_size_px: least height and width of a photograph after that.
        flat_below: a tile is flat if its `roughness` is less; 0: none is.
        flat_kept: share of the flat tiles that stays, drawn by name and place.
        tile_format: ``jpg``, ``webp`` or ``png``.
        quality: 1 to 100; None for the least loss: JPEG at 95, WebP without any.

    Raises:
        UserError: a value that the others do not allow.
    """

    tile_size_px: int
    overlap_px: int
    downscale: float
    minimum_size_px: int
    flat_below: float
    flat_kept: float
    tile_format: str
    quality: int | None

    def __post_init__(self) -> None:
        for name in ("tile_size_px", "overlap_px"):
            value = getattr(self, name)
            if value < 0 or value % GRID_PX:
                nearest = max(0, round(value / GRID_PX)) * GRID_PX
                raise UserError(
                    f"`{name}` (={value}) must be a multiple of {GRID_PX}, where JPEG has its"
                    f" blocks; try {nearest}."
                )
        if self.overlap_px >= self.tile_size_px:
            raise UserError(
                f"`overlap_px` (={self.overlap_px}) must be smaller than `tile_size_px`"
                f" (={self.tile_size_px}); try {self.tile_size_px // 4 // GRID_PX * GRID_PX}."
            )
        if self.downscale < 1:
            raise UserError(f"`downscale` (={self.downscale}) must be at least 1.")
        if self.minimum_size_px < 1:
            raise UserError(f"`minimum_size_px` (={self.minimum_size_px}) must be at least 1.")
        if self.flat_below < 0:
            raise UserError(f"`flat_below` (={self.flat_below}) must be at least 0.")
        if not 0 <= self.flat_kept <= 1:
            raise UserError(f"`flat_kept` (={self.flat_kept}) must lie between 0 and 1.")
        if self.tile_format not in _TILE_FORMATS:
            known = ", ".join(_TILE_FORMATS)
            raise UserError(f"`tile_format` (={self.tile_format}) must be one of {known}.")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UserError(f"`quality` (={self.quality}) must lie between 1 and 100, or be null.")

    def reduce(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The photograph as it is going to be cut, (H, W, 3)."""
        return shrink(image, factor=self.downscale)

    def cut(self, image: NDArray[np.uint8], *, name: str) -> tuple[list[Tile], int]:
        """The tiles of a photograph, from top left to bottom right.

        Args:
            image: (H, W, 3), reduced.
            name: decides, with a tile's place, whether a flat one stays.

        Returns:
            The tiles that stay, and how many were left out because they are flat.
        """
        height, width = image.shape[:2]
        tiles: list[Tile] = []
        num_flat = 0
        for top, bottom in self.spans(height):
            for left, right in self.spans(width):
                part = image[top:bottom, left:right]
                if self._is_left_out(part, f"{name}:{top}:{left}"):
                    num_flat += 1
                    continue
                tiles.append(Tile(top, left, bottom - top, right - left, self._encode(part)))
        return tiles, num_flat

    def spans(self, length_px: int) -> Iterator[tuple[int, int]]:
        """First px, and px after the last, of the tiles along one side of a photograph."""
        free_px = length_px - self.overlap_px
        num_tiles = max(1, free_px // (self.tile_size_px - self.overlap_px))
        starts = [number * free_px // num_tiles // GRID_PX * GRID_PX for number in range(num_tiles)]
        stops = [start + self.overlap_px for start in starts[1:]]
        return zip(starts, [*stops, length_px], strict=True)

    def _is_left_out(self, part: NDArray[np.uint8], place: str) -> bool:
        if self.flat_below == 0 or roughness(part) >= self.flat_below:
            return False
        draw = hashlib.sha256(place.encode(errors="surrogateescape")).digest()
        return int.from_bytes(draw[:8]) >= self.flat_kept * 2**64

    def _encode(self, part: NDArray[np.uint8]) -> bytes:
        file = io.BytesIO()
        picture = Picture(np.ascontiguousarray(part))
        encode_picture(file, picture, FORMATS[self.tile_format], quality=self.quality)
        return file.getvalue()


def roughness(image: NDArray[np.uint8]) -> float:
    """Mean difference of neighbouring px in grey, in levels: 0 for one colour.

    Args:
        image: (H, W, 3).
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.int16)
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (0, 1)]
    return float(np.mean([step.mean() for step in steps if step.size]))


def decode_tile(content: bytes) -> NDArray[np.uint8]:
    """The picture of a tile, (H, W, 3).

    OpenCV gives the pixels that Pillow gives, in two thirds of the time.
    """
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None, "its checksum was right"
    return cast("NDArray[np.uint8]", image)
