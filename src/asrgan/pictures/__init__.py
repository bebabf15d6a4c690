"""Picture files with all that they hold: depth, alpha, grey, colour profile, EXIF."""

from asrgan.pictures.picture import Picture
from asrgan.pictures.reading import PictureHead, decode_picture, read_head, read_picture
from asrgan.pictures.writing import (
    FORMATS,
    PictureFormat,
    encode_picture,
    format_of,
    write_picture,
)

__all__ = [
    "FORMATS",
    "Picture",
    "PictureFormat",
    "PictureHead",
    "decode_picture",
    "encode_picture",
    "format_of",
    "read_head",
    "read_picture",
    "write_picture",
]
