"""Each degradation through its configuration, and each part on its own."""

import io
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import pi

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from kornia.filters import get_gaussian_kernel2d
from PIL import Image
from skimage import data
from torch import Tensor

from asrgan.configuration import compose, configuration_folder
from asrgan.data import (
    BicubicDegradation,
    CameraJPEGDegradation,
    Degradation,
    LightDegradation,
    RandomBlur,
    RandomNoise,
    RandomResize,
    RandomSinc,
    Stage,
)
from asrgan.data.degradation.kernels import (
    Ellipse,
    gaussian_kernel,
    identity_kernel,
    plateau_kernel,
    sinc_kernel,
)
from asrgan.data.degradation.operations import (
    add_gaussian_noise,
    add_poisson_noise,
    blur,
    compress,
)
from asrgan.data.degradation.parts import BLUR_SHAPES
from asrgan.errors import UserError
from asrgan.imaging import quantize, to_array

NAMES = sorted(path.stem for path in (configuration_folder() / "degradation").glob("*.yaml"))
RANDOM = [name for name in NAMES if name != "bicubic"]

each = pytest.mark.parametrize("name", NAMES)
each_random = pytest.mark.parametrize("name", RANDOM)


compose_once = cache(lambda *overrides: compose("train", overrides)["degradation"])


def build(name: str, *overrides: str) -> Degradation:
    return instantiate(compose_once(f"degradation={name}", *overrides), _convert_="all")


def photographs(count: int, height: int, width: int) -> Tensor:
    """Different crops of a photograph, (count, 3, height, width)."""
    picture = torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1).float() / 255
    return torch.stack([picture[:, 16 * n :, 100:][:, :height, :width] for n in range(count)])


def mean_difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())


# Every degradation


@each
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_lr_is_smaller_by_the_scale_and_on_the_levels_of_a_file(name: str, scale: int) -> None:
    degradation = build(name, f"scale={scale}")
    lr_image = degradation(photographs(3, 48, 40), sample_numbers=[0, 1, 2])
    assert lr_image.shape == (3, 3, 48 // scale, 40 // scale)
    assert lr_image.dtype == torch.float32
    assert lr_image.is_contiguous()
    assert lr_image.min() >= 0
    assert lr_image.max() <= 1
    assert torch.equal(lr_image, quantize(lr_image))
    assert not list(degradation.state_dict())


@each
def test_lr_resembles_the_bicubic_reduction(name: str) -> None:
    hr_image = photographs(4, 96, 96)
    lr_image = build(name)(hr_image, sample_numbers=range(4))
    bicubic = BicubicDegradation(scale=4)(hr_image, sample_numbers=range(4))
    allowed = {"bicubic": 0.0, "camera_jpeg": 0.03, "light": 0.04, "realistic": 0.15}
    assert mean_difference(lr_image, bicubic) <= allowed[name]


@each
def test_a_picture_depends_on_its_number_and_not_on_its_batch(name: str) -> None:
    degradation, hr_image = build(name), photographs(5, 64, 64)
    together = degradation(hr_image, sample_numbers=[3, 1, 4, 15, 9])
    backwards = degradation(hr_image.flip(0), sample_numbers=[9, 15, 4, 1, 3])
    assert torch.equal(backwards.flip(0), together)
    alone = [
        build(name)(hr_image[i : i + 1], sample_numbers=[number])
        for i, number in enumerate([3, 1, 4, 15, 9])
    ]
    assert torch.equal(torch.cat(alone), together)


@each
def test_memory_layout_and_reduced_precision_around_it_change_nothing(name: str) -> None:
    degradation, hr_image = build(name), photographs(2, 32, 32)
    plain = degradation(hr_image, sample_numbers=[5, 6])
    with torch.autocast("cpu", torch.bfloat16):
        reduced = degradation(hr_image, sample_numbers=[5, 6])
    assert torch.equal(reduced, plain)
    turned = degradation(hr_image.to(memory_format=torch.channels_last), sample_numbers=[5, 6])
    assert torch.equal(turned, plain)


@each_random
def test_another_number_or_seed_gives_another_picture(name: str) -> None:
    hr_image = photographs(1, 64, 64)
    first = build(name)(hr_image, sample_numbers=[0])
    # Two draws may be the same quality: of several, one differs.
    assert any(
        not torch.equal(build(name)(hr_image, sample_numbers=[n]), first) for n in range(1, 4)
    )
    assert any(
        not torch.equal(build(name, f"seed={seed}")(hr_image, sample_numbers=[0]), first)
        for seed in range(2, 5)
    )


@each
def test_global_random_numbers_are_neither_used_nor_moved(name: str) -> None:
    hr_image, degradation = photographs(2, 32, 32), build(name)
    torch.manual_seed(0)
    np.random.seed(0)
    state = torch.get_rng_state()
    first = degradation(hr_image, sample_numbers=[0, 1])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    np.random.seed(1)
    assert torch.equal(degradation(hr_image, sample_numbers=[0, 1]), first)


@each
def test_a_batch_that_the_scale_does_not_divide_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="30x32 must be divisible by scale=4"):
        build(name)(torch.zeros(1, 3, 30, 32), sample_numbers=[0])


@each_random
def test_each_picture_needs_a_number(name: str) -> None:
    with pytest.raises(ValueError, match="2 images need as many numbers, not 3"):
        build(name)(torch.zeros(2, 3, 32, 32), sample_numbers=range(3))


def test_realistic_takes_crops_smaller_than_its_kernels() -> None:
    lr_image = build("realistic")(photographs(20, 8, 8), sample_numbers=range(20))
    assert lr_image.shape == (20, 3, 2, 2)


def test_bicubic_is_close_to_pillows_reduction_inside_of_the_picture() -> None:
    hr_image = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    lr_image = to_array(BicubicDegradation(scale=4)(hr_image, sample_numbers=[0])[0])
    pillow = Image.fromarray(to_array(hr_image[0])).resize((12, 16), Image.Resampling.BICUBIC)
    difference = lr_image.astype(int) - np.asarray(pillow)
    assert np.abs(difference[2:-2, 2:-2]).max() <= 1


def test_camera_jpeg_is_the_jpeg_of_the_bicubic_reduction() -> None:
    hr_image = photographs(2, 64, 64)
    bicubic = BicubicDegradation(scale=4)(hr_image, sample_numbers=[0, 1])
    degradation = CameraJPEGDegradation(scale=4, seed=1, jpeg_quality=[40, 40])
    lr_image = degradation(hr_image, sample_numbers=[0, 1])
    assert torch.equal(lr_image, compress(bicubic, [40, 40]))
    assert not torch.equal(lr_image, bicubic)


def test_light_without_any_strength_is_nearly_bicubic() -> None:
    light = LightDegradation(
        scale=4, seed=1, blur_sigma_px=[0.01, 0.01], noise_sigma=[0, 0], jpeg_quality=[100, 100]
    )
    hr_image = torch.full((1, 3, 32, 32), 0.5)
    hr_image[..., 16:] = 0.25
    bicubic = BicubicDegradation(scale=4)(hr_image, sample_numbers=[0])
    assert mean_difference(light(hr_image, sample_numbers=[0]), bicubic) <= 0.5 / 255


# Kernels

KERNELS = {
    "gaussian": gaussian_kernel(21, Ellipse(3, 3, 0), beta=1),
    "anisotropic": gaussian_kernel(15, Ellipse(0.2, 2.5, 1.0), beta=1),
    "heavy tails": gaussian_kernel(9, Ellipse(1, 2, -2), beta=0.5),
    "flat top": gaussian_kernel(9, Ellipse(2, 2, 0), beta=4),
    "plateau": plateau_kernel(11, Ellipse(1.5, 0.7, 0.3), beta=2),
    "sinc": sinc_kernel(21, cutoff=0.2),
    "identity": identity_kernel(7),
}
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


@each_kernel
def test_a_kernel_sums_to_1_and_is_symmetric_about_its_centre(kernel: Tensor) -> None:
    torch.testing.assert_close(kernel.sum(), torch.tensor(1.0))
    torch.testing.assert_close(kernel, kernel.flip(0, 1))
    assert kernel.dtype == torch.float32


@each_kernel
def test_a_blurred_constant_is_that_constant(kernel: Tensor) -> None:
    image = torch.full((2, 3, 12, 5), 0.3)
    torch.testing.assert_close(blur(image, kernel.expand(2, -1, -1)), image, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma_px", [0.2, 1.0, 3.0])
def test_the_isotropic_gaussian_is_kornias(sigma_px: float) -> None:
    theirs = get_gaussian_kernel2d(21, torch.tensor([[sigma_px, sigma_px]]))[0]
    ours = gaussian_kernel(21, Ellipse(sigma_px, sigma_px, 0), beta=1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_an_ellipse_is_turned_by_its_angle() -> None:
    lying = gaussian_kernel(21, Ellipse(3, 1, 0), beta=1)
    assert lying[10, 13] > lying[13, 10]  # columns are x
    torch.testing.assert_close(gaussian_kernel(21, Ellipse(3, 1, pi / 2), beta=1), lying.T)


def test_the_moments_of_a_gaussian_are_those_that_were_asked_for() -> None:
    kernel = gaussian_kernel(41, Ellipse(3, 1.5, pi / 6), beta=1).double()
    y, x = torch.meshgrid(*[torch.arange(41.0) - 20] * 2, indexing="ij")
    covariance = [float((kernel * product).sum()) for product in (x * x, x * y, y * y)]
    cosine, sine = np.cos(pi / 6), np.sin(pi / 6)
    rotation = np.array([[cosine, -sine], [sine, cosine]])
    expected = rotation @ np.diag([9, 2.25]) @ rotation.T
    np.testing.assert_allclose(covariance, expected[[0, 0, 1], [0, 1, 1]], rtol=1e-4)


def test_a_larger_beta_makes_a_gaussian_flatter_and_its_edge_steeper() -> None:
    ratios = [
        float(kernel[10, 11] / kernel[10, 10])
        for kernel in (gaussian_kernel(21, Ellipse(2, 2, 0), beta=b) for b in (0.5, 1, 4))
    ]
    assert all(low < high for low, high in pairwise(ratios))


def test_a_sinc_filter_passes_below_its_cutoff_and_stops_above() -> None:
    response = torch.fft.fft2(sinc_kernel(101, cutoff=0.5)).abs()[0]
    assert response[:20].min() > 0.9  # a frequency of 0.5 is at 101 / 4
    assert response[31:50].max() < 0.1


@pytest.mark.parametrize("shape", BLUR_SHAPES)
def test_every_drawn_kernel_sums_to_1(shape: str) -> None:
    draw = make_blur(probabilities={shape: 1.0})
    for number in range(5):
        kernel = draw.draw(np.random.default_rng(number))
        assert kernel.shape == (21, 21)
        torch.testing.assert_close(kernel.sum(), torch.tensor(1.0))
        assert (torch.count_nonzero(kernel) == 1) == (shape == "none")


def test_shapes_and_sizes_come_as_often_as_asked() -> None:
    draw = make_blur(
        probabilities={"none": 0.25, "isotropic": 0.75}, kernel_size_px=[7, 9], sigma_px=[3, 3]
    )
    kernels = [draw.draw(np.random.default_rng(number)) for number in range(400)]
    identities = sum(int(torch.count_nonzero(kernel) == 1) for kernel in kernels)
    small = sum(int(torch.count_nonzero(kernel) == 49) for kernel in kernels)
    assert 70 <= identities <= 130  # 100, standard deviation 9; the seeds are fixed
    assert 110 <= small <= 190  # 150


def make_blur(**changes: object) -> RandomBlur:
    settings: dict[str, object] = {
        "kernel_size_px": [7, 21],
        "probabilities": {"isotropic": 1.0},
        "sigma_px": [0.5, 3],
        "generalized_beta": [0.5, 4],
        "plateau_beta": [1, 2],
        "sinc_cutoff": [0.2, 1],
        "sinc_cutoff_small": [0.34, 1],
    }
    return RandomBlur(**(settings | changes))


# Noise


@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("sigma", [1, 10, 30])
def test_gaussian_noise_has_the_deviation_that_was_asked_for(sigma: float, is_grey: bool) -> None:
    image = torch.full((1, 3, 128, 128), 0.5)
    noisy = add_gaussian_noise(image, np.random.default_rng(0), sigma=sigma, is_grey=is_grey)
    noise = (noisy - image) * 255
    assert abs(float(noise.mean())) < 0.03 * sigma
    assert float(noise.std()) == pytest.approx(sigma, rel=0.02)
    assert torch.equal(noise[:, 0], noise[:, 1]) == is_grey


@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("level", [0, 1, 16, 128, 255])
def test_poisson_noise_has_the_variance_of_its_level(level: int, is_grey: bool) -> None:
    image = torch.full((1, 3, 128, 128), level / 255)
    generator = np.random.default_rng(0)
    noisy = add_poisson_noise(image, generator, scale=0.5, is_grey=is_grey)
    noise = (noisy - image) * 255 / 0.5
    assert float(noise.mean()) == pytest.approx(0, abs=0.04 * level**0.5)
    assert float(noise.var()) == pytest.approx(level, rel=0.04)
    assert torch.equal(noise[:, 0], noise[:, 1]) == (is_grey or level == 0)


def test_poisson_counts_are_distributed_as_numpys() -> None:
    level = 3
    image = torch.full((1, 3, 100, 100), level / 255)
    noisy = add_poisson_noise(image, np.random.default_rng(1), scale=1, is_grey=False)
    ours = np.bincount((noisy * 255).round().long().flatten().numpy(), minlength=20)
    theirs = np.bincount(np.random.default_rng(2).poisson(level, 30_000), minlength=20)
    np.testing.assert_allclose(ours[:20] / 30_000, theirs[:20] / 30_000, atol=0.012)


def test_noise_is_gaussian_or_poisson_grey_or_in_colour_as_often_as_asked() -> None:
    noise = RandomNoise(
        gaussian_probability=0.3,
        gaussian_sigma=[5, 5],
        poisson_scale=[1, 1],
        grey_probability=0.6,
    )
    black = torch.zeros(1, 3, 4, 4)  # has no shot noise
    noisy = [noise(black, np.random.default_rng(number)) for number in range(300)]
    gaussian = [image for image in noisy if image.any()]
    grey = sum(int(torch.equal(image[:, 0], image[:, 1])) for image in gaussian)
    assert 60 <= len(gaussian) <= 120  # 90, standard deviation 8; the seeds are fixed
    assert 0.4 <= grey / len(gaussian) <= 0.8


# JPEG


@pytest.mark.parametrize("size", [(24, 24), (17, 30), (1, 1)])
def test_jpeg_is_pillows_at_the_same_quality(size: tuple[int, int]) -> None:
    image, qualities = photographs(4, *size), [1, 30, 75, 100]
    for ours, original, quality in zip(compress(image, qualities), image, qualities, strict=True):
        file = io.BytesIO()
        Image.fromarray(to_array(original)).save(file, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(file)).astype(int)
        assert np.abs(to_array(ours) - theirs).max() <= 1


def test_a_higher_quality_loses_less() -> None:
    image = photographs(1, 64, 64)
    losses = [mean_difference(compress(image, [q]), image) for q in (10, 30, 60, 90, 100)]
    assert all(low > high for low, high in pairwise(losses))


# Resize


@pytest.mark.parametrize(
    ("direction", "least", "most"), [("up", 100, 150), ("down", 15, 100), ("keep", 100, 100)]
)
def test_a_resize_stays_within_its_factors(direction: str, least: int, most: int) -> None:
    resize = RandomResize(probabilities={direction: 1.0}, factor=[0.15, 1.5])
    image = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    sizes = set()
    for number in range(12):
        resized = resize(image, np.random.default_rng(number), size=(100, 100))
        assert least <= resized.shape[-1] == resized.shape[-2] <= most
        sizes.add(resized.shape[-1])
    assert (len(sizes) == 1) == (direction == "keep")


# Mistakes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([95, 70], r"`jpeg_quality` \(=\[95, 70\]\) must be \[least, most\] within 1 and 100"),
        ([0, 70], r"`jpeg_quality` \(=\[0, 70\]\) must be .* within 1 and 100"),
        ([70, 101], r"`jpeg_quality` .* within 1 and 100"),
        ([70], r"`jpeg_quality` .* must be \[least, most\]"),
        ([70.5, 90], r"`jpeg_quality` .* must be whole numbers"),
    ],
)
def test_qualities_that_make_no_sense_are_refused(values: Sequence[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CameraJPEGDegradation(scale=4, seed=1, jpeg_quality=values)
    with pytest.raises(UserError, match=message):
        LightDegradation(
            scale=4, seed=1, blur_sigma_px=[1, 1], noise_sigma=[0, 0], jpeg_quality=values
        )
    with pytest.raises(UserError, match=message):
        Stage(blur=make_blur(), resize=None, noise=None, jpeg_quality=values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blur_sigma_px": [0, 1]}, r"`blur_sigma_px` \(=\[0, 1\]\) must be .* within 0\.01"),
        ({"blur_sigma_px": [2, 1]}, r"`blur_sigma_px` \(=\[2, 1\]\) must be \[least, most\]"),
        ({"noise_sigma": [-1, 1]}, r"`noise_sigma` \(=\[-1, 1\]\) must be .* within 0"),
    ],
)
def test_strengths_that_make_no_sense_are_refused(
    changes: dict[str, Sequence[float]], message: str
) -> None:
    settings = {"blur_sigma_px": [1, 1], "noise_sigma": [0, 0], "jpeg_quality": [90, 90]}
    with pytest.raises(UserError, match=message):
        LightDegradation(scale=4, seed=1, **(settings | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_size_px": [6, 21]}, r"`kernel_size_px` \(=\[6, 21\]\) must be odd numbers"),
        ({"kernel_size_px": [21, 7]}, r"`kernel_size_px` .* must be \[least, most\]"),
        ({"sigma_px": [-1, 3]}, r"`sigma_px` \(=\[-1, 3\]\) must be .* within 0"),
        ({"sigma_px": [0, 3]}, r"`sigma_px` \(=\[0, 3\]\) must be above 0"),
        ({"generalized_beta": [2, 4]}, r"`generalized_beta` \(=\[2, 4\]\) must hold 1"),
        ({"sinc_cutoff": [0.2, 1.5]}, r"`sinc_cutoff` \(=\[0\.2, 1\.5\]\) must be .* and 1"),
        ({"probabilities": {"isotropic": 0.5}}, r"`probabilities` .* must sum to 1, not 0\.5"),
        ({"probabilities": {"isotropic": 2, "sinc": -1}}, r"`probabilities\.isotropic` \(=2\)"),
        ({"probabilities": {"round": 1}}, r"`probabilities` has no `round`; known: isotropic"),
    ],
)
def test_a_blur_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_blur(**changes)


def test_other_parts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match=r"`factor` \(=\[1\.2, 1\.5\]\) must hold 1"):
        RandomResize(probabilities={"up": 1.0}, factor=[1.2, 1.5])
    with pytest.raises(UserError, match=r"`probability` \(=1\.5\) must be within 0 and 1"):
        RandomSinc(kernel_size_px=[7, 21], probability=1.5, cutoff=[0.3, 1])
    with pytest.raises(UserError, match=r"`gaussian_sigma` \(=\[3, 1\]\) must be"):
        RandomNoise(
            gaussian_probability=0.5,
            gaussian_sigma=[3, 1],
            poisson_scale=[0, 1],
            grey_probability=0.5,
        )
