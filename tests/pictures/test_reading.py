import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from asrgan.errors import UnreadableImageError
from asrgan.pictures import decode_picture, read_head, read_picture

rng = np.random.default_rng(0)
GREY = rng.integers(0, 2**16, (6, 8), dtype=np.uint16)
COLOUR = rng.integers(0, 2**16, (6, 8, 3), dtype=np.uint16)
ALPHA = rng.integers(0, 2**16, (6, 8), dtype=np.uint16)


def deep_png(*planes: NDArray[np.uint16], colour_type: int, transparent: bytes = b"") -> bytes:
    """A PNG of 16 bits without filters, byte by byte from the specification."""
    pixels = np.dstack(planes)
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in pixels)
    size = struct.pack(">II", pixels.shape[1], pixels.shape[0])
    chunks = [(b"IHDR", size + bytes([16, colour_type, 0, 0, 0])), (b"iCCP", b"a\x00\x00nonsense")]
    chunks += [(b"tRNS", transparent)] if transparent else []
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def encoded(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "colour", "alpha"),
    [
        (deep_png(GREY, colour_type=0), GREY, None),
        (deep_png(GREY, ALPHA, colour_type=4), GREY, ALPHA),
        (deep_png(COLOUR, colour_type=2), COLOUR, None),
        (deep_png(COLOUR, ALPHA, colour_type=6), COLOUR, ALPHA),
    ],
    ids=["grey", "grey with alpha", "colour", "colour with alpha"],
)
def test_16_bits_of_png_come_whole(
    content: bytes, colour: NDArray[np.uint16], alpha: NDArray[np.uint16] | None, tmp_path: Path
):
    (tmp_path / "deep.png").write_bytes(content)
    picture, head = read_picture(tmp_path / "deep.png"), read_head(tmp_path / "deep.png")
    assert picture.colour.dtype == np.uint16
    np.testing.assert_array_equal(picture.colour, colour)
    np.testing.assert_array_equal(np.array(picture.alpha), np.array(alpha))
    assert (head.height, head.width, head.num_bits) == (6, 8, 16)


def test_libpng_says_nothing_on_stderr(capfd: pytest.CaptureFixture[str]):
    decode_picture(deep_png(COLOUR, colour_type=2), name="deep.png")
    assert capfd.readouterr() == ("", "")


def test_the_transparent_level_of_16_bits_becomes_alpha():
    colour, grey = COLOUR.copy(), GREY.copy()
    colour[1, 2], grey[1, 2] = (1, 2, 3), 7
    hole = np.full((6, 8), 65535, np.uint16)
    hole[1, 2] = 0
    key = struct.pack(">HHH", 1, 2, 3)
    picture = decode_picture(deep_png(colour, colour_type=2, transparent=key), name="key.png")
    np.testing.assert_array_equal(picture.alpha, hole)
    key = struct.pack(">H", 7)
    picture = decode_picture(deep_png(grey, colour_type=0, transparent=key), name="key.png")
    np.testing.assert_array_equal(picture.alpha, hole)
    np.testing.assert_array_equal(picture.colour, grey)


def test_alpha_of_16_bit_tiff_is_taken_as_the_file_means_it():
    rgba = np.dstack([COLOUR, ALPHA])

    def read(kind: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16] | None]:
        file = io.BytesIO()
        tifffile.imwrite(file, rgba, photometric="rgb", extrasamples=[kind])
        picture = decode_picture(file.getvalue(), name="rgba.tif")
        return picture.colour, picture.alpha

    colour, alpha = read(2)
    np.testing.assert_array_equal(np.dstack([colour, np.array(alpha)]), rgba)
    colour, alpha = read(0)
    np.testing.assert_array_equal(colour, COLOUR)
    assert alpha is None
    colour, alpha = read(1)  # multiplied into the colours
    expected = np.minimum(COLOUR / np.maximum(ALPHA, 1)[..., None] * 65535.0, 65535)
    np.testing.assert_allclose(colour, expected, atol=0.51)
    np.testing.assert_array_equal(alpha, ALPHA)


@pytest.mark.parametrize(
    ("mode", "shape", "has_alpha"),
    [
        ("1", (6, 8), False),
        ("L", (6, 8), False),
        ("LA", (6, 8), True),
        ("P", (6, 8, 3), False),
        ("RGB", (6, 8, 3), False),
        ("RGBA", (6, 8, 3), True),
    ],
)
def test_grey_stays_grey_and_alpha_is_kept_apart(
    mode: str, shape: tuple[int, ...], has_alpha: bool, tmp_path: Path
):
    pixels = np.dstack([COLOUR, ALPHA]).astype(np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert("RGB").convert(mode) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "picture.png")
    picture, head = read_picture(tmp_path / "picture.png"), read_head(tmp_path / "picture.png")
    assert picture.colour.shape == shape
    expected = np.array(image.convert("L" if len(shape) == 2 else "RGB"))
    np.testing.assert_array_equal(picture.colour, expected)
    assert (picture.alpha is not None) == has_alpha
    if has_alpha:
        np.testing.assert_array_equal(picture.alpha, pixels[..., 3])
    assert head.num_channels == (1 if len(shape) == 2 else 3) + has_alpha
    assert head.num_bits == 8


def test_the_transparent_entries_of_a_palette_and_of_grey_become_alpha():
    image = Image.frombytes("P", (8, 6), bytes(range(48)))
    image.putpalette(COLOUR.astype(np.uint8).reshape(-1).tolist())
    content = encoded(image, transparency=bytes(range(48)))
    picture = decode_picture(content, name="palette.png")
    np.testing.assert_array_equal(picture.alpha, np.arange(48).reshape(6, 8))
    np.testing.assert_array_equal(picture.colour, COLOUR.astype(np.uint8))
    grey = Image.frombytes("L", (8, 6), bytes(range(48)))
    picture = decode_picture(encoded(grey, transparency=5), name="grey.png")
    np.testing.assert_array_equal(picture.colour, np.arange(48).reshape(6, 8))
    assert picture.alpha is not None
    assert np.flatnonzero(picture.alpha == 0).tolist() == [5]


@pytest.mark.parametrize(("depth", "levels"), [(1, [0, 1]), (2, [0, 3, 1]), (4, [0, 15, 7])])
def test_the_transparent_level_of_few_bits_becomes_alpha(depth: int, levels: list[int]):
    """As optimizers of PNG write grey."""
    bits = "".join(f"{level:0{depth}b}" for level in levels).ljust(8, "0")
    row = b"\0" + int(bits[:8], 2).to_bytes() + int(bits[8:].ljust(8, "0"), 2).to_bytes()
    header = struct.pack(">IIBBBBB", len(levels), 1, depth, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, part in (
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", levels[1])),
        (b"IDAT", zlib.compress(row[: 1 + -(-depth * len(levels) // 8)])),
        (b"IEND", b""),
    ):
        content += struct.pack(">I", len(part)) + kind + part
        content += struct.pack(">I", zlib.crc32(kind + part))
    picture = decode_picture(content, name="a.png")
    white = 2**depth - 1
    assert picture.colour.tolist() == [[level * 255 // white for level in levels]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[255 * (level != levels[1]) for level in levels]]


def test_a_picture_of_too_many_px_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    content = encoded(Image.new("L", (21, 1)))
    with pytest.raises(UnreadableImageError, match="has more than 0 million px; cut it into parts"):
        decode_picture(content, name="a.png")


def test_the_profile_is_kept_and_cmyk_becomes_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("RGB", (8, 6), (200, 10, 30))
    assert decode_picture(encoded(image, icc_profile=srgb), name="a.png").icc_profile == srgb
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    picture = decode_picture(encoded(inks, "JPEG", quality=100), name="inks.jpg")
    assert picture.remarks == ("CMYK became RGB without a profile",)
    np.testing.assert_allclose(picture.colour[0, 0], [255, 0, 0], atol=3)
    # A profile that is none of CMYK cannot be used.
    picture = decode_picture(encoded(inks, "JPEG", icc_profile=srgb), name="inks.jpg")
    assert picture.remarks == ("CMYK became RGB without a profile",)
    assert picture.icc_profile is None


def test_frames_are_counted():
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    for format_ in ("PNG", "WEBP", "TIFF", "GIF"):
        content = encoded(frames[0], format_, save_all=True, append_images=frames[1:])
        assert decode_picture(content, name="moving").num_frames == 3, format_
    telephone = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert decode_picture(telephone, name="telephone.jpg").num_frames == 1


@pytest.mark.parametrize("cut", [4, 40, 400])
def test_a_truncated_16_bit_png_is_refused(cut: int):
    whole = cv2.imencode(".png", rng.integers(0, 2**16, (64, 64, 3), dtype=np.uint16))[1].tobytes()
    with pytest.raises(UnreadableImageError, match=r"deep\.png cannot be read"):
        decode_picture(whole[:-12][:-cut], name="deep.png")
