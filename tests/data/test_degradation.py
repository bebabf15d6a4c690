import numpy as np
import pytest
import torch
from PIL import Image

from asrgan.data import BicubicDegradation
from asrgan.imaging import quantize, to_array


def test_lr_is_smaller_by_the_scale_and_on_the_levels_of_a_file() -> None:
    hr_image = torch.rand(2, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    lr_image = BicubicDegradation(scale=4)(hr_image)
    assert lr_image.shape == (2, 3, 6, 4)
    assert lr_image.dtype == torch.float32
    assert torch.equal(lr_image, quantize(lr_image))
    assert not list(BicubicDegradation(scale=4).state_dict())


def test_lr_is_close_to_pillows_bicubic_reduction_inside_of_the_picture() -> None:
    hr_image = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    lr_image = to_array(BicubicDegradation(scale=4)(hr_image)[0])
    pillow = Image.fromarray(to_array(hr_image[0])).resize((12, 16), Image.Resampling.BICUBIC)
    difference = lr_image.astype(int) - np.asarray(pillow)
    assert np.abs(difference[2:-2, 2:-2]).max() <= 1


def test_reduced_precision_around_it_does_not_change_lr() -> None:
    hr_image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    degradation = BicubicDegradation(scale=2)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = degradation(hr_image)
    assert torch.equal(reduced, degradation(hr_image))


def test_a_batch_that_the_scale_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="30x32 must be divisible by scale=4"):
        BicubicDegradation(scale=4)(torch.zeros(1, 3, 30, 32))
