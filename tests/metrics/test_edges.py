import math
from collections.abc import Callable

import pytest
import torch
from skimage import data, filters
from torch import Tensor

from asrgan.imaging import bicubic_downscale, bicubic_upscale, to_tensor
from asrgan.metrics import ringing, ringing_map

SCALE = 4
HR = to_tensor(data.astronaut())[None]
LR = bicubic_downscale(HR, scale=SCALE)


def sharpened(image: Tensor, amount: float) -> Tensor:
    """scikit-image's unsharp mask: halos of 2 px beside each edge."""
    array = image[0].permute(1, 2, 0).double().numpy()
    mask = filters.unsharp_mask(array, radius=2, amount=amount, channel_axis=2)
    return torch.from_numpy(mask).permute(2, 0, 1)[None].float()


def edge(profile: Callable[[Tensor], Tensor], *, angle_degrees: float = 0) -> Tensor:
    """Grey (1, 3, 256, 256): ``profile`` of the distance from a line through the centre, SR px."""
    side = torch.arange(256) - 127.5
    angle = math.radians(angle_degrees)
    distance = math.cos(angle) * side + math.sin(angle) * side[:, None]
    return profile(distance).expand(1, 3, -1, -1).clone()


def step(distance: Tensor) -> Tensor:
    return torch.where(distance > 0, 0.7, 0.3)


def smooth_step(distance: Tensor) -> Tensor:
    return 0.3 + 0.4 * torch.sigmoid(distance / 2)


def ringing_step(amplitude: float) -> Callable[[Tensor], Tensor]:
    """A smooth step that oscillates on both sides with a period of 2 px of LR, and dies away."""

    def profile(distance: Tensor) -> Tensor:
        wave = torch.sin(distance * math.pi / SCALE) * torch.exp(-distance.abs() / 10)
        return smooth_step(distance) + 0.4 * amplitude * wave

    return profile


def measured(sr_image: Tensor, lr_image: Tensor) -> float:
    return ringing(sr_image, lr_image, scale=SCALE).item()


@pytest.mark.parametrize("angle_degrees", [0, 30, 90, 135])
def test_a_clean_edge_does_not_ring(angle_degrees: float):
    for profile in (step, smooth_step):
        image = edge(profile, angle_degrees=angle_degrees)
        assert measured(image, bicubic_downscale(image, scale=SCALE)) < 0.5


@pytest.mark.parametrize("angle_degrees", [0, 30, 90, 135])
def test_oscillation_beside_an_edge_is_measured_in_percent_of_its_height(angle_degrees: float):
    lr_image = bicubic_downscale(edge(smooth_step, angle_degrees=angle_degrees), scale=SCALE)
    values = [
        measured(edge(ringing_step(amplitude), angle_degrees=angle_degrees), lr_image)
        for amplitude in (0, 0.05, 0.1, 0.2)
    ]
    assert values[0] < 0.5
    # 10 px from the edge the wave has 0.37 of its amplitude; 14 px from it, on the way back, 0.25.
    for value, amplitude in zip(values[1:], (0.05, 0.1, 0.2), strict=True):
        assert value / 100 == pytest.approx(0.6 * amplitude, rel=0.4)


def test_what_lr_itself_does_is_allowed():
    image = edge(ringing_step(0.1))
    rings_too = torch.nn.functional.avg_pool2d(edge(ringing_step(0.3)), SCALE)
    assert measured(image, rings_too) < 0.3 * measured(
        image, bicubic_downscale(edge(step), scale=4)
    )


def test_sharpening_a_photograph_raises_it_step_by_step():
    image = bicubic_upscale(LR, scale=SCALE)
    values = [measured(sharpened(image, amount), LR) for amount in (0, 0.5, 1, 2)]
    assert values == sorted(values)
    assert values[0] < 1.5
    assert values[2] > 3 * values[0]


def test_ground_truth_rings_less_than_a_sharpened_enlargement():
    assert measured(HR, LR) < measured(sharpened(bicubic_upscale(LR, scale=SCALE), 1), LR)


def test_texture_beside_an_edge_is_not_ringing():
    lr_image = bicubic_downscale(edge(smooth_step), scale=SCALE)
    noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    noisy = edge(smooth_step) + 0.04 * noise  # as strong as the oscillation below
    assert measured(noisy, lr_image) < 0.3 * measured(edge(ringing_step(0.1)), lr_image)


def test_the_map_shows_where_it_rings():
    image = bicubic_upscale(LR, scale=SCALE)
    image[..., : 64 * SCALE] = sharpened(image, 2)[..., : 64 * SCALE]
    shown = ringing_map(image, LR, scale=SCALE)
    assert shown.shape == (1, 128, 128)
    assert (shown >= 0).all()
    assert shown[..., :60].mean() > 5 * shown[..., 68:].mean()


def test_strips_measure_what_the_whole_picture_has(monkeypatch: pytest.MonkeyPatch):
    image = sharpened(bicubic_upscale(LR, scale=SCALE), 1)
    in_strips = ringing(image, LR, scale=SCALE), ringing_map(image, LR, scale=SCALE)
    monkeypatch.setattr("asrgan.metrics.edges._STRIP_ROWS", 1000)
    whole = ringing(image, LR, scale=SCALE), ringing_map(image, LR, scale=SCALE)
    torch.testing.assert_close(in_strips, whole, rtol=1e-3, atol=1e-2)


def test_each_picture_has_its_own_value():
    images = torch.cat([HR, sharpened(HR, 1)])
    values = ringing(images, LR.expand(2, -1, -1, -1), scale=SCALE)
    assert values.tolist() == [measured(image[None], LR) for image in images]


@pytest.mark.parametrize("size", [1, 7, 40])
def test_pictures_without_strong_edges_do_not_ring(size: int):
    image = torch.full((1, 3, SCALE * size, SCALE * size), 0.5)
    lr_image = image[..., :size, :size]
    assert measured(image, lr_image) == 0
    assert not ringing_map(image, lr_image, scale=SCALE).any()


def test_sizes_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="must be scale=4 times as large as"):
        ringing(HR[..., :-4], LR, scale=SCALE)
