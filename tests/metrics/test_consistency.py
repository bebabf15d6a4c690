from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage import color, data, metrics
from torch import Tensor

from asrgan.imaging import bicubic_downscale, bicubic_upscale, to_tensor
from asrgan.metrics import colour_shift, consistency

Metric = Callable[..., Tensor]
each_metric = pytest.mark.parametrize("metric", [consistency, colour_shift])
HR = to_tensor(data.chelsea()[40:120, 100:220])[None]
LR = bicubic_downscale(HR, scale=4)


def test_what_gives_lr_back_is_consistent():
    assert consistency(HR, LR, scale=4).tolist() == [float("inf")]
    assert colour_shift(HR, LR, scale=4).tolist() == [0]


def test_consistency_is_scikit_image_s_psnr_of_the_reduced_pictures():
    sr_image = bicubic_upscale(LR, scale=4)
    expected = metrics.peak_signal_noise_ratio(
        LR.numpy(), bicubic_downscale(sr_image, scale=4).numpy(), data_range=1
    )
    assert consistency(sr_image, LR, scale=4).item() == pytest.approx(expected, abs=1e-4)


def test_consistency_of_a_constant_offset_equals_a_hand_calculation():
    sr_image, lr_image = torch.full((2, 3, 16, 16), 102 / 255), torch.full((2, 3, 4, 4), 100 / 255)
    expected = 20 * np.log10(255 / 2)
    assert consistency(sr_image, lr_image, scale=4).tolist() == pytest.approx([expected] * 2)


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
    half = HR.clone()
    half[..., : HR.shape[-1] // 2] *= torch.tensor([1, 1, 0.8]).reshape(3, 1, 1)
    whole = HR * torch.tensor([1, 1, 0.8]).reshape(3, 1, 1)
    shift_half, shift_whole = (colour_shift(image, LR, scale=4) for image in (half, whole))
    assert 0.3 * shift_whole < shift_half < 0.7 * shift_whole


@each_metric
def test_each_picture_has_its_own_value(metric: Metric):
    sr_image = torch.cat([bicubic_upscale(LR, scale=4), (HR * 0.9)])
    lr_image = LR.expand(2, -1, -1, -1)
    values = metric(sr_image, lr_image, scale=4)
    assert values.shape == (2,)
    assert values[1].item() == pytest.approx(metric(sr_image[1:], LR, scale=4).item())
    assert values[0] != values[1]


@each_metric
def test_sizes_that_do_not_fit_together_are_refused(metric: Metric):
    with pytest.raises(ValueError, match=r"must be scale=4 times as large as .*\(1, 3, 20, 30\)"):
        metric(HR[..., :-4], LR, scale=4)
