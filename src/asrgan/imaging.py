"""Files, arrays and tensors of pictures: the one home of ranges, rounding, colour and resizing.

Arrays are uint8 (H, W, 3), tensors are float in [0, 1] with channels first; both are RGB.
"""

import errno
import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from asrgan.errors import UnreadableImageError, UserError
from asrgan.files import atomic_path

# JPEG is the only format here that loses anything; 95 without chroma subsampling loses little.
_JPEG_OPTIONS = {"quality": 95, "subsampling": 0}
_WRITE_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": {**_JPEG_OPTIONS},
    ".jpeg": {**_JPEG_OPTIONS},
    ".png": {},
    ".webp": {"lossless": True},
    ".tif": {"compression": "tiff_deflate"},
    ".tiff": {"compression": "tiff_deflate"},
    ".bmp": {},
}
IMAGE_SUFFIXES: frozenset[str] = frozenset(_WRITE_OPTIONS)

_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_PNG_BIT_DEPTH_OFFSET = 24  # PNG specification, 11.2.2: signature, IHDR's head, width, height
# These say nothing about the file: it may be readable the next moment.
_PASSING_ERRORS = frozenset({errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_CUBIC_RADIUS = 2  # half the width of the cubic kernel, in samples of the coarser grid


def find_images(folder: Path | str) -> list[Path]:
    """All image files below a folder, sorted by their path relative to it.

    Files are recognised by `IMAGE_SUFFIXES`; whatever is hidden (leading dot) is left out. Links to
    folders are followed, each folder once.

    Raises:
        UserError: the folder does not exist or is a file, or a folder below it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        fault = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"the image folder {folder} {fault}; give a folder of image files.")

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be searched: {error.strerror}.")

    images: list[Path] = []
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(root)
        # A linked folder may lie above itself.
        folders[:] = [] if real in seen else [n for n in folders if not n.startswith(".")]
        visible = [] if real in seen else [n for n in names if not n.startswith(".")]
        seen.add(real)
        images += [Path(root, n) for n in visible if Path(n).suffix.lower() in IMAGE_SUFFIXES]
    return sorted(filter(Path.is_file, images), key=Path.as_posix)


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """A photograph as 8-bit RGB, the way a viewer shows it.

    Grey and CMYK become RGB, 16 bits are rounded to 8, the EXIF orientation is applied, and alpha
    is dropped: the colours below it stay as they are stored. Colour profiles are not applied, and
    of several frames the first is read.

    Returns:
        (H, W, 3).

    Raises:
        UnreadableImageError: missing, truncated, no image, of an exotic pixel format (floating
            point, 32 bits, CIELAB), or so large that it looks like a decompression bomb.
    """
    with _reasons_for(path):
        content = Path(path).read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            image.load()  # the 16-bit decoder below would accept a truncated file
            if _has_16_bits(image, content):
                return _read_16_bits(content)
            if image.mode not in _EIGHT_BIT_MODES:
                raise ValueError(f"pixels of type {image.mode} are not supported")
            image.info.pop("transparency", None)  # alpha of a palette: Pillow warns about it
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width in px, as `read_image` would return them, from the file's head alone.

    Only a PNG whose EXIF data follow its pixels is described as it lies in the file.

    Raises:
        UnreadableImageError: missing, no image, or too large.
    """
    with _reasons_for(path), Image.open(path) as image:
        width, height = image.size
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            return height, width  # turned by Pillow already
        # PngImageFile.getexif would decode the whole picture in search of late EXIF data.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def write_image(path: Path | str, image: NDArray[np.uint8] | Tensor) -> None:
    """Writes a picture in the format that the suffix names; it appears whole or not at all.

    Args:
        path: suffix out of `IMAGE_SUFFIXES`; missing parent folders are made.
        image: (H, W, 3) uint8, or a tensor as `to_array` takes it.

    Raises:
        UserError: unknown suffix.
        OSError: the disk is full, or the folder cannot be written.
    """
    options = _WRITE_OPTIONS.get(Path(path).suffix.lower())
    if options is None:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{path} names no image format; end it in one of {known}.")
    array = to_array(image) if isinstance(image, Tensor) else image
    with atomic_path(path) as temporary:
        Image.fromarray(array).save(temporary, **options)


def to_tensor(array: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) as float32 (3, H, W) in [0, 1]."""
    return torch.from_numpy(array).permute(2, 0, 1).contiguous().float().div(255)


def to_array(image: Tensor) -> NDArray[np.uint8]:
    """Float (3, H, W) as uint8 (H, W, 3); [0, 1] is clamped and rounded to the nearest level."""
    levels = image.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def quantize(image: Tensor) -> Tensor:
    """Clamps to [0, 1] and rounds to the 256 levels of a file, in float32, any shape."""
    return image.float().clamp(0, 1).mul(255).round().div(255)


def luma(image: Tensor) -> Tensor:
    """Studio-range luma Y, of which papers report PSNR and SSIM.

    Args:
        image: (N, 3, H, W) in [0, 1].

    Returns:
        (N, 1, H, W) in [16/255, 235/255]: black is 16 and white 235 on the scale of 8 bits.

    Source: ITU-R BT.601, section 2.5.1, with the coefficients of MATLAB's ``rgb2ycbcr``.
    """
    red, green, blue = image.split(1, dim=1)
    return (65.481 * red + 128.553 * green + 24.966 * blue + 16) / 255


def bicubic_downscale(image: Tensor, *, scale: int) -> Tensor:
    """Antialiased bicubic reduction: MATLAB's ``imresize`` of an 8-bit picture, to the bit.

    The cubic kernel (a = -0.5) is widened by ``scale``; the published x4 versions of Set5, Set14
    and BSD100 come out exactly.

    Args:
        image: (N, C, H, W) in [0, 1]; rounded to 8 bits first.
        scale: integer factor that divides H and W.

    Returns:
        (N, C, H/scale, W/scale) float32 in [0, 1] on the 256 levels.

    Raises:
        ValueError: H or W is not divisible.

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing", eq. 15.
    """
    height, width = image.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"the image's size {height}x{width} must be divisible by scale={scale}.")
    return _bicubic_resize(image, (height // scale, width // scale), _CUBIC_RADIUS * scale)


def bicubic_upscale(image: Tensor, *, scale: int) -> Tensor:
    """Bicubic enlargement, MATLAB's ``imresize`` of an 8-bit picture.

    Args:
        image: (N, C, H, W) in [0, 1]; rounded to 8 bits first.
        scale: integer factor.

    Returns:
        (N, C, H*scale, W*scale) float32 in [0, 1] on the 256 levels.

    Source: as `bicubic_downscale`, with the kernel at its own width.
    """
    height, width = image.shape[-2:]
    return _bicubic_resize(image, (height * scale, width * scale), _CUBIC_RADIUS)


def _bicubic_resize(image: Tensor, size: tuple[int, int], margin: int) -> Tensor:
    """Resizes as MATLAB does: edge pixels continue, rows come first, each pass rounds to 8 bits.

    torch would weigh only what lies inside of the picture, so the picture is resized with a margin
    of repeated edge pixels, which is then cut off. On the levels 0...255 the sums are exact for
    scales that are powers of 2, in whatever order they are made: a half is a half, and rounded up.

    Args:
        image: (N, C, H, W) in [0, 1].
        size: H and W of the result.
        margin: px of the input that half the kernel covers; a whole number of px of the result.
    """
    height, width = image.shape[-2:]
    top, left = margin * size[0] // height, margin * size[1] // width
    levels = image.float().mul(255).round().clamp(0, 255)
    levels = F.pad(levels, (margin, margin, margin, margin), mode="replicate")
    padded_height = size[0] + 2 * top
    for padded_size in ((padded_height, width + 2 * margin), (padded_height, size[1] + 2 * left)):
        # antialias also when enlarging: without it torch's kernel has a = -0.75.
        levels = F.interpolate(levels, padded_size, mode="bicubic", antialias=True)
        levels = levels.clamp(0, 255).add(0.5).floor()
    return levels[..., top : top + size[0], left : left + size[1]] / 255


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


def _read_16_bits(content: bytes) -> NDArray[np.uint8]:
    """Rounds to 8 bits; Pillow drops the lower byte of 16-bit colour, OpenCV keeps it."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH  # applies the orientation, drops alpha
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise ValueError("its 16-bit pixels cannot be decoded")
    return ((image[..., ::-1].astype(np.uint32) + 128) // 257).astype(np.uint8)


@contextmanager
def _reasons_for(path: Path | str) -> Generator[None]:
    """Turns whatever a decoder raises about the file into one line."""
    try:
        yield
    except MemoryError:  # says nothing about the file
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"{path} cannot be read: not a known image format.") from error
    except Exception as error:  # decoders raise anything, from SyntaxError to struct.error
        if getattr(error, "errno", None) in _PASSING_ERRORS:
            raise
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(f"{path} cannot be read: {reason}.") from error
