from pathlib import Path, PurePosixPath

import pytest

from asrgan.errors import UserError
from asrgan.inference.jobs import Recipe
from asrgan.inference.jobs.recipe import identity
from asrgan.pictures import FORMATS


@pytest.mark.parametrize(
    ("original", "format_", "expected"),
    [
        ("a/b.jpg", None, "a/b.jpg"),
        ("a/b.JPEG", None, "a/b.JPEG"),
        ("a/b.gif", None, "a/b.png"),
        ("a/b", None, "a/b.png"),
        ("a/b.jpeg", "jpg", "a/b.jpeg"),
        ("a/b.c.tif", "webp", "a/b.c.webp"),
    ],
)
def test_a_picture_has_the_name_of_its_original(original: str, format_: str | None, expected: str):
    recipe = Recipe("w", format=format_)
    assert recipe.target(PurePosixPath(original)) == PurePosixPath(expected)


@pytest.mark.parametrize(
    ("bits", "original_bits", "format_", "expected"),
    [
        (None, 8, "png", 8),
        (None, 16, "png", 16),
        (None, 16, "jpg", 8),
        (8, 16, "tif", 8),
        (16, 8, "tif", 16),
        (16, 16, "jpg", 8),
    ],
)
def test_bits_are_the_originals_where_nothing_else_is_asked(
    bits: int | None, original_bits: int, format_: str, expected: int
):
    assert Recipe("w", bits=bits).bits_of(original_bits, FORMATS[format_]) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale_to": 0}, r"`scale_to` \(=0\) must be a whole number of px"),
        ({"scale_to": "a"}, r"`scale_to` \(=a\) must be a whole number of px"),
        ({"format": "gif"}, r"`format` \(=gif\) must be one of: jpg, png, webp, tif, bmp"),
        ({"quality": 0}, r"`quality` \(=0\) must be 1 to 100"),
        ({"bits": 12}, r"`bits` \(=12\) must be 8, 16 or null"),
        ({"bits": 16, "format": "jpg"}, r"`bits` \(=16\) is more than format=jpg holds"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        Recipe("w", **values)  # pyright: ignore[reportArgumentType]


def test_the_identity_is_of_what_changes_pictures(tmp_path: Path):
    for name, content in {"a": "one", "b": "one", "c": "two"}.items():
        (tmp_path / name).write_text(content)

    def of(name: str, **values: object) -> str:
        return identity(Recipe(str(tmp_path / name), **values).described())  # pyright: ignore[reportArgumentType]

    assert of("a") == of("b")
    assert len({of("a"), of("c"), of("a", quality=90), of("a", scale_to=2000)}) == 4
