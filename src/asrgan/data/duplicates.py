"""Photographs that must not be trained on, recognised in any size, coding and orientation."""

import filecmp
import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from asrgan.errors import UnreadableImageError, UserError
from asrgan.imaging import find_images, read_image

_log = logging.getLogger(__name__)

_REDUCED_PX = 64
_FREQUENCIES = 16  # the lowest in each direction
_NUM_BITS = _FREQUENCIES**2 - 1  # without the mean, which is light alone


def perceptual_hash(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of a picture's low frequencies are stronger than their median.

    Of 255 bits, at most 6 differ where a BSD100 photograph is coded as JPEG 30 or reduced to a
    quarter, 24 where it is made brighter, and 34 where 3% of it are cut off; between different
    photographs of BSD100 and BSDS400, however turned, at least 90 do.

    Args:
        image: (H, W, 3).

    Returns:
        (255,).

    Source: Zauner 2010, "Implementation and benchmarking of perceptual image hash functions",
    section 3.2.1, with more frequencies.
    """
    return _hash(_reduce(image))


def _reduce(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    size = (_REDUCED_PX, _REDUCED_PX)
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _hash(reduced: NDArray[np.float32]) -> NDArray[np.bool_]:
    spectrum = cv2.dct(np.ascontiguousarray(reduced))[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]
    return spectrum > np.median(spectrum)


class HeldOut:
    """The pictures of benchmarks, to find them among photographs to train on.

    Each is known in its 8 orientations. One that cannot be read is reported and left out.

    Args:
        folders: searched with everything below them.
        max_bits: two photographs are the same if at most that many bits of their hashes differ.

    Raises:
        UserError: a folder is missing or has no pictures, or ``max_bits`` tells nothing apart.
    """

    def __init__(self, folders: Sequence[Path | str], *, max_bits: int) -> None:
        if not 0 <= max_bits < _NUM_BITS // 2:
            raise UserError(
                f"`held_out_bits` (={max_bits}) must lie between 0 and {_NUM_BITS // 2 - 1}: half"
                f" of the {_NUM_BITS} bits differ between any two photographs."
            )
        self._max_bits = max_bits
        self._names: list[str] = []
        self._paths: list[Path] = []
        hashes: list[list[NDArray[np.bool_]]] = []
        for folder in map(Path, folders):
            paths = find_images(folder)
            if not paths:
                raise UserError(f"no image files in {folder} of `held_out`; give a benchmark.")
            for path in paths:
                try:
                    reduced = _reduce(read_image(path))
                except UnreadableImageError as error:
                    _log.warning("not compared with: %s", error)
                    continue
                turned = [np.rot90(reduced, quarter) for quarter in range(4)]
                hashes.append([_hash(way) for view in turned for way in (view, view[:, ::-1])])
                self._paths.append(path)
                self._names.append(f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}")
        self._hashes = np.array(hashes, bool).reshape(len(hashes), 8, _NUM_BITS)

    def find(self, image: NDArray[np.uint8], *, path: Path) -> str | None:
        """Which of the pictures a photograph is, as a clause; None if it is none of them.

        Args:
            image: (H, W, 3), the photograph.
            path: its file, to tell a copy from another version.
        """
        if not self._paths:
            return None
        bits = (self._hashes != perceptual_hash(image)).sum(axis=-1).min(axis=-1)
        nearest = int(bits.argmin())
        if bits[nearest] > self._max_bits:
            return None
        if filecmp.cmp(path, self._paths[nearest], shallow=False):
            return f"is a copy of {self._names[nearest]}"
        return (
            f"is a version of {self._names[nearest]}"
            f" ({bits[nearest]} of {_NUM_BITS} bits of their hashes differ)"
        )
