"""EXIF that stays true when pixels are turned and enlarged and the format changes."""

from typing import Any

from PIL import ExifTags, Image

_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# TIFF mixes what it says about the photograph with what describes its pixels: strips, layers, the
# place of each px on the earth. These are of the first kind.
_ABOUT_THE_PHOTOGRAPH = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
    ExifTags.Base.Rating,
    ExifTags.Base.RatingPercent,
    ExifTags.Base.XPTitle,
    ExifTags.Base.XPComment,
    ExifTags.Base.XPAuthor,
    ExifTags.Base.XPKeywords,
    ExifTags.Base.XPSubject,
}


def portable_exif(exif: Image.Exif) -> bytes | None:
    """What EXIF says about the photograph, for a file of any format.

    The orientation, the thumbnail, and all that describes the file's pixels stay behind.

    Args:
        exif: of an open file.

    Returns:
        As Pillow takes it, with its head ``Exif`` and two zeros; None if nothing is left.

    Raises:
        Exception: of any kind, where the data are damaged.

    Source: Exif 2.32, section 4.6; TIFF 6.0, part 1.
    """
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag in _ABOUT_THE_PHOTOGRAPH:
            kept[tag] = value
    for directory, entries in directories(exif).items():
        kept[directory] = entries
    return kept.tobytes() if len(kept) else None


def directories(exif: Image.Exif) -> dict[int, dict[int, Any]]:
    """The entries of the directories inside the first, by tag; those that are not empty."""
    found: dict[int, dict[int, Any]] = {}
    for directory in _DIRECTORIES:
        if directory in exif and (entries := exif.get_ifd(directory)):
            if ExifTags.IFD.Interop in entries:  # lies inside once more
                entries = entries | {ExifTags.IFD.Interop: exif.get_ifd(ExifTags.IFD.Interop)}
            found[directory] = entries
    return found


def exif_of_size(exif: bytes, *, height: int, width: int) -> Image.Exif:
    """The same data, with these px where they name the picture's size."""
    sized = Image.Exif()
    sized.load(exif)
    entries = sized.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in sized else {}
    for tag, size in (
        (ExifTags.Base.ExifImageWidth, width),
        (ExifTags.Base.ExifImageHeight, height),
    ):
        if tag in entries:
            entries[tag] = size
    return sized
