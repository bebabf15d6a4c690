import errno
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.color
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from asrgan.errors import UnreadableImageError, UserError
from asrgan.imaging import (
    IMAGE_SUFFIXES,
    bicubic_downscale,
    bicubic_upscale,
    find_images,
    image_size,
    luma,
    quantize,
    read_image,
    to_array,
    to_tensor,
    write_image,
)

# How a picture lies in the file if a viewer has to turn it by this EXIF orientation.
STORED = {
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.swapaxes(0, 1),
    6: lambda shown: np.rot90(shown, 1),
    7: lambda shown: np.rot90(shown, 2).swapaxes(0, 1),
    8: lambda shown: np.rot90(shown, -1),
}
ORIENTATION_TAG = 0x0112


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.fixture
def deep_picture() -> NDArray[np.uint16]:
    """16 bits, among them values that a shift by 8 bits would get wrong."""
    image = np.random.default_rng(0).integers(0, 2**16, (6, 8, 3), dtype=np.uint16)
    image[0] = np.array([0, 128, 129, 255, 256, 385, 386, 65535])[:, None]
    return image


def rounded(deep_image: NDArray[np.uint16]) -> NDArray[np.float64]:
    return np.round(deep_image * (255 / 65535))


def with_orientation(png: bytes, orientation: int) -> bytes:
    """The same PNG with an eXIf chunk before its pixels."""
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:33] + chunk + png[33:]


def encoded(suffix: str, image: NDArray[np.uint16]) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def test_images_are_found_below_the_folder_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["b.png", "a/z.JPG", "a/b/c.tiff", "c.webp"]
    for name in [*names, "notes.txt", ".hidden.png", ".cache/d.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)] == sorted(
        names
    )


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent does not exist; give a folder"):
        find_images(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file is not a folder"):
        find_images(tmp_path / "file")


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".jpg", ".jpeg"}))
def test_what_is_written_without_loss_is_read_back(
    suffix: str, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "new folder" / f"picture{suffix}"
    write_image(path, picture)
    np.testing.assert_array_equal(read_image(path), picture)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_a_written_jpeg_is_close_to_its_picture(suffix: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    write_image(tmp_path / f"ramp{suffix}", ramp)
    difference = read_image(tmp_path / f"ramp{suffix}").astype(int) - ramp
    assert np.abs(difference).max() <= 4


def test_a_tensor_is_written_as_its_nearest_levels(
    picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    write_image(tmp_path / "picture.png", to_tensor(picture) + 0.4 / 255)
    np.testing.assert_array_equal(read_image(tmp_path / "picture.png"), picture)


def test_an_unknown_suffix_is_refused_with_the_known_ones(
    picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"picture\.gif names no image format; .*\.png"):
        write_image(tmp_path / "picture.gif", picture)


def test_a_full_disk_leaves_the_former_picture(
    picture: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.png"
    write_image(path, picture)

    def save_half(_: Image.Image, file: io.BytesIO, *__: object, **___: object) -> None:
        file.write(b"half a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save_half)
    with pytest.raises(OSError, match="No space left"):
        write_image(path, 255 - picture)
    np.testing.assert_array_equal(read_image(path), picture)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_becomes_three_equal_channels(
    mode: str, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    grey = Image.fromarray(picture).convert("1" if mode == "1" else "L")
    grey.convert(mode).save(tmp_path / "grey.png")
    expected = np.asarray(grey.convert("L"))[..., None].repeat(3, axis=-1)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), expected)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_leaves_the_colours_below_it(
    suffix: str, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (6, 8, 1), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([picture, alpha], axis=-1))
    options = {"exact": True, "lossless": True} if suffix == ".webp" else {}
    image.save(tmp_path / f"alpha{suffix}", **options)
    np.testing.assert_array_equal(read_image(tmp_path / f"alpha{suffix}"), picture)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(48))])
def test_a_palette_is_looked_up(
    transparency: int | bytes | None, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    image = Image.frombytes("P", (8, 6), bytes(range(48)))
    image.putpalette(picture.reshape(-1).tolist())
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "palette.png", **options)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), picture)


@pytest.mark.parametrize("suffix", [".tif", ".jpg"])
def test_cmyk_becomes_rgb(suffix: str, tmp_path: Path) -> None:
    inks = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]], np.uint8)
    colours = np.array([[255, 255, 255], [0, 255, 255], [255, 0, 0], [0, 0, 0]])
    blocks = inks.repeat(16, axis=0)[None].repeat(16, axis=0)
    Image.frombytes("CMYK", (64, 16), blocks.tobytes()).save(
        tmp_path / f"inks{suffix}", **({"quality": 100} if suffix == ".jpg" else {})
    )
    read = read_image(tmp_path / f"inks{suffix}")[8, 8::16].astype(int)
    np.testing.assert_allclose(read, colours, atol=3)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
def test_the_orientation_is_applied_once(
    suffix: str, orientation: int, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    shown = picture.repeat(8, axis=0).repeat(8, axis=1)  # whole JPEG blocks
    path = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    stored = np.ascontiguousarray(STORED[orientation](shown))
    Image.fromarray(stored).save(path, exif=exif, **options.get(suffix, {}))
    np.testing.assert_allclose(read_image(path), shown, atol=4 if suffix == ".jpg" else 0)
    assert image_size(path) == (48, 64)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_the_orientation_is_applied_once_to_16_bits(
    suffix: str, orientation: int, deep_picture: NDArray[np.uint16], tmp_path: Path
) -> None:
    path = tmp_path / f"turned{suffix}"
    stored = np.ascontiguousarray(STORED[orientation](deep_picture))
    if suffix == ".png":
        path.write_bytes(with_orientation(encoded(".png", stored[..., ::-1]), orientation))
    else:
        tifffile.imwrite(
            path,
            stored,
            photometric="rgb",
            extratags=[(ORIENTATION_TAG, "H", 1, orientation, True)],
        )
    np.testing.assert_array_equal(read_image(path), rounded(deep_picture))
    assert image_size(path) == (6, 8)


def test_16_bits_are_rounded_to_8(deep_picture: NDArray[np.uint16], tmp_path: Path) -> None:
    alpha = np.full((6, 8, 1), 30000, np.uint16)
    with_alpha = np.concatenate([deep_picture, alpha], axis=-1)
    (tmp_path / "rgb.png").write_bytes(encoded(".png", deep_picture[..., ::-1]))
    (tmp_path / "rgba.png").write_bytes(encoded(".png", with_alpha[..., [2, 1, 0, 3]]))
    tifffile.imwrite(tmp_path / "rgb.tif", deep_picture, photometric="rgb")
    tifffile.imwrite(tmp_path / "zip.tif", deep_picture, photometric="rgb", compression="zlib")
    tifffile.imwrite(tmp_path / "big endian.tif", deep_picture, photometric="rgb", byteorder=">")
    tifffile.imwrite(
        tmp_path / "rgba.tif", with_alpha, photometric="rgb", extrasamples=["unassalpha"]
    )
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 6
    for path in paths:
        np.testing.assert_array_equal(read_image(path), rounded(deep_picture), err_msg=path.name)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_16_bits_is_rounded_to_8(
    suffix: str, deep_picture: NDArray[np.uint16], tmp_path: Path
) -> None:
    grey = np.ascontiguousarray(deep_picture[..., 0])
    (tmp_path / f"grey{suffix}").write_bytes(encoded(suffix, grey))
    expected = rounded(grey)[..., None].repeat(3, axis=-1)
    np.testing.assert_array_equal(read_image(tmp_path / f"grey{suffix}"), expected)


def png_claiming(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


def test_what_cannot_be_read_is_named_with_its_reason(
    deep_picture: NDArray[np.uint16], tmp_path: Path
) -> None:
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "JPEG")
    contents = {
        "truncated.jpg": (whole.getvalue()[:-500], "truncated"),
        "deep.png": (encoded(".png", deep_picture)[:-80], "truncated"),
        "text.png": (b"once upon a time", "not a known image format"),
        "empty.png": (b"", "not a known image format"),
        "bomb.png": (png_claiming(20000, 20000), "million px"),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError, match=f"{name} cannot be read: .*{reason}"):
            read_image(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=r"absent\.png cannot be read: No such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(UnreadableImageError, match=r"text\.png cannot be read: not a known"):
        image_size(tmp_path / "text.png")
    with pytest.raises(UnreadableImageError, match="million px"):
        image_size(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("dtype", "photometric", "planar", "reason"),
    [
        (np.float32, "minisblack", None, "type F"),
        (np.int32, "minisblack", None, "type I"),
        (np.int16, "minisblack", None, "16-bit TIFF"),
        (np.uint16, "miniswhite", None, "16-bit TIFF"),
        (np.uint16, "rgb", "separate", "16-bit TIFF"),
    ],
)
def test_exotic_pixels_are_refused_rather_than_misread(
    dtype: type, photometric: str, planar: str | None, reason: str, tmp_path: Path
) -> None:
    image = np.zeros((3, 6, 8) if planar else (6, 8), dtype)
    path = tmp_path / "exotic.tif"
    tifffile.imwrite(path, image, photometric=photometric, planarconfig=planar)
    with pytest.raises(UnreadableImageError, match=rf"exotic\.tif .* {reason} .*not supported"):
        read_image(path)


def test_the_odd_formats_are_read(shared_folder: Path) -> None:
    paths = find_images(shared_folder / "data" / "real" / "odd_formats")
    assert len(paths) == 4
    for path in paths:
        image = read_image(path)
        assert image.dtype == np.uint8
        assert image.shape == (*image_size(path), 3)


def test_arrays_and_tensors_keep_every_level() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    array = np.stack([levels, levels[::-1], levels.T], axis=-1)
    tensor = to_tensor(array)
    assert tensor.shape == (3, 16, 16)
    assert tensor.is_contiguous()
    assert tensor[1, 0, 15] == 1
    np.testing.assert_array_equal(to_array(tensor), array)


def test_arrays_are_rounded_to_the_nearest_level() -> None:
    values = torch.tensor([-0.5, 0.49, 0.51, 99.6, 254.4, 300]) / 255
    array = to_array(values.expand(3, 1, 6))
    np.testing.assert_array_equal(array[0, :, 0], [0, 0, 1, 100, 254, 255])


def test_quantizing_gives_what_a_file_would_hold(tmp_path: Path) -> None:
    image = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    write_image(tmp_path / "image.png", image)
    assert torch.equal(quantize(image), to_tensor(read_image(tmp_path / "image.png")))
    assert torch.equal(quantize(quantize(image)), quantize(image))


def test_luma_is_that_of_scikit_image(picture: NDArray[np.uint8]) -> None:
    expected = skimage.color.rgb2ycbcr(picture)[..., 0]
    actual = luma(to_tensor(picture)[None])
    assert actual.shape == (1, 1, 6, 8)
    np.testing.assert_allclose(actual[0, 0] * 255, expected, atol=1e-4)


def test_luma_of_black_is_16_and_of_white_235() -> None:
    image = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    levels = luma(image)[:, 0, 0, 0] * 255
    torch.testing.assert_close(levels, torch.tensor([16.0, 235.0]))


def imresize_rows(levels: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """MATLAB's imresize of the rows of 8-bit levels, pixel by pixel as documented."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    stretch = min(factor, 1)
    result = np.empty((round(len(levels) * factor), *levels.shape[1:]))
    for row in range(len(result)):
        centre = (row + 0.5) / factor - 0.5
        taps = range(int(centre - 2 / stretch) - 1, int(centre + 2 / stretch) + 2)
        weights = np.array([cubic((tap - centre) * stretch) for tap in taps])
        inside = np.clip(taps, 0, len(levels) - 1)
        result[row] = np.tensordot(weights / weights.sum(), levels[inside], axes=1)
    return np.floor(result.clip(0, 255) + 0.5)


def imresize(image: NDArray[np.uint8], factor: float) -> NDArray[np.float64]:
    rows = imresize_rows(image.astype(np.float64), factor)
    return imresize_rows(rows.swapaxes(0, 1), factor).swapaxes(0, 1)


# With 3 the weights have no finite binary fraction, and a half may fall to either side.
@pytest.mark.parametrize(("scale", "tolerance"), [(2, 0), (3, 1), (4, 0), (8, 0)])
def test_bicubic_resizing_is_matlabs(scale: int, tolerance: int) -> None:
    image = np.random.default_rng(scale).integers(0, 256, (48, 24, 3), dtype=np.uint8)
    smaller = to_array(bicubic_downscale(to_tensor(image)[None], scale=scale)[0])
    np.testing.assert_allclose(smaller, imresize(image, 1 / scale), atol=tolerance)
    larger = to_array(bicubic_upscale(to_tensor(smaller)[None], scale=scale)[0])
    np.testing.assert_allclose(larger, imresize(smaller, scale), atol=tolerance)
    assert larger.shape == image.shape


@pytest.mark.parametrize("benchmark", ["Set5", "Set14"])
def test_the_published_lr_images_come_out_to_the_bit(benchmark: str, shared_folder: Path) -> None:
    folder = shared_folder / "data" / "benchmarks" / benchmark
    paths = find_images(folder / "HR")
    assert paths
    for path in paths:
        made = bicubic_downscale(to_tensor(read_image(path))[None], scale=4)[0]
        published = read_image(folder / "LRx4" / path.name)
        np.testing.assert_array_equal(to_array(made), published, err_msg=path.name)


def test_a_size_that_the_scale_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="48x50 must be divisible by scale=4"):
        bicubic_downscale(torch.zeros(1, 3, 48, 50), scale=4)


def test_linked_folders_are_searched_once_also_in_a_circle(tmp_path: Path):
    write_image(tmp_path / "elsewhere" / "a.png", np.zeros((4, 4, 3), np.uint8))
    folder = tmp_path / "photographs"
    write_image(folder / "sub" / "b.png", np.zeros((4, 4, 3), np.uint8))
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "sub" / "circle").symlink_to(folder)
    found = [path.relative_to(folder).as_posix() for path in find_images(folder)]
    assert found == ["linked/a.png", "sub/b.png"]


def test_a_passing_fault_of_the_disk_does_not_condemn_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_image(tmp_path / "a.png")
    assert not isinstance(caught.value, UnreadableImageError)


def test_damaged_files_are_read_or_refused_in_one_line():
    script = Path(__file__).with_name("fuzz_reader.py")
    done = subprocess.run(
        [sys.executable, str(script), "--files", "150"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "refused" in done.stdout
    assert " read " in done.stdout
