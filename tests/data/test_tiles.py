import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data, filters

from asrgan.data import Tiling
from asrgan.data.tiles import GRID_PX, decode_tile, roughness
from asrgan.errors import UserError

TILING = Tiling(
    tile_size_px=64,
    overlap_px=16,
    downscale=1,
    minimum_size_px=16,
    flat_below=0,
    flat_kept=0,
    tile_format="png",
    quality=None,
)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    generator = np.random.default_rng((height, width))
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("size", "overlap"), [(64, 16), (64, 48), (480, 96), (32, 0)])
def test_tiles_cover_every_crop_up_to_the_overlap_and_are_large_enough(size: int, overlap: int):
    tiling = replace(TILING, tile_size_px=size, overlap_px=overlap)
    for length in range(1, 2200, 7):
        spans = list(tiling.spans(length))
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(start % GRID_PX == 0 for start, _ in spans)
        if length <= size:
            assert spans == [(0, length)]
        else:
            assert all(size <= stop - start for start, stop in spans)
        for (_, stop), (start, _) in itertools.pairwise(spans):
            assert stop - start == overlap  # so a crop of the overlap's size that begins before
            # `start` ends before `stop`, and any other begins inside of the next tile


def test_tiles_stay_small():
    spans = list(replace(TILING, tile_size_px=480, overlap_px=96).spans(2040))
    assert [stop - start for start, stop in spans] == [480, 480, 480, 496, 488]


def test_a_lossless_tile_is_the_window_that_it_names():
    image = noise(100, 210)
    for format_ in ("png", "webp"):
        tiles, _ = replace(TILING, tile_format=format_).cut(image, name="a")
        assert len(tiles) == 4
        for tile in tiles:
            window = image[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
            np.testing.assert_array_equal(decode_tile(tile.content), window)


def test_a_tile_that_keeps_the_blocks_of_its_source_loses_next_to_nothing():
    file = io.BytesIO()
    Image.fromarray(data.astronaut()).save(file, "JPEG", quality=95, subsampling=0)
    source = np.array(Image.open(file))
    tiles, _ = replace(TILING, tile_format="jpg", tile_size_px=128).cut(source, name="a")
    for tile in tiles:
        window = source[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
        error = (decode_tile(tile.content).astype(float) - window) ** 2
        assert 10 * np.log10(255**2 / error.mean()) > 50


@pytest.mark.parametrize("format_", ["jpg", "webp", "png"])
def test_tiles_are_decoded_as_pillow_decodes_them(format_: str):
    tiles, _ = replace(TILING, tile_format=format_).cut(data.coffee()[:90, :130], name="a")
    for tile in tiles:
        expected = np.array(Image.open(io.BytesIO(tile.content)))
        np.testing.assert_array_equal(decode_tile(tile.content), expected)


def test_the_reduction_is_antialiased_and_takes_off_the_blocks_of_jpeg():
    file = io.BytesIO()
    Image.fromarray(data.astronaut()).save(file, "JPEG", quality=20)
    blocky = np.array(Image.open(file))

    def blockiness(image: NDArray[np.uint8]) -> float:
        steps = np.abs(np.diff(image.astype(float), axis=1)).mean(axis=(0, 2))
        return steps[7::8].mean() / steps.mean()

    reduced = replace(TILING, downscale=2.5).reduce(blocky)
    assert reduced.shape == (205, 205, 3)
    assert blockiness(blocky) > 1.15
    assert blockiness(reduced) < 1.05
    checkers = np.indices((64, 64)).sum(axis=0)[..., None].repeat(3, axis=-1) % 2 * 255
    grey = replace(TILING, downscale=2).reduce(checkers.astype(np.uint8))
    assert np.abs(grey[4:-4, 4:-4].astype(int) - 127).max() <= 1
    assert TILING.reduce(blocky) is blocky


def test_roughness_is_low_where_little_changes():
    assert roughness(np.full((16, 16, 3), 99, np.uint8)) == 0
    ramp = np.arange(16, dtype=np.uint8)[None, :, None].repeat(16, axis=0).repeat(3, axis=-1)
    assert roughness(ramp) == pytest.approx(0.5)  # one level across, none along
    texture = data.brick()[:128, :128, None].repeat(3, axis=-1)
    blurred = filters.gaussian(texture, 8, channel_axis=-1, preserve_range=True).astype(np.uint8)
    assert roughness(blurred) < 1 < 4 < roughness(texture)
    assert roughness(np.zeros((1, 5, 3), np.uint8)) == 0


def test_flat_tiles_are_thinned_by_name_and_place_alone():
    image = noise(16 + 48 * 10, 16 + 48 * 20)
    image[:, : 16 + 48 * 10] = 128  # 100 flat tiles and 100 others
    tiling = replace(TILING, flat_below=2)
    tiles, num_flat = tiling.cut(image, name="a")
    assert (len(tiles), num_flat) == (100, 100)
    assert min(tile.left for tile in tiles) == 480
    kept, num_flat = replace(tiling, flat_kept=0.3).cut(image, name="a")
    assert 100 + 15 < len(kept) < 100 + 45  # 30 expected, with a deviation of 5
    assert len(kept) + num_flat == 200
    assert replace(tiling, flat_kept=0.3).cut(image, name="a") == (kept, num_flat)
    assert replace(tiling, flat_kept=0.3).cut(image, name="b") != (kept, num_flat)
    assert replace(tiling, flat_kept=1).cut(image, name="a")[1] == 0
    assert replace(tiling, flat_below=0).cut(image, name="a")[1] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile_size_px": 500}, r"`tile_size_px` \(=500\) must be a multiple of 16.*; try 496\.$"),
        ({"overlap_px": -16}, r"`overlap_px` \(=-16\) must be a multiple of 16.*; try 0\.$"),
        ({"overlap_px": 64}, r"`overlap_px` \(=64\) must be smaller .* \(=64\); try 16\.$"),
        ({"downscale": 0.5}, r"`downscale` \(=0\.5\) must be at least 1"),
        ({"minimum_size_px": 0}, r"`minimum_size_px` \(=0\) must be at least 1"),
        ({"flat_below": -1}, r"`flat_below` \(=-1\) must be at least 0"),
        ({"flat_kept": 1.5}, r"`flat_kept` \(=1\.5\) must lie between 0 and 1"),
        ({"tile_format": "gif"}, r"`tile_format` \(=gif\) must be one of jpg, webp, png"),
        ({"quality": 0}, r"`quality` \(=0\) must lie between 1 and 100, or be null"),
    ],
)
def test_settings_that_make_no_tiles_are_refused(change: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        replace(TILING, **change)
