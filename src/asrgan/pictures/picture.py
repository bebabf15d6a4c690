"""A picture in memory."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Picture:
    """A picture with all that its file holds, the way a viewer shows it.

    Args:
        colour: (H, W) grey or (H, W, 3) RGB; uint8, or uint16 for files of 16 bits.
        alpha: (H, W) of the same type, not multiplied into the colours; None for files without.
        icc_profile: of the colours, as it stands in the file.
        exif: what it says about the photograph, see `asrgan.pictures.exif`.
        num_frames: of an animation or of a TIFF with several pages; this is the first.
        remarks: what is not as in the file, a clause each.
    """

    colour: NDArray[Any]
    alpha: NDArray[Any] | None = None
    icc_profile: bytes | None = None
    exif: bytes | None = None
    num_frames: int = 1
    remarks: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """In px."""
        return self.colour.shape[0]

    @property
    def width(self) -> int:
        """In px."""
        return self.colour.shape[1]

    @property
    def bits(self) -> int:
        """Of a channel: 8 or 16."""
        return 8 * self.colour.itemsize

    @property
    def is_opaque(self) -> bool:
        """Whether nothing shines through."""
        return self.alpha is None or bool((self.alpha == np.iinfo(self.alpha.dtype).max).all())

    def with_bits(self, bits: int) -> "Picture":
        """The same picture on the nearest levels of 8 or 16 bits."""
        if bits == self.bits:
            return self

        def converted(levels: NDArray[Any]) -> NDArray[Any]:
            if bits == 16:
                return levels.astype(np.uint16) * np.uint16(257)
            return ((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)

        alpha = None if self.alpha is None else converted(self.alpha)
        return replace(self, colour=converted(self.colour), alpha=alpha)
