"""Reads thousands of damaged pictures: each gives a picture or one line, soon and in little memory.

    python tests/fuzz_reader.py [--files 2400] [--seed 1]

Every format that `imaging` knows, in 8 and 16 bits, grey, with alpha and with EXIF data; damaged by
other bytes, by missing ones, by repeated ones and by lying sizes. Ends with exit code 1 if a file
gives anything else, and names the seed with which it comes back. `test_imaging` runs a short form.
"""

import argparse
import io
import signal
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import tifffile
from PIL import Image
from skimage import data

from asrgan.errors import UnreadableImageError
from asrgan.imaging import image_size, read_image

TIMEOUT_S = 20
LARGEST_PX = 200_000_000


class TooSlowError(Exception):
    """A file that keeps the reader busy."""


def main() -> None:
    """Prints a tally."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    tally, faults = fuzz(num_files=arguments.files, seed=arguments.seed)
    for outcome, count in sorted(tally.items()):
        print(f"{outcome:<40} {count:>6}")
    for fault in faults:
        print(fault)
    sys.exit(bool(faults))


def fuzz(*, num_files: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Damages and reads files.

    Returns:
        How many files of each format ended how; what should not have happened.
    """
    originals = list(_originals())
    tally: Counter[str] = Counter()
    faults: list[str] = []
    before = signal.signal(signal.SIGALRM, _refuse)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(num_files):
                suffix, content = originals[number % len(originals)]
                path = Path(folder) / f"damaged{suffix}"
                path.write_bytes(_damage(content, np.random.default_rng((seed, number))))
                try:
                    outcome = _read(path)
                except Exception as error:
                    outcome = "FAULT"
                    reason = f"{type(error).__name__}: {error}"
                    faults.append(f"seed {seed}, file {number} ({suffix}): {reason}")
                tally[f"{suffix} {outcome}"] += 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return tally, faults


def _read(path: Path) -> str:
    signal.alarm(TIMEOUT_S)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow remarks on damaged tags
        try:
            size = image_size(path)
        except UnreadableImageError as error:
            _check_line(error)
            size = None
        try:
            image = read_image(path)
        except UnreadableImageError as error:
            _check_line(error)
            return "refused"
    signal.alarm(0)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(f"{image.dtype} {image.shape}")
    if image.shape[0] * image.shape[1] > LARGEST_PX:
        raise ValueError(f"{image.shape} is a decompression bomb")
    # A damaged PNG may turn its picture by EXIF data behind its pixels.
    if size is not None and sorted(size) != sorted(image.shape[:2]):
        raise ValueError(f"image_size says {size}, read_image {image.shape}")
    return "read"


def _check_line(error: UnreadableImageError) -> None:
    if "\n" in str(error) or not str(error):
        raise ValueError(f"not one line: {str(error)!r}")


def _refuse(number: int, frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {TIMEOUT_S} s")


def _damage(content: bytes, generator: np.random.Generator) -> bytes:
    """One to three kinds of damage, half of them within the head."""
    damaged = bytearray(content)
    for _ in range(generator.integers(1, 4)):
        reach = min(len(damaged), 256) if generator.random() < 0.5 else len(damaged)
        place = int(generator.integers(0, max(1, reach)))
        length = int(generator.integers(1, 17))
        match generator.integers(0, 6):
            case 0:
                damaged[place : place + length] = generator.bytes(length)
            case 1:
                del damaged[place:]
            case 2:
                del damaged[place : place + length]
            case 3:
                damaged[place:place] = damaged[place : place + 16 * length]
            case 4:
                damaged[place : place + 4] = struct.pack(">I", int(generator.integers(2**32)))
            case _:
                damaged[place : place + 4] = generator.choice([b"\0" * 4, b"\xff" * 4])
        if not damaged:
            break
    return bytes(damaged)


def _originals() -> Iterator[tuple[str, bytes]]:
    colour = data.astronaut()[100:164, 180:276]
    grey, alpha = colour[..., 0], np.dstack([colour, colour[..., 1]])
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    for array in (colour, grey):
        for suffix, options in {
            ".jpg": {"quality": 90},
            ".jpeg": {"progressive": True},
            ".png": {},
            ".webp": {"quality": 80},
            ".tif": {"compression": "tiff_deflate"},
            ".tiff": {"compression": "tiff_lzw"},
            ".bmp": {},
        }.items():
            yield suffix, _encoded(array, suffix, **options)
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        yield suffix, _encoded(colour, suffix, exif=exif)
    for suffix in (".png", ".webp", ".tif"):
        yield suffix, _encoded(alpha, suffix)
    for array in (grey, colour, alpha):
        deep = array.astype(np.uint16) * 257
        file = io.BytesIO()
        tifffile.imwrite(file, deep, photometric="rgb" if array.ndim == 3 else "minisblack")
        yield ".tif", file.getvalue()
    yield ".png", _encoded(grey.astype(np.uint16) * 257, ".png")
    yield ".png", _encoded(np.array(Image.fromarray(colour).quantize(16)), ".png")
    frames = [Image.fromarray(np.roll(colour, 8 * i, axis=1)) for i in range(3)]
    for suffix in (".webp", ".png", ".tif"):
        file = io.BytesIO()
        frames[0].save(file, _FORMATS[suffix], save_all=True, append_images=frames[1:])
        yield suffix, file.getvalue()


_FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}


def _encoded(array: np.ndarray, suffix: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, _FORMATS[suffix], **options)
    return file.getvalue()


if __name__ == "__main__":
    main()
