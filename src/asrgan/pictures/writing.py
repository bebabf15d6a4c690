"""From pictures to files. Pillow writes 8 bits; what it cannot write is put together here."""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin, TiffTags

from asrgan.errors import UserError
from asrgan.files import atomic_path
from asrgan.pictures.exif import directories, exif_of_size
from asrgan.pictures.picture import Picture

_BLOCK_BYTES = 1 << 20  # of pixels that are compressed at a time
_DEEP_COMPRESSION = 1  # of zlib: the lower bytes are noise, higher levels gain 2% in twice the time
_SUB_FILTER = 1  # PNG specification, 9.2: each byte minus that of the pixel to the left
_EXIF_HEAD = b"Exif\x00\x00"  # only JPEG has it in the file
_ICC_COLOUR_SPACE = slice(16, 20)  # ICC.1:2022, table 17


@dataclass(frozen=True)
class PictureFormat:
    """What a file format holds.

    Args:
        name: of Pillow.
        suffixes: the first is the usual one.
        options: of Pillow, where there is no choice.
        holds_alpha: besides colours.
        holds_16_bits: besides 8.
        largest_side_px: height and width end there.
        largest_exif_bytes: and EXIF there.
        working_bytes_per_px: what encoding takes beside the picture, at most (measured).
    """

    name: str
    suffixes: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    holds_alpha: bool = True
    holds_16_bits: bool = False
    largest_side_px: int = 2**31 - 1
    largest_exif_bytes: int = 2**31 - 1
    working_bytes_per_px: int = 5

    def check(self, *, height: int, width: int, is_opaque: bool) -> None:
        """Refuses a picture that the format cannot hold.

        Raises:
            UserError: transparency, or a side that is too long; names formats that take it.
        """
        if not (self.holds_alpha or is_opaque):
            raise UserError(f"{self.name} holds no transparency; try format=png or format=webp.")
        if max(height, width) > self.largest_side_px:
            raise UserError(
                f"{self.name} holds sides of at most {self.largest_side_px} px, and the picture"
                f" has {width}x{height}; try format=png or format=tif."
            )

    def exif_of(self, picture: Picture) -> Image.Exif | None:
        """A picture's EXIF, told its size; None where there are none, or more than it holds."""
        if picture.exif is None:
            return None
        exif = exif_of_size(picture.exif, height=picture.height, width=picture.width)
        return exif if len(exif.tobytes()) <= self.largest_exif_bytes else None


FORMATS = {
    format_.suffixes[0].removeprefix("."): format_
    for format_ in (
        # Colour at full resolution: what subsampling takes away, a network has just put there.
        PictureFormat(
            "JPEG",
            (".jpg", ".jpeg"),
            {"subsampling": 0},
            holds_alpha=False,
            largest_side_px=65500,
            largest_exif_bytes=65533,
        ),
        # Level 6, zlib's default, saves 4% more and takes three times as long.
        PictureFormat("PNG", (".png",), {"compress_level": 4}, holds_16_bits=True),
        PictureFormat(
            "WebP", (".webp",), {"exact": True}, largest_side_px=16383, working_bytes_per_px=60
        ),
        PictureFormat("TIFF", (".tif", ".tiff"), holds_16_bits=True, working_bytes_per_px=1),
        PictureFormat("BMP", (".bmp",), holds_alpha=False),
    )
}
"""Formats by the name that an option gives them."""

_JPEG_QUALITY = 95  # loses little


def format_of(path: Path | str) -> PictureFormat:
    """The format that a file's suffix names.

    Raises:
        UserError: unknown suffix.
    """
    suffix = Path(path).suffix.lower()
    for format_ in FORMATS.values():
        if suffix in format_.suffixes:
            return format_
    known = ", ".join(sorted(suffix for format_ in FORMATS.values() for suffix in format_.suffixes))
    raise UserError(f"{path} names no image format; end it in one of {known}.")


def write_picture(path: Path | str, picture: Picture, *, quality: int | None = None) -> None:
    """Writes a picture in the format that the suffix names; it appears whole or not at all.

    Args:
        path: missing parent folders are made.
        picture: of 8 bits, or of 16 where the format holds them.
        quality: see `encode_picture`.

    Raises:
        UserError: unknown suffix, or the format cannot hold the picture.
        OSError: the disk is full, or the folder cannot be written.
    """
    format_ = format_of(path)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        encode_picture(file, picture, format_, quality=quality)


def encode_picture(
    file: IO[bytes], picture: Picture, format_: PictureFormat, *, quality: int | None = None
) -> None:
    """Writes the content of a picture file.

    Args:
        file: empty; must be able to seek.
        picture: as for `write_picture`. Its EXIF are told its size.
        format_: BMP keeps neither profile nor EXIF, JPEG no EXIF of 64 KiB or more; WebP keeps
            grey as colour.
        quality: 1 to 100 of JPEG and WebP; None for the least loss: JPEG at 95, WebP without any.

    Raises:
        UserError: the format cannot hold the picture.
        OSError: the disk is full.
    """
    is_opaque = picture.is_opaque
    format_.check(height=picture.height, width=picture.width, is_opaque=is_opaque)
    if picture.bits == 16 and not format_.holds_16_bits:
        raise ValueError(f"{format_.name} holds no 16 bits.")
    alpha = picture.alpha if format_.holds_alpha else None
    exif = format_.exif_of(picture)
    if format_.name == "TIFF":
        _write_tiff(file, picture, exif)
    elif picture.bits == 16:
        _write_deep_png(file, picture, exif)
    else:
        options = dict(format_.options)
        if format_.name == "JPEG":
            options["quality"] = quality or _JPEG_QUALITY
        elif format_.name == "WebP":
            options |= {"lossless": True} if quality is None else {"quality": quality}
        if picture.icc_profile is not None:
            options["icc_profile"] = picture.icc_profile
        if exif is not None:
            options["exif"] = exif.tobytes()
        image = _as_pillow(picture.colour, alpha)
        if format_.name == "WebP" and picture.colour.ndim == 2:
            image = _grey_as_colour(image, options)
        image.save(file, format_.name, **options)


def _as_pillow(colour: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> Image.Image:
    return Image.fromarray(colour if alpha is None else np.dstack([colour, alpha]))


def _grey_as_colour(image: Image.Image, options: dict[str, Any]) -> Image.Image:
    """RGB or RGBA; a profile of grey, which colours cannot have, gives way to sRGB."""
    colour = image.convert("RGBA" if image.mode == "LA" else "RGB")
    profile: bytes = options.get("icc_profile", b"")
    if profile[_ICC_COLOUR_SPACE] != b"GRAY":
        return colour
    del options["icc_profile"]
    grey, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image.convert("L"), grey, srgb, outputMode="RGB")
    assert converted is not None  # it is not made in place
    if image.mode == "LA":
        converted.putalpha(image.getchannel("A"))
    return converted


def _row_blocks(picture: Picture) -> Iterator[NDArray[Any]]:
    """(rows, W, channels) from top to bottom, so that no second picture is in memory."""
    planes = [np.atleast_3d(picture.colour)]
    if picture.alpha is not None:
        planes.append(picture.alpha[..., None])
    rows = _rows_of_block(picture)
    for top in range(0, picture.height, rows):
        yield np.concatenate([plane[top : top + rows] for plane in planes], axis=-1)


def _num_channels(picture: Picture) -> int:
    return (1 if picture.colour.ndim == 2 else 3) + (picture.alpha is not None)


def _rows_of_block(picture: Picture) -> int:
    row_bytes = picture.width * _num_channels(picture) * picture.colour.itemsize
    return max(1, min(picture.height, _BLOCK_BYTES // row_bytes))


def _write_deep_png(file: IO[bytes], picture: Picture, exif: Image.Exif | None) -> None:
    """PNG of 16 bits: Pillow writes grey only, OpenCV neither profile nor EXIF.

    Source: Portable Network Graphics (third edition), W3C 2025, sections 5 and 11.
    """
    num_channels = _num_channels(picture)
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[num_channels]
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 16, colour_type, 0, 0, 0)
    file.write(b"\x89PNG\r\n\x1a\n")
    _write_chunk(file, b"IHDR", header)
    if picture.icc_profile is not None:
        profile = b"ICC profile\x00\x00" + zlib.compress(picture.icc_profile)
        _write_chunk(file, b"iCCP", profile)
    if exif is not None:
        _write_chunk(file, b"eXIf", exif.tobytes().removeprefix(_EXIF_HEAD))
    compressor = zlib.compressobj(_DEEP_COMPRESSION)
    pixel_bytes = 2 * num_channels
    for block in _row_blocks(picture):
        pixels = block.astype(">u2").view(np.uint8).reshape(len(block), -1)
        rows = np.empty((len(block), 1 + pixels.shape[1]), np.uint8)
        rows[:, 0] = _SUB_FILTER
        rows[:, 1 : 1 + pixel_bytes] = pixels[:, :pixel_bytes]
        np.subtract(pixels[:, pixel_bytes:], pixels[:, :-pixel_bytes], rows[:, 1 + pixel_bytes :])
        _write_chunk(file, b"IDAT", compressor.compress(rows.data))
    _write_chunk(file, b"IDAT", compressor.flush())
    _write_chunk(file, b"IEND", b"")


def _write_chunk(file: IO[bytes], kind: bytes, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + kind)
    file.write(content)
    file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))


def _write_tiff(file: IO[bytes], picture: Picture, exif: Image.Exif | None) -> None:
    """TIFF in strips: Pillow drops EXIF where it compresses, and writes 16 bits of grey only.

    Source: TIFF 6.0; deflate: Adobe Photoshop TIFF technical notes, 2002.
    """
    num_channels, rows = _num_channels(picture), _rows_of_block(picture)
    num_strips = -(-picture.height // rows)
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    if exif is not None:
        for tag, value in {**exif, **directories(exif)}.items():
            directory[tag] = value
    directory[TiffImagePlugin.IMAGEWIDTH] = picture.width
    directory[TiffImagePlugin.IMAGELENGTH] = picture.height
    directory[TiffImagePlugin.BITSPERSAMPLE] = (picture.bits,) * num_channels
    directory[TiffImagePlugin.COMPRESSION] = 8  # deflate
    directory[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 1 if picture.colour.ndim == 2 else 2
    directory[TiffImagePlugin.SAMPLESPERPIXEL] = num_channels
    directory[TiffImagePlugin.ROWSPERSTRIP] = rows
    directory[TiffImagePlugin.PREDICTOR] = 2  # each pixel minus the one to the left
    if picture.alpha is not None:
        directory[TiffImagePlugin.EXTRASAMPLES] = 2  # not multiplied into the colours
    if picture.icc_profile is not None:
        directory[TiffImagePlugin.ICCPROFILE] = picture.icc_profile
    # The strips follow the directory, which holds their sizes: it is written twice.
    for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.STRIPBYTECOUNTS):
        directory.tagtype[tag] = TiffTags.LONG
        directory[tag] = (0,) * num_strips
    directory.save(file)
    sizes: list[int] = []
    for block in _row_blocks(picture):
        differences = block.astype(block.dtype.newbyteorder("<"))
        np.subtract(block[:, 1:], block[:, :-1], differences[:, 1:])
        sizes.append(file.write(zlib.compress(differences.data, _DEEP_COMPRESSION)))
    directory[TiffImagePlugin.STRIPOFFSETS] = (0, *np.cumsum(sizes[:-1]).tolist())
    directory[TiffImagePlugin.STRIPBYTECOUNTS] = tuple(sizes)
    file.seek(0)
    directory.save(file)
    file.seek(0, io.SEEK_END)
