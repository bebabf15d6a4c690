"""Files, arrays and tensors of pictures: the one home of ranges, rounding, colour and resizing.

Arrays are uint8 (H, W, 3), tensors are float in [0, 1] with channels first; both are RGB.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from asrgan.errors import UserError
from asrgan.pictures import FORMATS, Picture, read_head, read_picture, write_picture

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    suffix for format_ in FORMATS.values() for suffix in format_.suffixes
)

_RESIZED_ROWS = 128  # of a band at a time
_CUBIC_RADIUS = 2  # half the width of the cubic kernel, in samples of the coarser grid


NO_IMAGE = "is no image file by its name"


def find_images(
    folder: Path | str,
    *,
    report: Callable[[Path, str], None] | None = None,
    skip_closed: bool = False,
) -> list[Path]:
    """All image files below a folder, sorted by their path relative to it.

    Files are recognised by `IMAGE_SUFFIXES`; whatever is hidden (leading dot) is left out. Links to
    folders are followed, each folder once.

    Args:
        folder: searched with everything below it.
        report: is told of each path that is passed over, and why: a clause.
        skip_closed: a folder below that cannot be searched is passed over, too.

    Raises:
        UserError: the folder does not exist or is a file, or a folder below it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        fault = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"the image folder {folder} {fault}; give a folder of image files.")

    def pass_over(path: Path, reason: str) -> None:
        if report is not None:
            report(path, reason)

    def refuse(error: OSError) -> None:
        if not skip_closed:
            raise UserError(f"{error.filename} cannot be searched: {error.strerror}.")
        pass_over(Path(error.filename), f"cannot be searched: {error.strerror}")

    images: list[Path] = []
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(root)
        if real in seen:  # a linked folder may lie above itself
            pass_over(Path(root), "leads to a folder that is searched already")
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(root, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                pass_over(path, NO_IMAGE)
            elif not path.is_file():
                pass_over(path, "leads to no file")
            else:
                images.append(path)
    return sorted(images, key=Path.as_posix)


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """A photograph as 8-bit RGB.

    As `read_picture`, and then grey becomes RGB, 16 bits are rounded to 8, and alpha is dropped:
    the colours below it stay as they are stored. Colour profiles are not applied.

    Returns:
        (H, W, 3).

    Raises:
        UnreadableImageError: as `read_picture`.
    """
    return to_rgb(read_picture(path))


def to_rgb(picture: Picture) -> NDArray[np.uint8]:
    """The colours of a picture as 8-bit RGB: grey becomes RGB, 16 bits are rounded to 8.

    Returns:
        (H, W, 3).
    """
    colour = picture.with_bits(8).colour
    return colour if colour.ndim == 3 else colour[..., None].repeat(3, axis=-1)


def image_size(path: Path | str) -> tuple[int, int]:
    """Height and width in px, as `read_image` would return them, from the file's head alone.

    Raises:
        UnreadableImageError: as `read_head`.
    """
    head = read_head(path)
    return head.height, head.width


def write_image(path: Path | str, image: NDArray[np.uint8] | Tensor) -> None:
    """Writes a picture in the format that the suffix names; it appears whole or not at all.

    Args:
        path: suffix out of `IMAGE_SUFFIXES`; missing parent folders are made. JPEG is the only
            format that loses anything.
        image: (H, W, 3) uint8, or a tensor as `to_array` takes it.

    Raises:
        UserError: unknown suffix.
        OSError: the disk is full, or the folder cannot be written.
    """
    array = to_array(image) if isinstance(image, Tensor) else image
    write_picture(path, Picture(array))


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


def resize_bands(
    bands: Iterable[Tensor], *, height: int, size: tuple[int, int]
) -> Iterator[Tensor]:
    """Bicubic resizing of a picture that comes, and goes, in bands of rows.

    The whole picture is never in memory. The kernel is that of `bicubic_downscale`, widened
    (antialiased) where a side shrinks. Nothing is rounded, and at the picture's edges the kernel
    is cut off and weighs what is left, as Pillow and torch do.

    Args:
        bands: (C, rows, W) float32 each, from top to bottom.
        height: of all bands together, px.
        size: H and W of the result.

    Yields:
        (C, rows, W of the result), as soon as all that they are made of has come.
    """
    ratio = height / size[0]
    taps = [_taps((row + 0.5) * ratio, ratio, height) for row in range(size[0])]
    kept, first, next_row = torch.empty(0), 0, 0  # rows that are still needed, from `first` on
    for rows in (part for band in bands for part in band.split(_RESIZED_ROWS, dim=1)):
        narrow_size = (rows.shape[1], size[1])
        narrow = F.interpolate(rows[None], narrow_size, mode="bicubic", antialias=True)[0]
        kept = torch.cat([kept, narrow], dim=1) if kept.numel() else narrow
        stop_row = next_row
        while stop_row < size[0] and taps[stop_row][0] + len(taps[stop_row][1]) <= (
            first + kept.shape[1]
        ):
            stop_row += 1
        if stop_row > next_row:
            weights = torch.zeros(stop_row - next_row, kept.shape[1])
            for row in range(next_row, stop_row):
                start, row_weights = taps[row]
                weights[row - next_row, start - first : start - first + len(row_weights)] = (
                    row_weights
                )
            yield weights @ kept
            next_row = stop_row
            needed = taps[next_row][0] if next_row < size[0] else height
            kept, first = kept[:, needed - first :], needed


def _taps(centre: float, ratio: float, height: int) -> tuple[int, Tensor]:
    """The first row that a row of the result is made of, and the weights of it and those below."""
    stretch = max(ratio, 1)
    radius = _CUBIC_RADIUS * stretch
    start, stop = max(0, int(centre - radius + 0.5)), min(height, int(centre + radius + 0.5))
    x = (torch.arange(start, stop, dtype=torch.float64) + 0.5 - centre).div(stretch).abs()
    inner, outer = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = torch.where(x <= 1, inner, outer)
    return start, (weights / weights.sum()).float()


def shrink(image: NDArray[np.uint8], *, factor: float) -> NDArray[np.uint8]:
    """Antialiased bicubic reduction of a photograph by any factor, as Pillow makes it.

    Args:
        image: (H, W, 3).
        factor: at least 1, which leaves the picture as it is.

    Returns:
        (round(H/factor), round(W/factor), 3), each side at least 1 px.
    """
    if factor == 1:
        return image
    height, width = (max(1, round(side / factor)) for side in image.shape[:2])
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


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
