import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from asrgan.errors import UserError
from asrgan.pictures import FORMATS, Picture, encode_picture, format_of, read_picture, write_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random_picture(dtype: type, *, is_grey: bool, has_alpha: bool) -> Picture:
    """More than one block of rows, and a last one that is not full."""
    rng = np.random.default_rng(0)
    shape = (301, 1201) if is_grey else (301, 1201, 3)
    levels = np.iinfo(dtype).max + 1
    return Picture(
        rng.integers(0, levels, shape, dtype),
        rng.integers(0, levels, shape[:2], dtype) if has_alpha else None,
        icc_profile=None if is_grey else SRGB,
    )


@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", np.uint8), (".png", np.uint16), (".webp", np.uint8), (".tif", np.uint8)],
)
def test_what_is_written_is_read_back(
    suffix: str, dtype: type, is_grey: bool, has_alpha: bool, tmp_path: Path
):
    picture = random_picture(dtype, is_grey=is_grey, has_alpha=has_alpha)
    write_picture(tmp_path / f"picture{suffix}", picture)
    read = read_picture(tmp_path / f"picture{suffix}")
    assert read.colour.dtype == dtype
    if suffix == ".webp" and is_grey:
        assert (read.colour == read.colour[..., :1]).all()
        np.testing.assert_array_equal(read.colour[..., 0], picture.colour)
    else:
        np.testing.assert_array_equal(read.colour, picture.colour)
    np.testing.assert_array_equal(np.array(read.alpha), np.array(picture.alpha))
    assert read.icc_profile == picture.icc_profile


@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_is_what_tifffile_and_opencv_read(dtype: type, is_grey: bool, has_alpha: bool):
    picture, file = random_picture(dtype, is_grey=is_grey, has_alpha=has_alpha), io.BytesIO()
    encode_picture(file, picture, FORMATS["tif"])
    planes = [picture.colour] if picture.alpha is None else [picture.colour, picture.alpha]
    expected = np.dstack(planes).squeeze()
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), expected)
        assert tiff.pages[0].tags.get(34675) is None if is_grey else tiff.pages[0].iccprofile
    if not has_alpha or (dtype == np.uint16 and not is_grey):  # others OpenCV misreads
        content = np.frombuffer(file.getvalue(), np.uint8)
        bgr = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
        order = [2, 1, 0, 3][: expected.shape[-1]]
        np.testing.assert_array_equal(bgr if is_grey else bgr[..., order], expected)


@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("is_grey", [False, True])
def test_png_of_16_bits_is_what_opencv_reads(is_grey: bool, has_alpha: bool):
    picture, file = random_picture(np.uint16, is_grey=is_grey, has_alpha=has_alpha), io.BytesIO()
    encode_picture(file, picture, FORMATS["png"])
    with Image.open(file) as image:
        image.load()  # checks the sums of the chunks
        assert image.size == (1201, 301)
    bgr = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
    colour = bgr[..., 2::-1] if bgr.ndim == 3 else bgr[..., None].repeat(3, axis=-1)
    expected = np.dstack([picture.colour] * 3) if is_grey else picture.colour
    np.testing.assert_array_equal(colour, expected)
    if picture.alpha is not None:
        np.testing.assert_array_equal(bgr[..., 3], picture.alpha)


def ramp(side: int = 64) -> NDArray[np.uint8]:
    return np.linspace(0, 255, side * side).reshape(side, side).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_quality_is_the_size_of_the_file(suffix: str, tmp_path: Path):
    noise = Picture(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    sizes: list[int] = []
    for quality in (10, 50, 95):
        write_picture(tmp_path / f"{quality}{suffix}", noise, quality=quality)
        sizes.append((tmp_path / f"{quality}{suffix}").stat().st_size)
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2


def test_a_grey_jpeg_stays_grey_with_its_profile(tmp_path: Path):
    write_picture(tmp_path / "grey.jpg", Picture(ramp(), icc_profile=SRGB))
    with Image.open(tmp_path / "grey.jpg") as image:
        assert image.mode == "L"
        assert image.info["icc_profile"] == SRGB


@pytest.mark.parametrize("has_alpha", [False, True])
def test_the_colours_of_a_grey_profile_are_kept_in_webp(
    has_alpha: bool, shared_folder: Path, tmp_path: Path
):
    grey = read_picture(shared_folder / "data" / "real" / "odd_formats" / "wolf_gray.jpg")
    assert grey.icc_profile is not None
    alpha = np.full_like(grey.colour, 100) if has_alpha else None
    write_picture(tmp_path / "wolf.webp", Picture(grey.colour, alpha, grey.icc_profile))
    written = read_picture(tmp_path / "wolf.webp")
    assert written.icc_profile is None
    # Gray of gamma 1.8 with dot gain 15%, seen in sRGB.
    profile = ImageCms.ImageCmsProfile(io.BytesIO(grey.icc_profile))
    seen = ImageCms.profileToProfile(
        Image.fromarray(grey.colour), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    np.testing.assert_array_equal(written.colour, np.array(seen))
    np.testing.assert_array_equal(np.array(written.alpha), np.array(alpha))


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path):
    colour = np.zeros((4, 4, 3), np.uint8)
    half = Picture(colour, np.full((4, 4), 128, np.uint8))
    with pytest.raises(UserError, match="JPEG holds no transparency; try format=png"):
        write_picture(tmp_path / "a.jpg", half)
    with pytest.raises(UserError, match=r"WebP holds sides of at most 16383 px.* 20000x1;"):
        write_picture(tmp_path / "a.webp", Picture(np.zeros((1, 20000), np.uint8)))
    with pytest.raises(UserError, match="names no image format"):
        format_of("a.gif")
    assert list(tmp_path.iterdir()) == []
    write_picture(tmp_path / "a.jpg", Picture(colour, np.full((4, 4), 255, np.uint8)))  # opaque
    assert read_picture(tmp_path / "a.jpg").alpha is None
