import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from asrgan.imaging import bicubic_downscale, bicubic_upscale, to_array, to_tensor
from asrgan.metrics import blockiness, blockiness_map

SCALE = 4
LR = bicubic_downscale(to_tensor(data.astronaut())[None], scale=SCALE)


def after_jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    buffer = io.BytesIO()
    Image.fromarray(to_array(image[0])).save(buffer, "JPEG", quality=quality)
    return to_tensor(np.array(Image.open(buffer)))[None]


def enlarged_after_jpeg(quality: int) -> torch.Tensor:
    return bicubic_upscale(after_jpeg(LR, quality), scale=SCALE)


def measured(image: torch.Tensor) -> float:
    return blockiness(image, scale=SCALE).item()


def test_clean_pictures_have_hardly_any_blocks():
    assert measured(to_tensor(data.astronaut())[None]) < 0.05
    assert measured(bicubic_upscale(LR, scale=SCALE)) < 0.05
    assert measured(torch.full((1, 3, 128, 128), 0.5)) == 0


def test_blockiness_grows_with_compression():
    values = [measured(enlarged_after_jpeg(quality)) for quality in (90, 75, 50, 30, 15, 5)]
    assert values == sorted(values)
    assert values[1] > 0.1
    assert values[-1] > 1


def test_the_grid_may_begin_anywhere():
    image = enlarged_after_jpeg(20)
    shifted = measured(image[..., 3 * SCALE :, 5 * SCALE :])
    assert shifted == pytest.approx(measured(image), rel=0.1)


def test_a_step_at_each_block_equals_a_hand_calculation():
    levels = torch.arange(16).remainder(2).repeat_interleave(8) * 2 / 219  # 2 levels of Y
    columns = levels.expand(1, 3, 128, -1)
    image = columns.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    # 8 bits make 2.33 levels of RGB, which are 2 / 219 of white, to 2: 1.72 levels of Y.
    step = round(2 / 219 * 255) / 255 * 219
    assert blockiness(image, scale=2).item() == pytest.approx(step / 2, abs=1e-4)  # one direction
    assert blockiness(image.mT, scale=2).item() == pytest.approx(step / 2, abs=1e-4)


def test_the_map_shows_where_the_blocks_are():
    image = bicubic_upscale(LR, scale=SCALE)
    image[..., : 64 * SCALE] = enlarged_after_jpeg(10)[..., : 64 * SCALE]
    shown = blockiness_map(image, scale=SCALE)
    assert shown.shape == (1, 128, 128)
    assert (shown >= 0).all()
    assert shown[..., :44].mean() > 20 * shown[..., 84:].mean()


def test_each_picture_has_its_own_grid():
    image = enlarged_after_jpeg(20)
    other = image.roll((8, 12), dims=(-2, -1))
    values = blockiness(torch.cat([image, other]), scale=SCALE)
    assert values.tolist() == pytest.approx([measured(image), measured(other)])
    maps = blockiness_map(torch.cat([image, other]), scale=SCALE)
    torch.testing.assert_close(maps[1:], blockiness_map(other, scale=SCALE))


def test_pictures_of_less_than_two_blocks_have_no_value():
    assert math.isnan(measured(torch.rand(1, 3, 60, 128)))
    assert measured(torch.rand(1, 3, 64, 64)) >= 0
