"""All that enlarged pictures depend on besides the originals."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from asrgan.errors import UserError
from asrgan.files import file_digest
from asrgan.imaging import IMAGE_SUFFIXES
from asrgan.inference.upscaler import Attention
from asrgan.pictures import FORMATS, PictureFormat
from asrgan.weights import find_weights

_SIDES_PX = range(1, 2**31)
_BITS = (8, 16)
_QUALITY = range(1, 101)


@dataclass(frozen=True)
class Recipe:
    """How originals become pictures.

    Args:
        weights: the generator's file, or its published name.
        scale_to: length of the long side in px; None: the network's scale.
        format: a name in `FORMATS`; None: as the original.
        quality: 1 to 100 of JPEG and WebP; None: the least loss.
        bits: 8 or 16; None: as the original, where the format holds them.
        precision: of the network, see `Upscaler`.
        attention: of the network, see `Upscaler`.

    Raises:
        UserError: a value that cannot be.
    """

    weights: str
    scale_to: int | None = None
    format: str | None = None
    quality: int | None = None
    bits: int | None = None
    precision: str = "auto"
    attention: Attention = "whole"

    def __post_init__(self) -> None:
        if self.scale_to is not None and self.scale_to not in _SIDES_PX:
            raise UserError(
                f"`scale_to` (={self.scale_to}) must be a whole number of px; try 2000."
            )
        if self.format is not None and self.format not in FORMATS:
            raise UserError(f"`format` (={self.format}) must be one of: {', '.join(FORMATS)}.")
        if self.quality is not None and self.quality not in _QUALITY:
            raise UserError(f"`quality` (={self.quality}) must be 1 to 100, or null; try 95.")
        if self.bits is not None and self.bits not in _BITS:
            raise UserError(f"`bits` (={self.bits}) must be 8, 16 or null.")
        if self.bits == 16 and self.format and not FORMATS[self.format].holds_16_bits:
            raise UserError(
                f"`bits` (=16) is more than format={self.format} holds; try format=png."
            )

    def target(self, original: PurePosixPath) -> PurePosixPath:
        """An original's picture: of the same name, with the suffix of its format."""
        suffixes = IMAGE_SUFFIXES if self.format is None else FORMATS[self.format].suffixes
        if original.suffix.lower() in suffixes:
            return original
        return original.with_suffix(f".{self.format or 'png'}")

    def bits_of(self, original_bits: int, format_: PictureFormat) -> int:
        """8 or 16, of the picture that is written."""
        return (self.bits or original_bits) if format_.holds_16_bits else 8

    def described(self) -> dict[str, Any]:
        """Its values, and the digest of the weights, as plain values."""
        return {**asdict(self), "weights_sha256": file_digest(find_weights(self.weights))}


def identity(description: dict[str, Any]) -> str:
    """Eight letters that change with whatever changes the pictures."""
    relevant = {key: value for key, value in description.items() if key != "weights"}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:8]
