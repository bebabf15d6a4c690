from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from asrgan.imaging import bicubic_downscale, resize_bands, to_array, to_tensor
from asrgan.inference import Upscaler
from asrgan.inference.enlarging import consistency_db, enlarge, enlarged_size
from asrgan.metrics import psnr_rgb
from asrgan.models import BicubicUpscaler
from asrgan.pictures import Picture

COLOUR = data.astronaut()[100:130, 200:221]
GREY = COLOUR[..., 1]


@pytest.fixture(scope="module")
def network(tiny_weights: Callable[[int], Path]) -> Upscaler:
    return Upscaler.from_file(tiny_weights(4), device="cpu", precision="float32")


@pytest.fixture(scope="module")
def bicubic() -> Upscaler:
    return Upscaler(BicubicUpscaler(scale=4), memory_bytes=None, device="cpu", precision="float32")


@pytest.mark.parametrize(
    ("scale_to", "expected"),
    [(None, (1200, 1600)), (2000, (1500, 2000)), (1000, (750, 1000)), (400, (300, 400))],
)
def test_the_long_side_gets_exactly_the_length_asked_for(
    scale_to: int | None, expected: tuple[int, int]
):
    assert enlarged_size(300, 400, scale=4, scale_to=scale_to) == expected
    assert enlarged_size(400, 300, scale=4, scale_to=scale_to) == expected[::-1]


def test_a_picture_that_is_long_enough_keeps_its_size():
    assert enlarged_size(300, 401, scale=4, scale_to=400) == (300, 401)
    assert enlarged_size(1, 1000, scale=4, scale_to=2000) == (2, 2000)
    assert enlarged_size(1, 5000, scale=4, scale_to=2000) == (1, 5000)


def test_a_picture_is_what_the_network_makes_of_it(network: Upscaler):
    enlarged = enlarge(Picture(COLOUR, exif=b"e"), network, size=(120, 84), bits=8)
    expected = to_array(network.upscale(to_tensor(COLOUR)))
    np.testing.assert_array_equal(enlarged.colour, expected)
    assert enlarged.alpha is None
    assert enlarged.exif == b"e"


def test_16_bits_are_not_rounded_to_8(network: Upscaler):
    deep = COLOUR.astype(np.uint16) * 257
    enlarged = enlarge(Picture(deep), network, size=(120, 84), bits=16)
    expected = network.upscale(to_tensor(COLOUR)).clamp(0, 1).mul(65535).round()
    assert enlarged.colour.dtype == np.uint16
    np.testing.assert_allclose(
        enlarged.colour.transpose(2, 0, 1).astype(np.float32), expected.numpy(), atol=1
    )
    assert len(np.unique(enlarged.colour)) > 5000


def test_grey_stays_grey_also_where_it_is_stored_as_colour(network: Upscaler):
    grey = enlarge(Picture(GREY), network, size=(120, 84), bits=8).colour
    assert grey.shape == (120, 84)
    stored = Picture(GREY[..., None].repeat(3, axis=-1))
    colour = enlarge(stored, network, size=(120, 84), bits=8).colour
    np.testing.assert_array_equal(colour, grey[..., None].repeat(3, axis=-1))


def test_alpha_stays_within_what_is_around_it(network: Upscaler):
    alpha = np.zeros((30, 21), np.uint8)
    alpha[5:20] = 255
    alpha[20:] = 77
    enlarged = enlarge(Picture(COLOUR, alpha), network, size=(120, 84), bits=8).alpha
    assert enlarged is not None
    # Random weights would make anything of it; only the rows beside an edge may change.
    for first, last, level in ((0, 16, 0), (24, 76, 255), (84, 120, 77)):
        assert (enlarged[first:last] == level).all()
    assert 77 <= enlarged[76:84].min() <= enlarged[76:84].max() <= 255


@pytest.mark.parametrize("size", [(63, 44), (120, 84), (200, 140)])
def test_the_rest_of_the_way_is_bicubic(bicubic: Upscaler, size: tuple[int, int]):
    enlarged = enlarge(Picture(COLOUR), bicubic, size=size, bits=8)
    whole = bicubic.upscale(to_tensor(COLOUR))[None]
    expected = torch.nn.functional.interpolate(whole, size, mode="bicubic", antialias=True)[0]
    difference = enlarged.colour.astype(int) - to_array(expected)
    assert np.abs(difference).max() <= 1


def test_consistency_is_that_of_the_metrics(bicubic: Upscaler):
    original = Picture(data.coffee()[100:164, 200:272])
    enlarged = enlarge(original, bicubic, size=(256, 288), bits=8)
    reduced = bicubic_downscale(to_tensor(enlarged.colour)[None], scale=4)
    expected = psnr_rgb(reduced, to_tensor(original.colour)[None], border=0)
    assert consistency_db(enlarged, original) == pytest.approx(expected.item(), abs=0.2)


def test_consistency_is_infinite_where_nothing_was_changed():
    flat = Picture(np.full((8, 8, 3), 90, np.uint8))
    large = Picture(np.full((30, 30, 3), 90, np.uint8))
    assert consistency_db(large, flat) == float("inf")
    deep = Picture(np.full((30, 30), 90 * 257, np.uint16))
    assert consistency_db(deep, Picture(flat.colour[..., 0])) == float("inf")


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
@pytest.mark.parametrize(
    ("before", "after"),
    [((40, 31), (10, 7)), ((41, 30), (17, 13)), ((9, 5), (20, 31)), ((300, 2), (299, 2))],
)
def test_resizing_in_bands_is_that_of_the_whole_picture(
    before: tuple[int, int], after: tuple[int, int], rows: int
):
    image = torch.rand(3, *before, generator=torch.Generator().manual_seed(0))
    bands = list(resize_bands(image.split(rows, dim=1), height=before[0], size=after))
    whole = torch.nn.functional.interpolate(image[None], after, mode="bicubic", antialias=True)[0]
    torch.testing.assert_close(torch.cat(bands, dim=1), whole, atol=1e-4, rtol=0)
    if rows == 1 and before[0] > after[0]:
        assert len(bands) > 1
