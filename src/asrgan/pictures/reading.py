"""From files to pictures. Pillow reads 8 bits and metadata, OpenCV 16 bits."""

import errno
import io
import struct
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from asrgan.errors import UnreadableImageError
from asrgan.pictures.exif import portable_exif
from asrgan.pictures.picture import Picture

# Pillow warns of damaged metadata, which is remarked here, and from 89 megapixels on; twice as many
# it refuses, and that is what counts.
warnings.filterwarnings("ignore", module="PIL")

# How Pillow's modes are read, and whether alpha may be asked of them.
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_WHITE_16 = np.uint16(65535)
# PNG specification, 11.2.2: signature, IHDR's head, width, height; then bit depth, colour type.
_PNG_BIT_DEPTH_OFFSET = 24
_PNG_COLOUR_TYPE_OFFSET = 25
_PNG_GREY_WITH_ALPHA = 4
_PNG_SIGNATURE_BYTES = 8
_PNG_CHUNK_BYTES = 12  # of one without content: length, name, checksum
_PNG_PIXEL_CHUNKS = frozenset({b"IHDR", b"tRNS", b"IDAT", b"IEND"})
# TIFF 6.0, ExtraSamples.
_NO_ALPHA, _PREMULTIPLIED_ALPHA = 0, 1
# Exif 2.32, Orientation: what leads from the pixels of the file to the picture, in this order.
_SWAPPED = (5, 6, 7, 8)  # height and width
_UPSIDE_DOWN = (3, 4, 7, 8)
_MIRRORED = (2, 3, 6, 7)
# These say nothing about the file: it may be readable the next moment.
_PASSING_ERRORS = frozenset({errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


@dataclass(frozen=True)
class PictureHead:
    """What the head of a file says, without its pixels.

    Args:
        height: in px, as `read_picture` would return it.
        width: in px.
        num_channels: of colour and alpha.
        num_bits: 8 or 16, of a channel.
    """

    height: int
    width: int
    num_channels: int
    num_bits: int


def read_picture(path: Path | str) -> Picture:
    """A picture file with all that it holds.

    The EXIF orientation is applied. A palette is looked up, CMYK becomes sRGB (by the profile of
    the file if it has one), black and white becomes grey. Of several frames the first is read.

    Raises:
        UnreadableImageError: missing, truncated, no image, of an exotic pixel format (floating
            point, 32 bits, CIELAB), or so large that it looks like a decompression bomb.
    """
    with _reasons_for(path):
        content = Path(path).read_bytes()
    return decode_picture(content, name=path)


def decode_picture(content: bytes, *, name: Path | str) -> Picture:
    """As `read_picture`, from the content of a file; ``name`` is for messages."""
    with _reasons_for(name), Image.open(io.BytesIO(content)) as image:
        num_frames = _num_frames(image)
        image.load()  # the 16-bit decoder below would accept a truncated file
        if image.format == "PNG" and image.mode == "L" and "transparency" in image.info:
            # Pillow spreads levels of 2 and 4 bits over 0 to 255, but not the transparent one.
            image.info["transparency"] *= 255 // (2 ** content[_PNG_BIT_DEPTH_OFFSET] - 1)
        exif, orientation, remarks = _read_exif(image)
        icc_profile = image.info.get("icc_profile")
        if _has_16_bits(image, content):
            colour, alpha = _decode_16_bits(image, content)
        else:
            shown = image
            if image.mode == "CMYK":
                shown, remark = _cmyk_to_srgb(image, icc_profile)
                icc_profile = None
                remarks += (remark,)
            colour, alpha = _decode_8_bits(shown)
        return Picture(
            colour=_turned(colour, orientation),
            alpha=None if alpha is None else _turned(alpha, orientation),
            icc_profile=icc_profile or None,
            exif=exif,
            num_frames=num_frames,
            remarks=remarks,
        )


def read_head(path: Path | str) -> PictureHead:
    """Size, channels and depth of a picture, from the file's head alone.

    Only a PNG whose EXIF data follow its pixels is described as it lies in the file.

    Raises:
        UnreadableImageError: missing, no image, or too large.
    """
    with _reasons_for(path), Path(path).open("rb") as file:
        start = file.read(_PNG_BIT_DEPTH_OFFSET + 1)
        file.seek(0)
        with Image.open(file) as image:
            width, height = image.size
            # PngImageFile.getexif would decode the whole picture in search of late EXIF data.
            orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
            # TIFF's size is that of the turned picture already.
            is_tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
            if orientation in _SWAPPED and not is_tiff:
                height, width = width, height
            return PictureHead(
                height=height,
                width=width,
                num_channels=(1 if image.mode in _GREY_MODES else 3) + _has_alpha(image),
                num_bits=16 if _has_16_bits(image, start) else 8,
            )


def _num_frames(image: Image.Image) -> int:
    # The further pictures of a telephone's JPEG (MPO) are depth maps and the like.
    return 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)


def _read_exif(image: Image.Image) -> tuple[bytes | None, int, tuple[str, ...]]:
    """EXIF, the orientation that is still to be applied, and a remark if they are damaged."""
    with suppress(Exception):  # damaged data raise anything, or are empty
        exif = image.getexif()
        if len(exif) or not image.info.get("exif"):
            return portable_exif(exif), exif.get(ExifTags.Base.Orientation, 1), ()
    return None, 1, ("its EXIF is damaged and was left out",)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def _decode_8_bits(image: Image.Image) -> tuple[NDArray[Any], NDArray[Any] | None]:
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise ValueError(f"pixels of type {image.mode} are not supported")
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if not _has_alpha(image):
        return np.array(image.convert(mode)), None
    if image.mode == "1":
        image = image.convert("L")
    # From La and RGBa there is no direct way.
    pixels = np.array(image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA"))
    colour = np.ascontiguousarray(pixels[..., :-1])
    return colour[..., 0] if mode == "L" else colour, np.ascontiguousarray(pixels[..., -1])


def _cmyk_to_srgb(image: Image.Image, icc_profile: bytes | None) -> tuple[Image.Image, str]:
    """By the profile of the file, or by the plain formula where it has none that works."""
    if icc_profile:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, inks, srgb, outputMode="RGB")
        except ImageCms.PyCMSError:
            pass
        else:
            assert converted is not None  # it is not made in place
            return converted, "CMYK became sRGB by the file's profile"
    return image.convert("RGB"), "CMYK became RGB without a profile"


def _has_16_bits(image: Image.Image, content: bytes) -> bool:
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.format == "PNG" and content[_PNG_BIT_DEPTH_OFFSET] == 16
    tags = image.tag_v2
    if 16 not in tags.get(TiffImagePlugin.BITSPERSAMPLE, ()):
        return False
    kind = (
        tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION),
        tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1),
        *set(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))),
    )
    if kind not in {(1, 1, 1), (2, 1, 1)}:  # grey or RGB, interleaved, unsigned integers
        # Both libraries would misread it without a word.
        raise ValueError("this kind of 16-bit TIFF is not supported")
    return True


def _decode_16_bits(image: Image.Image, content: bytes) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Pillow drops the lower byte of 16-bit colour, OpenCV keeps it; both turn TIFF themselves."""
    if image.format == "PNG":
        content = _png_pixels(content)
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("its 16-bit pixels cannot be decoded")
    if pixels.ndim == 2:
        level = image.info.get("transparency")
        return pixels, None if level is None else np.where(pixels == level, 0, _WHITE_16)
    colour, alpha = pixels[..., 2::-1], pixels[..., 3:]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        kind = image.tag_v2.get(TiffImagePlugin.EXTRASAMPLES, ())[:1]
        if kind == (_NO_ALPHA,):
            alpha = alpha[..., :0]
        elif kind == (_PREMULTIPLIED_ALPHA,):
            plain = colour * (_WHITE_16 / np.maximum(alpha, 1).astype(np.float32))
            colour = plain.round().clip(0, _WHITE_16).astype(np.uint16)
    elif content[_PNG_COLOUR_TYPE_OFFSET] == _PNG_GREY_WITH_ALPHA:
        colour = colour[..., 0]
    return np.ascontiguousarray(colour), (
        np.ascontiguousarray(alpha[..., 0]) if alpha.shape[-1] else None
    )


def _png_pixels(content: bytes) -> bytes:
    """Without the chunks that are not about pixels: libpng warns of their faults on stderr."""
    kept, start = [content[:_PNG_SIGNATURE_BYTES]], _PNG_SIGNATURE_BYTES
    while start < len(content):
        (length,) = struct.unpack_from(">I", content, start)
        end = start + _PNG_CHUNK_BYTES + length
        if content[start + 4 : start + 8] in _PNG_PIXEL_CHUNKS:
            kept.append(content[start:end])
        start = end
    return b"".join(kept)


def _turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """How a viewer shows pixels that lie in the file with this EXIF orientation."""
    if orientation in _SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _UPSIDE_DOWN:
        pixels = pixels[::-1]
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


@contextmanager
def _reasons_for(path: Path | str) -> Generator[None]:
    """Turns whatever a decoder raises about the file into one line."""
    try:
        yield
    except MemoryError:  # says nothing about the file
        raise
    except Image.DecompressionBombError as error:
        most = 2e-6 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UnreadableImageError(
            f"{path} cannot be read: it has more than {most:.0f} million px; cut it into parts."
        ) from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"{path} cannot be read: not a known image format.") from error
    except Exception as error:  # decoders raise anything, from SyntaxError to struct.error
        if getattr(error, "errno", None) in _PASSING_ERRORS:
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(f"{path} cannot be read: {reason.rstrip(' .')}.") from error
