import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from asrgan.pictures import Picture, decode_picture, read_picture, write_picture
from asrgan.pictures.exif import exif_of_size, portable_exif

Tag, Directory = ExifTags.Base, ExifTags.IFD


@pytest.fixture
def exif() -> Image.Exif:
    """What a camera writes, with an orientation and the size of the turned sensor."""
    exif = Image.Exif()
    exif[Tag.Make] = "Maker"
    exif[Tag.Orientation] = 6
    exif[Tag.Copyright] = "Somebody"
    exif[Tag.XResolution] = 300.0
    entries = exif.get_ifd(Directory.Exif)
    entries |= {Tag.ExifImageWidth: 8, Tag.ExifImageHeight: 6, Tag.ExposureTime: 0.004}
    entries[Tag.MakerNote] = b"secret\x00\x01"
    entries[Directory.Interop] = {1: "R98"}
    exif.get_ifd(Directory.GPSInfo).update({1: "N", 2: (51.0, 28.0, 38.5)})
    return exif


def jpeg(exif: Image.Exif) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        *((suffix, np.uint8) for suffix in (".jpg", ".png", ".webp", ".tif")),
        *((suffix, np.uint16) for suffix in (".png", ".tif")),
    ],
)
def test_exif_survives_every_format_with_the_new_size(
    exif: Image.Exif, suffix: str, dtype: type, tmp_path: Path
):
    picture = decode_picture(jpeg(exif), name="photograph.jpg")
    assert picture.colour.shape == (8, 6, 3)
    large = Picture(np.zeros((32, 24, 3), dtype), exif=picture.exif)
    write_picture(tmp_path / f"large{suffix}", large)
    with Image.open(tmp_path / f"large{suffix}") as image:
        written = image.getexif()
        assert written[Tag.Make] == "Maker"
        assert written[Tag.Copyright] == "Somebody"
        assert written[Tag.XResolution] == 300
        assert Tag.Orientation not in written
        entries = written.get_ifd(Directory.Exif)
        assert (entries[Tag.ExifImageWidth], entries[Tag.ExifImageHeight]) == (24, 32)
        assert entries[Tag.ExposureTime] == pytest.approx(0.004)
        assert entries[Tag.MakerNote] == b"secret\x00\x01"
        assert written.get_ifd(Directory.Interop)[1] == "R98"
        assert written.get_ifd(Directory.GPSInfo)[2] == (51.0, 28.0, 38.5)
    # And once more, from the new file.
    assert (
        read_picture(tmp_path / f"large{suffix}").exif
        == exif_of_size(picture.exif or b"", height=32, width=24).tobytes()
    )


def test_what_describes_the_stored_pixels_stays_behind(tmp_path: Path):
    stored = Picture(np.zeros((6, 8, 3), np.uint8), icc_profile=bytes(128))
    write_picture(tmp_path / "plain.tif", stored)
    with Image.open(tmp_path / "plain.tif") as image:
        assert len(image.getexif()) > 8
        assert portable_exif(image.getexif()) is None


def test_a_thumbnail_stays_behind(shared_folder: Path):
    path = shared_folder / "data" / "real" / "odd_formats" / "wolf_gray.jpg"
    with Image.open(path) as image:
        assert len(image.info["exif"]) > 8000
        assert image.getexif().get_ifd(Directory.IFD1)
    exif = read_picture(path).exif
    assert exif is not None
    assert len(exif) < 500
    assert b"Adobe Photoshop" in exif


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Tag data larger")  # Pillow's
def test_damaged_exif_is_left_out_and_said(exif: Image.Exif):
    content = jpeg(exif)
    start = content.index(b"Exif\x00\x00") + 6
    damaged = content[: start + 4] + b"\xff\xff\xff\x7f" + content[start + 8 :]
    picture = decode_picture(damaged, name="damaged.jpg")
    assert picture.exif is None
    assert picture.colour.shape == (6, 8, 3)
    assert picture.remarks == ("its EXIF is damaged and was left out",)


def test_tags_that_describe_the_small_picture_stay_behind():
    """The size of a px on the earth, and Photoshop's layers."""
    exif = Image.Exif()
    exif[33550] = (10.0, 10.0, 0.0)  # ModelPixelScale of GeoTIFF
    exif[37724] = bytes(1000)  # ImageSourceData
    exif[Tag.Copyright] = "Somebody"
    kept = portable_exif(exif)
    assert kept is not None
    assert dict(exif_of_size(kept, height=1, width=1)) == {Tag.Copyright: "Somebody"}
