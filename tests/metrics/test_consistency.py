import numpy as np
import pytest
import torch
from skimage import data, metrics

from asrgan.imaging import bicubic_downscale, bicubic_upscale, to_tensor
from asrgan.metrics import consistency
from asrgan.metrics.low_resolution import reduce_area, reduce_bicubic

HR = to_tensor(data.chelsea()[40:120, 100:220])[None]
LR = bicubic_downscale(HR, scale=4)


def test_what_gives_lr_back_is_consistent():
    assert consistency(HR, LR, scale=4).tolist() == [float("inf")]


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


def test_each_picture_has_its_own_value():
    sr_image = torch.cat([bicubic_upscale(LR, scale=4), HR * 0.9])
    values = consistency(sr_image, LR.expand(2, -1, -1, -1), scale=4)
    assert values[1] == consistency(sr_image[1:], LR, scale=4)
    assert values[0] != values[1]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_strips_are_reduced_as_the_whole_picture_is(scale: int):
    image = torch.rand(1, 3, scale * 150, scale * 5, generator=torch.Generator().manual_seed(0))
    assert reduce_bicubic(image, scale=scale).equal(bicubic_downscale(image, scale=scale))
    levels = image.mul(255).round().div(255)
    areas = levels.unflatten(-1, (-1, scale)).unflatten(-3, (-1, scale)).mean(dim=(-1, -3))
    torch.testing.assert_close(reduce_area(image, scale=scale), areas)


def test_sizes_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match=r"must be scale=4 times as large as .*\(1, 3, 20, 30\)"):
        consistency(HR[..., :-4], LR, scale=4)
