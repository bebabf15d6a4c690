from collections.abc import Callable

import pytest
import torch
from skimage import color, data
from torch import Tensor

from asrgan.imaging import bicubic_downscale, to_tensor
from asrgan.metrics import colour_shift

Metric = Callable[..., Tensor]
HR = to_tensor(data.astronaut())[None]
LR = bicubic_downscale(HR, scale=4)


def test_what_gives_lr_back_has_its_colours():
    assert colour_shift(HR, LR, scale=4).tolist() == [0]


def test_colour_shift_of_flat_pictures_is_ciede2000_of_their_colours():
    colours = torch.tensor([[200, 40, 60], [30, 90, 160]]) / 255
    sr_image, lr_image = (
        colour.reshape(1, 3, 1, 1).expand(1, 3, side, side)
        for colour, side in zip(colours, (16, 4), strict=True)
    )
    one, other = color.rgb2lab(colours.double().numpy())
    expected = color.deltaE_ciede2000(one, other)
    assert colour_shift(sr_image, lr_image, scale=4).item() == pytest.approx(expected, rel=1e-5)


def test_colour_shift_counts_the_share_of_the_picture():
    half, whole = HR.clone(), HR.clone()
    half[:, 2, :, : HR.shape[-1] // 2] *= 0.8
    whole[:, 2] *= 0.8
    shift_half, shift_whole = (colour_shift(image, LR, scale=4) for image in (half, whole))
    assert 0.3 * shift_whole < shift_half < 0.7 * shift_whole


@pytest.mark.parametrize("metric", [colour_shift])
def test_each_picture_has_its_own_value(metric: Metric):
    images = torch.cat([HR, HR * 0.9])
    values = metric(images, LR.expand(2, -1, -1, -1), scale=4)
    assert values.shape == (2,)
    assert values.tolist() == [metric(image[None], LR, scale=4).item() for image in images]
    assert values[0] != values[1]


@pytest.mark.parametrize("metric", [colour_shift])
def test_sizes_that_do_not_fit_together_are_refused(metric: Metric):
    with pytest.raises(ValueError, match=r"must be scale=4 times as large as .*\(1, 3, 128, 128\)"):
        metric(HR[..., :-4], LR, scale=4)
