"""Random parts of a degradation: ranges in, one draw for each picture.

Every number comes from the generator of its sample, so a draw does not depend on the batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isclose, pi

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional as F

from asrgan.data.degradation.kernels import (
    Ellipse,
    gaussian_kernel,
    identity_kernel,
    plateau_kernel,
    sinc_kernel,
)
from asrgan.data.degradation.operations import add_gaussian_noise, add_poisson_noise, blur, resize
from asrgan.errors import UserError

Range = Sequence[float]

RESIZE_MODES = ("area", "bilinear", "bicubic")  # Wang et al. 2021, section 3.1, "Resize"
BLUR_SHAPES = (
    "isotropic",
    "anisotropic",
    "generalized_isotropic",
    "generalized_anisotropic",
    "plateau_isotropic",
    "plateau_anisotropic",
    "sinc",
    "none",
)
# Below it, the authors' code keeps away from low cutoffs, which a small kernel cannot hold.
_SMALL_KERNEL_PX = 13


def check_range(name: str, values: Range, *, lowest: float = -inf, highest: float = inf) -> None:
    """Checks the ends of a range.

    Raises:
        UserError: not two numbers, in the wrong order, or out of [lowest, highest].
    """
    if len(values) != 2 or not lowest <= values[0] <= values[1] <= highest:
        raise UserError(
            f"`{name}` (={list(values)}) must be [least, most] within {lowest} and {highest}."
        )


def check_qualities(name: str, values: Sequence[int]) -> None:
    """Checks a range of JPEG qualities.

    Raises:
        UserError: as `check_range`, or no whole numbers.
    """
    check_range(name, values, lowest=1, highest=100)
    if any(value != int(value) for value in values):
        raise UserError(f"`{name}` (={list(values)}) must be whole numbers.")


def check_probability(name: str, value: float) -> None:
    """Checks a probability.

    Raises:
        UserError: out of [0, 1].
    """
    if not 0 <= value <= 1:
        raise UserError(f"`{name}` (={value}) must be within 0 and 1.")


def draw_within(values: Range, generator: Generator) -> float:
    """A number between the ends of a range, all equally likely."""
    least, most = values
    return generator.uniform(least, most)


def draw_quality(qualities: Sequence[int], generator: Generator) -> int:
    """A JPEG quality, both ends included, each equally likely."""
    least, most = qualities
    return int(generator.integers(int(least), int(most), endpoint=True))


def draw_mode(generator: Generator) -> str:
    """One of `RESIZE_MODES`."""
    return RESIZE_MODES[generator.integers(len(RESIZE_MODES))]


class _RandomFilter(ABC):
    """Another kernel for each picture, of an odd size within a range."""

    def __init__(self, *, kernel_size_px: Sequence[int]) -> None:
        check_range("kernel_size_px", kernel_size_px, lowest=1)
        if any(size % 2 != 1 for size in kernel_size_px):
            raise UserError(f"`kernel_size_px` (={list(kernel_size_px)}) must be odd numbers.")
        least, self._largest_px = kernel_size_px
        self._sizes_px = range(least, self._largest_px + 1, 2)

    def __call__(self, image: Tensor, generators: Sequence[Generator]) -> Tensor:
        """Filters each picture of (N, 3, H, W) with what its generator draws."""
        return blur(image, torch.stack([self.draw(generator) for generator in generators]))

    def draw(self, generator: Generator) -> Tensor:
        """A kernel of sum 1, with zeros around it up to the largest size."""
        size_px = self._sizes_px[generator.integers(len(self._sizes_px))]
        margin = (self._largest_px - size_px) // 2
        return F.pad(self._draw(size_px, generator), (margin, margin, margin, margin))

    @abstractmethod
    def _draw(self, size_px: int, generator: Generator) -> Tensor: ...


class RandomBlur(_RandomFilter):
    """Blur of a random shape, strength and direction.

    Args:
        kernel_size_px: least and largest size, odd.
        probabilities: of each shape, out of `BLUR_SHAPES`; their sum is 1.
        sigma_px: half axes of Gaussians and plateaus.
        generalized_beta: exponent of generalized Gaussians, about 1; on each side equally often.
        plateau_beta: exponent of plateaus, the same way.
        sinc_cutoff: of sinc filters, as a fraction of the highest frequency.
        sinc_cutoff_small: the same for kernels of less than 13 px.

    Raises:
        UserError: a range or probability that makes no sense.

    Source: Wang et al. 2021 (Real-ESRGAN), sections 3.1 and 3.2.
    """

    def __init__(
        self,
        *,
        kernel_size_px: Sequence[int],
        probabilities: Mapping[str, float],
        sigma_px: Range,
        generalized_beta: Range,
        plateau_beta: Range,
        sinc_cutoff: Range,
        sinc_cutoff_small: Range,
    ) -> None:
        super().__init__(kernel_size_px=kernel_size_px)
        _check_probabilities(probabilities, BLUR_SHAPES)
        _check_positive("sigma_px", sigma_px)
        for name, betas in (("generalized_beta", generalized_beta), ("plateau_beta", plateau_beta)):
            _check_positive(name, betas)
            _check_holds_one(name, betas)
        for name, cutoffs in (
            ("sinc_cutoff", sinc_cutoff),
            ("sinc_cutoff_small", sinc_cutoff_small),
        ):
            _check_positive(name, cutoffs, highest=1)
        self._probabilities = probabilities
        self._sigma_px = sigma_px
        self._generalized_beta = generalized_beta
        self._plateau_beta = plateau_beta
        self._sinc_cutoff = sinc_cutoff
        self._sinc_cutoff_small = sinc_cutoff_small

    def _draw(self, size_px: int, generator: Generator) -> Tensor:
        match _draw_name(self._probabilities, generator):
            case "isotropic":
                return gaussian_kernel(size_px, self._circle(generator), beta=1)
            case "anisotropic":
                return gaussian_kernel(size_px, self._ellipse(generator), beta=1)
            case "generalized_isotropic":
                beta = _draw_about_one(self._generalized_beta, generator)
                return gaussian_kernel(size_px, self._circle(generator), beta=beta)
            case "generalized_anisotropic":
                beta = _draw_about_one(self._generalized_beta, generator)
                return gaussian_kernel(size_px, self._ellipse(generator), beta=beta)
            case "plateau_isotropic":
                beta = _draw_about_one(self._plateau_beta, generator)
                return plateau_kernel(size_px, self._circle(generator), beta=beta)
            case "plateau_anisotropic":
                beta = _draw_about_one(self._plateau_beta, generator)
                return plateau_kernel(size_px, self._ellipse(generator), beta=beta)
            case "sinc":
                is_small = size_px < _SMALL_KERNEL_PX
                cutoff = self._sinc_cutoff_small if is_small else self._sinc_cutoff
                return sinc_kernel(size_px, cutoff=draw_within(cutoff, generator))
            case _:
                return identity_kernel(size_px)

    def _circle(self, generator: Generator) -> Ellipse:
        sigma_px = draw_within(self._sigma_px, generator)
        return Ellipse(sigma_px, sigma_px, 0)

    def _ellipse(self, generator: Generator) -> Ellipse:
        first_px, second_px = (draw_within(self._sigma_px, generator) for _ in range(2))
        return Ellipse(first_px, second_px, generator.uniform(-pi, pi))


class RandomSinc(_RandomFilter):
    """A sinc filter, or none: the ringing of sharpened and compressed pictures.

    Args:
        kernel_size_px: least and largest size, odd.
        probability: that there is one.
        cutoff: as a fraction of the highest frequency.

    Raises:
        UserError: a range or probability that makes no sense.

    Source: Wang et al. 2021 (Real-ESRGAN), section 3.2.
    """

    def __init__(self, *, kernel_size_px: Sequence[int], probability: float, cutoff: Range) -> None:
        super().__init__(kernel_size_px=kernel_size_px)
        check_probability("probability", probability)
        _check_positive("cutoff", cutoff, highest=1)
        self._probability = probability
        self._cutoff = cutoff

    def _draw(self, size_px: int, generator: Generator) -> Tensor:
        if generator.random() >= self._probability:
            return identity_kernel(size_px)
        return sinc_kernel(size_px, cutoff=draw_within(self._cutoff, generator))


class RandomResize:
    """A resize up or down by a random factor, or none, in one of `RESIZE_MODES`.

    Args:
        probabilities: of ``up``, ``down`` and ``keep``; their sum is 1.
        factor: least and most; down is between the least and 1, up between 1 and the most.

    Raises:
        UserError: a range or probability that makes no sense.

    Source: Wang et al. 2021 (Real-ESRGAN), section 3.1, "Resize".
    """

    def __init__(self, *, probabilities: Mapping[str, float], factor: Range) -> None:
        _check_probabilities(probabilities, ("up", "down", "keep"))
        _check_positive("factor", factor)
        _check_holds_one("factor", factor)
        self._probabilities = probabilities
        self._factor = factor

    def __call__(self, image: Tensor, generator: Generator, *, size: tuple[int, int]) -> Tensor:
        """Resizes one picture (1, 3, H, W) to a random multiple of a height and width."""
        direction = _draw_name(self._probabilities, generator)
        least, most = {
            "up": (1, self._factor[1]),
            "down": (self._factor[0], 1),
            "keep": (1, 1),
        }[direction]
        factor = generator.uniform(least, most)
        height, width = (max(int(length * factor), 1) for length in size)
        return resize(image, (height, width), mode=draw_mode(generator))


class RandomNoise:
    """Gaussian or Poisson noise, grey or in colour.

    Args:
        gaussian_probability: else it is Poisson noise.
        gaussian_sigma: standard deviation in grey levels of 255.
        poisson_scale: see `add_poisson_noise`.
        grey_probability: that all channels get the same noise.

    Raises:
        UserError: a range or probability that makes no sense.

    Source: Wang et al. 2021 (Real-ESRGAN), section 3.1, "Noise".
    """

    def __init__(
        self,
        *,
        gaussian_probability: float,
        gaussian_sigma: Range,
        poisson_scale: Range,
        grey_probability: float,
    ) -> None:
        check_probability("gaussian_probability", gaussian_probability)
        check_probability("grey_probability", grey_probability)
        check_range("gaussian_sigma", gaussian_sigma, lowest=0)
        check_range("poisson_scale", poisson_scale, lowest=0)
        self._gaussian_probability = gaussian_probability
        self._gaussian_sigma = gaussian_sigma
        self._poisson_scale = poisson_scale
        self._grey_probability = grey_probability

    def __call__(self, image: Tensor, generator: Generator) -> Tensor:
        """Adds noise to one picture (1, 3, H, W) in [0, 1], and clips it, as the authors do."""
        is_gaussian = generator.random() < self._gaussian_probability
        is_grey = bool(generator.random() < self._grey_probability)
        if is_gaussian:
            sigma = draw_within(self._gaussian_sigma, generator)
            noisy = add_gaussian_noise(image, generator, sigma=sigma, is_grey=is_grey)
        else:
            scale = draw_within(self._poisson_scale, generator)
            noisy = add_poisson_noise(image, generator, scale=scale, is_grey=is_grey)
        return noisy.clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of the two stages of `RealisticDegradation`.

    Attributes:
        blur: see `RandomBlur`.
        resize: see `RandomResize`.
        noise: see `RandomNoise`.
        jpeg_quality: least and most, whole numbers of 1...100.

    Raises:
        UserError: a range of qualities that makes no sense.
    """

    blur: RandomBlur
    resize: RandomResize
    noise: RandomNoise
    jpeg_quality: Sequence[int]

    def __post_init__(self) -> None:
        check_qualities("jpeg_quality", self.jpeg_quality)


def _check_positive(name: str, values: Range, *, highest: float = inf) -> None:
    check_range(name, values, lowest=0, highest=highest)
    if values[0] == 0:
        raise UserError(f"`{name}` (={list(values)}) must be above 0.")


def _check_holds_one(name: str, values: Range) -> None:
    if not values[0] <= 1 <= values[1]:
        raise UserError(f"`{name}` (={list(values)}) must hold 1.")


def _check_probabilities(probabilities: Mapping[str, float], known: Sequence[str]) -> None:
    for name, value in probabilities.items():
        if name not in known:
            raise UserError(f"`probabilities` has no `{name}`; known: {', '.join(known)}.")
        check_probability(f"probabilities.{name}", value)
    total = sum(probabilities.values())
    if not isclose(total, 1, abs_tol=1e-6):
        raise UserError(f"`probabilities` (={dict(probabilities)}) must sum to 1, not {total:g}.")


def _draw_name(probabilities: Mapping[str, float], generator: Generator) -> str:
    place = generator.random()
    for name, probability in probabilities.items():
        place -= probability
        if place < 0:
            return name
    return next(reversed(list(probabilities)))


def _draw_about_one(values: Range, generator: Generator) -> float:
    """Between the least and 1 as often as between 1 and the most, as the authors' code does."""
    is_low = generator.random() < 0.5
    return generator.uniform(values[0], 1) if is_low else generator.uniform(1, values[1])
