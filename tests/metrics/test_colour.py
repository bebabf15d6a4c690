from collections.abc import Callable

import pytest
import torch
from skimage import color, data
from torch import Tensor

from asrgan.imaging import bicubic_downscale, bicubic_upscale, to_tensor
from asrgan.metrics import colour_patch_map, colour_patches, colour_shift

Metric = Callable[..., Tensor]
HR = to_tensor(data.astronaut())[None]
LR = bicubic_downscale(HR, scale=4)


def with_patch(image: Tensor, *, size: int, blue: float = 0.25) -> Tensor:
    """A square of SR px, from (200, 120) on, that is bluer."""
    patched = image.clone()
    patched[:, 2, 200 : 200 + size, 120 : 120 + size] += blue
    return patched.clamp(0, 1)


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


@pytest.mark.parametrize("image", [HR, bicubic_upscale(LR, scale=4)])
def test_ground_truth_and_bicubic_have_no_patches(image: Tensor):
    assert colour_patches(image, LR, scale=4).item() == 0
    assert not colour_patch_map(image, LR, scale=4).any()


def test_patches_are_counted_by_their_area():
    shares = [
        colour_patches(with_patch(HR, size=size), LR, scale=4).item() for size in (0, 96, 144, 192)
    ]
    assert shares[0] == 0
    for share, size in zip(shares[1:], (96, 144, 192), strict=True):
        assert share / 100 == pytest.approx(size**2 / 512**2, rel=0.5)  # smoothing widens them
    assert shares == sorted(shares)


def test_the_map_shows_the_patch_and_how_far_off_it_is():
    weak, strong = (
        colour_patch_map(with_patch(HR, size=96, blue=blue), LR, scale=4)[0] for blue in (0.15, 0.3)
    )
    inside = torch.zeros_like(weak, dtype=torch.bool)
    inside[45:80, 25:60] = True  # the square by the scale, and 5 px around
    assert not strong[~inside].any()
    assert (strong[52:72, 32:52] > 5).all()
    assert strong[inside].sum() > weak[inside].sum() > 0


def test_grains_of_colour_are_no_patches():
    grain = HR + 0.1 * torch.randn(HR.shape, generator=torch.Generator().manual_seed(0))
    assert colour_patches(with_patch(grain, size=8), LR, scale=4).item() == 0


def test_a_change_of_brightness_is_no_patch():
    grey = HR.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 0.8
    darker = grey.clone()
    darker[..., 100:200, 100:200] *= 0.7
    lr_image = bicubic_downscale(grey, scale=4)
    assert colour_patches(darker, lr_image, scale=4).item() == 0


@pytest.mark.parametrize("metric", [colour_shift, colour_patches])
def test_each_picture_has_its_own_value(metric: Metric):
    images = torch.cat([HR, with_patch(HR, size=96)])
    values = metric(images, LR.expand(2, -1, -1, -1), scale=4)
    assert values.shape == (2,)
    assert values.tolist() == [metric(image[None], LR, scale=4).item() for image in images]
    assert values[0] != values[1]


@pytest.mark.parametrize("metric", [colour_shift, colour_patches, colour_patch_map])
def test_sizes_that_do_not_fit_together_are_refused(metric: Metric):
    with pytest.raises(ValueError, match=r"must be scale=4 times as large as .*\(1, 3, 128, 128\)"):
        metric(HR[..., :-4], LR, scale=4)
