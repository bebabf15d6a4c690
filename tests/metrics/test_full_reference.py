import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import color, data, metrics
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from asrgan.errors import UserError
from asrgan.imaging import bicubic_upscale, luma, quantize, read_image, to_tensor
from asrgan.metrics import ms_ssim_y, psnr_rgb, psnr_y, ssim_rgb, ssim_y

Metric = Callable[..., Tensor]
each_metric = pytest.mark.parametrize("metric", [psnr_y, psnr_rgb, ssim_y, ssim_rgb])


def photographs() -> tuple[np.ndarray, np.ndarray]:
    """Three crops of a photograph as uint8 (3, 64, 80, 3), and noisier and noisier versions."""
    cat = data.chelsea()
    hr = np.stack([cat[30:94, 100:180], cat[120:184, 200:280], cat[0:64, 0:80]])
    noise = np.random.default_rng(0).normal(size=hr.shape)
    sr = hr + noise * np.array([2, 9, 30]).reshape(3, 1, 1, 1)
    return sr.round().clip(0, 255).astype(np.uint8), hr


def batch(arrays: np.ndarray) -> Tensor:
    return torch.stack([to_tensor(array) for array in arrays])


def shave(array: np.ndarray, border: int) -> np.ndarray:
    height, width = array.shape[:2]
    return array[border : height - border, border : width - border].astype(np.float64)


def reference_luma(array: np.ndarray, border: int) -> np.ndarray:
    return color.rgb2ycbcr(shave(array, border) / 255)[..., 0]


def reference_psnr(sr: np.ndarray, hr: np.ndarray) -> float:
    return metrics.peak_signal_noise_ratio(hr, sr, data_range=255)


def reference_ssim(sr: np.ndarray, hr: np.ndarray) -> float:
    """scikit-image's map, cut to where the 11x11 window lies inside."""
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, ssim_map = metrics.structural_similarity(sr, hr, data_range=255, full=True, **settings)
    return ssim_map[5:-5, 5:-5].mean()


@pytest.mark.parametrize("border", [0, 4])
def test_psnr_equals_scikit_image(border: int):
    sr, hr = photographs()
    expected_y = [
        reference_psnr(reference_luma(one, border), reference_luma(other, border))
        for one, other in zip(sr, hr, strict=True)
    ]
    expected_rgb = [
        reference_psnr(shave(one, border), shave(other, border))
        for one, other in zip(sr, hr, strict=True)
    ]
    result_y = psnr_y(batch(sr), batch(hr), border=border)
    result_rgb = psnr_rgb(batch(sr), batch(hr), border=border)
    assert result_y.tolist() == pytest.approx(expected_y, abs=1e-5)
    assert result_rgb.tolist() == pytest.approx(expected_rgb, abs=1e-5)


@pytest.mark.parametrize("border", [0, 4])
def test_ssim_equals_scikit_image(border: int):
    sr, hr = photographs()
    expected_y = [
        reference_ssim(reference_luma(one, border), reference_luma(other, border))
        for one, other in zip(sr, hr, strict=True)
    ]
    expected_rgb = [
        np.mean(
            [
                reference_ssim(shave(one, border)[..., c], shave(other, border)[..., c])
                for c in range(3)
            ]
        )
        for one, other in zip(sr, hr, strict=True)
    ]
    result_y = ssim_y(batch(sr), batch(hr), border=border)
    result_rgb = ssim_rgb(batch(sr), batch(hr), border=border)
    assert result_y.tolist() == pytest.approx(expected_y, abs=1e-7)
    assert result_rgb.tolist() == pytest.approx(expected_rgb, abs=1e-7)


def test_ssim_keeps_its_digits_in_a_nearly_flat_bright_picture():
    generator = np.random.default_rng(0)
    hr = generator.integers(249, 251, size=(1, 40, 40, 3)).astype(np.uint8)
    sr = generator.integers(249, 252, size=(1, 40, 40, 3)).astype(np.uint8)
    expected = reference_ssim(reference_luma(sr[0], 0), reference_luma(hr[0], 0))
    assert ssim_y(batch(sr), batch(hr), border=0).item() == pytest.approx(expected, abs=1e-7)


def test_psnr_equals_a_hand_calculation():
    hr = torch.full((1, 3, 10, 10), 100 / 255)
    sr = torch.full((1, 3, 10, 10), 102 / 255)  # two grey levels in RGB
    assert psnr_rgb(sr, hr, border=2).item() == pytest.approx(20 * math.log10(255 / 2), abs=1e-4)
    two_levels_of_luma = 2 * 219 / 255
    assert psnr_y(sr, hr, border=2).item() == pytest.approx(
        20 * math.log10(255 / two_levels_of_luma), abs=1e-4
    )


def test_ssim_of_constant_pictures_is_the_luminance_term():
    sr, hr = torch.full((1, 3, 11, 11), 51 / 255), torch.full((1, 3, 11, 11), 102 / 255)
    expected = (2 * 51 * 102 + 2.55**2) / (51**2 + 102**2 + 2.55**2)
    assert ssim_rgb(sr, hr, border=0).item() == pytest.approx(expected, abs=1e-6)


def test_equal_pictures_have_infinite_psnr_and_ssim_1():
    image = batch(photographs()[1])
    assert psnr_y(image, image, border=4).tolist() == [math.inf] * 3
    assert psnr_rgb(image, image, border=4).tolist() == [math.inf] * 3
    assert ssim_y(image, image, border=4).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    assert ssim_rgb(image, image, border=4).tolist() == pytest.approx([1.0] * 3, abs=1e-6)


@pytest.mark.parametrize("height", [128, 191, 192, 193, 300])
def test_strips_give_what_the_whole_picture_gives(height: int, monkeypatch: pytest.MonkeyPatch):
    hr = batch(data.chelsea()[None, :height, :90])
    sr = (hr + 0.1 * torch.randn(hr.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    metrics = (psnr_y, psnr_rgb, ssim_y, ssim_rgb)
    in_strips = [metric(sr, hr, border=4).item() for metric in metrics]
    monkeypatch.setattr("asrgan.metrics.full_reference._STRIP_ROWS", 1000)
    whole = [metric(sr, hr, border=4).item() for metric in metrics]
    assert in_strips == pytest.approx(whole, rel=1e-12)


@each_metric
def test_pictures_are_rounded_to_8_bits_and_clamped_first(metric: Metric):
    sr, hr = (batch(arrays) for arrays in photographs())
    generator = torch.Generator().manual_seed(0)
    beside = sr + (torch.rand(sr.shape, generator=generator) - 0.5) * 0.9 / 255
    beyond = torch.where(sr == 1, sr + 1, torch.where(sr == 0, sr - 1, beside))
    assert (sr == 1).any()
    assert metric(beyond, hr, border=4).equal(metric(sr, hr, border=4))


@each_metric
def test_the_border_is_left_out_and_what_lies_inside_counts(metric: Metric):
    sr, hr = (batch(arrays) for arrays in photographs())
    expected = metric(sr, hr, border=4)
    sr[..., :4, :] = sr[..., -4:, :] = sr[..., :, :4] = sr[..., :, -4:] = 0.5
    assert metric(sr, hr, border=4).equal(expected)
    sr[..., 4, 4] = (hr[..., 4, 4] < 0.5).float()
    assert (metric(sr, hr, border=4) < expected).all()


@each_metric
def test_autocast_does_not_change_a_metric(metric: Metric):
    sr, hr = (batch(arrays) for arrays in photographs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = metric(sr, hr, border=4)
    assert result.equal(metric(sr, hr, border=4))


@each_metric
def test_pictures_of_different_shape_are_refused(metric: Metric):
    with pytest.raises(ValueError, match=r"\(1, 3, 20, 20\) and `hr_image` \(1, 3, 20, 21\)"):
        metric(torch.zeros(1, 3, 20, 20), torch.zeros(1, 3, 20, 21), border=1)


@pytest.mark.parametrize(
    ("metric", "minimum"),
    [(psnr_y, 9), (psnr_rgb, 9), (ssim_y, 19), (ssim_rgb, 19), (ms_ssim_y, 184)],
)
def test_pictures_too_small_for_the_border_and_the_window_are_refused(metric: Metric, minimum: int):
    image = torch.zeros(1, 3, minimum, 200)
    assert metric(image, image, border=4).shape == (1,)
    with pytest.raises(UserError, match=f"at least {minimum} px each way.*got 200x{minimum - 1}"):
        metric(image[:, :, 1:], image[:, :, 1:], border=4)


def coarse_picture(height: int, width: int) -> tuple[Tensor, Tensor]:
    """A photograph, and a version that differs on all scales."""
    hr = batch(data.astronaut()[None, :height, :width])
    sr = (hr + 0.1 * torch.randn(hr.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    sr[..., 100:, 50:] = sr[..., 80:-20, 50:] * 0.8
    return sr, hr


@pytest.mark.parametrize("size", [(184, 200), (375, 190), (512, 301)])
def test_ms_ssim_equals_torchmetrics_in_strips_too(size: tuple[int, int]):
    sr, hr = coarse_picture(*size)
    expected = multiscale_structural_similarity_index_measure(
        *(luma(quantize(image[..., 4:-4, 4:-4]).double()) for image in (sr, hr)), data_range=1.0
    )
    result = ms_ssim_y(sr, hr, border=4).item()
    assert result == pytest.approx(expected.item(), abs=1e-6)  # torchmetrics' weights are float32
    assert result < 0.9


def test_ms_ssim_of_constant_pictures_is_the_luminance_of_the_last_scale():
    sr, hr = torch.full((1, 3, 176, 176), 51 / 255), torch.full((1, 3, 176, 176), 102 / 255)
    levels = [16 + 219 * value / 255 for value in (51, 102)]
    luminance = (2 * math.prod(levels) + 2.55**2) / (levels[0] ** 2 + levels[1] ** 2 + 2.55**2)
    assert ms_ssim_y(sr, hr, border=0).item() == pytest.approx(luminance**0.1333, abs=1e-6)


def test_ms_ssim_is_per_image_1_for_equal_pictures_and_0_at_worst():
    sr, hr = coarse_picture(184, 200)
    values = ms_ssim_y(torch.cat([sr, hr, 1 - hr]), hr.expand(3, -1, -1, -1), border=4)
    assert values.tolist() == pytest.approx([ms_ssim_y(sr, hr, border=4).item(), 1, 0], abs=1e-9)


@pytest.mark.parametrize(
    ("benchmark", "psnr_db", "ssim"),
    [
        ("Set5", 28.42, 0.8104),
        ("Set14", 26.088, 0.7048),  # with its grey picture as RGB; tables say 26.00, .7027
        ("BSD100", 25.96, 0.6675),
    ],
)
def test_bicubic_reaches_the_published_numbers(
    shared_folder: Path, benchmark: str, psnr_db: float, ssim: float
):
    folder = shared_folder / "data" / "benchmarks" / benchmark
    values = []
    for hr_path in sorted((folder / "HR").glob("*.png")):
        hr_image = to_tensor(read_image(hr_path))[None]
        lr_image = to_tensor(read_image(folder / "LRx4" / hr_path.name))[None]
        sr_image = bicubic_upscale(lr_image, scale=4)
        values.append([metric(sr_image, hr_image, border=4) for metric in (psnr_y, ssim_y)])
    mean_psnr_db, mean_ssim = torch.tensor(values).mean(dim=0).tolist()
    assert mean_psnr_db == pytest.approx(psnr_db, abs=0.02)
    assert mean_ssim == pytest.approx(ssim, abs=0.001)
