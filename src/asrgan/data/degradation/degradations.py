"""From HR to LR, on the device, a batch at a time."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from kornia.filters import get_gaussian_kernel2d
from numpy.random import Generator
from torch import Tensor, nn

from asrgan.data.degradation.operations import add_gaussian_noise, blur, compress, resize
from asrgan.data.degradation.parts import (
    RandomSinc,
    Range,
    Stage,
    check_qualities,
    check_range,
    draw_mode,
    draw_quality,
    draw_within,
)
from asrgan.imaging import bicubic_downscale, quantize

# Number after the seed: streams 0 and 1 are those of the crops.
_DEGRADATION_STREAM = 2
_KERNEL_SIGMAS = 3  # half the width of a Gaussian kernel: 0.3% of the weight lies beyond


class Degradation(nn.Module, ABC):
    """Makes LR from HR; `forward` is the same for all.

    Args:
        scale: integer factor by which LR is smaller.
    """

    def __init__(self, *, scale: int) -> None:
        super().__init__()
        self.scale = scale

    @abstractmethod
    def forward(self, hr_image: Tensor, *, sample_numbers: Sequence[int]) -> Tensor:
        """Makes the LR partners of a batch.

        Args:
            hr_image: (N, 3, H, W) in [0, 1], H and W divisible by the scale.
            sample_numbers: what each picture's random choices are a function of, with the seed.

        Returns:
            (N, 3, H/scale, W/scale) in [0, 1] on the 256 levels of a file, float32.

        Raises:
            ValueError: H or W is not divisible, or there are not N numbers.
        """


class BicubicDegradation(Degradation):
    """The field's standard degradation: MATLAB's bicubic reduction, stored with 8 bits.

    Args:
        scale: integer factor by which LR is smaller.
    """

    def forward(self, hr_image: Tensor, *, sample_numbers: Sequence[int]) -> Tensor:
        """As `Degradation.forward`; nothing is random."""
        del sample_numbers
        return bicubic_downscale(hr_image, scale=self.scale)


class _RandomDegradation(Degradation):
    """One generator for each sample number, whichever batch, process or run asks for it."""

    def __init__(self, *, scale: int, seed: int) -> None:
        super().__init__(scale=scale)
        self._seed = seed

    @torch.no_grad()
    def forward(self, hr_image: Tensor, *, sample_numbers: Sequence[int]) -> Tensor:
        """As `Degradation.forward`."""
        height, width = hr_image.shape[-2:]
        if height % self.scale or width % self.scale:
            raise ValueError(
                f"the image's size {height}x{width} must be divisible by scale={self.scale}."
            )
        generators = [
            np.random.default_rng((self._seed, _DEGRADATION_STREAM, number))
            for number in sample_numbers
        ]
        if len(generators) != len(hr_image):
            raise ValueError(f"{len(hr_image)} images need as many numbers, not {len(generators)}.")
        with torch.autocast(hr_image.device.type, enabled=False):
            return quantize(self._degrade(hr_image.float().contiguous(), generators))

    @abstractmethod
    def _degrade(self, hr_image: Tensor, generators: Sequence[Generator]) -> Tensor: ...


class CameraJPEGDegradation(_RandomDegradation):
    """Bicubic reduction, then JPEG: how small pictures are stored.

    Args:
        scale: integer factor by which LR is smaller.
        seed: another seed gives other qualities.
        jpeg_quality: least and most, whole numbers of 1...100.

    Raises:
        UserError: a range that makes no sense.
    """

    def __init__(self, *, scale: int, seed: int, jpeg_quality: Sequence[int]) -> None:
        super().__init__(scale=scale, seed=seed)
        check_qualities("jpeg_quality", jpeg_quality)
        self._jpeg_quality = jpeg_quality

    def _degrade(self, hr_image: Tensor, generators: Sequence[Generator]) -> Tensor:
        qualities = [draw_quality(self._jpeg_quality, generator) for generator in generators]
        return compress(bicubic_downscale(hr_image, scale=self.scale), qualities)


class LightDegradation(_RandomDegradation):
    """A photo site's small original: mild blur, bicubic reduction, mild noise, JPEG.

    Args:
        scale: integer factor by which LR is smaller.
        seed: another seed gives other pictures.
        blur_sigma_px: standard deviation of the Gaussian blur, in HR pixels, at least
            0.01.
        noise_sigma: standard deviation of the Gaussian colour noise, in grey levels of 255.
        jpeg_quality: least and most, whole numbers of 1...100.

    Raises:
        UserError: a range that makes no sense.
    """

    def __init__(
        self,
        *,
        scale: int,
        seed: int,
        blur_sigma_px: Range,
        noise_sigma: Range,
        jpeg_quality: Sequence[int],
    ) -> None:
        super().__init__(scale=scale, seed=seed)
        check_range("blur_sigma_px", blur_sigma_px, lowest=0.01)
        check_range("noise_sigma", noise_sigma, lowest=0)
        check_qualities("jpeg_quality", jpeg_quality)
        self._blur_sigma_px = blur_sigma_px
        self._noise_sigma = noise_sigma
        self._jpeg_quality = jpeg_quality
        self._kernel_size_px = 2 * ceil(_KERNEL_SIGMAS * blur_sigma_px[1]) + 1

    def _degrade(self, hr_image: Tensor, generators: Sequence[Generator]) -> Tensor:
        sigmas = torch.tensor([draw_within(self._blur_sigma_px, g) for g in generators])
        kernels = get_gaussian_kernel2d(self._kernel_size_px, sigmas[:, None].expand(-1, 2))
        lr_image = bicubic_downscale(blur(hr_image, kernels), scale=self.scale)
        noisy = [
            add_gaussian_noise(image, g, sigma=draw_within(self._noise_sigma, g), is_grey=False)
            for image, g in zip(lr_image.split(1), generators, strict=True)
        ]
        qualities = [draw_quality(self._jpeg_quality, generator) for generator in generators]
        return compress(torch.cat(noisy), qualities)


class RealisticDegradation(_RandomDegradation):
    """Real-ESRGAN's second-order degradation: blur, resize, noise, JPEG, twice, and a sinc filter.

    The last JPEG comes before or after the last resize and sinc filter, equally often. Sizes
    differ between the pictures of a batch from the first resize on, so only the first blur, the
    one of the largest pictures, is made for all at once.

    Args:
        scale: integer factor by which LR is smaller.
        seed: another seed gives other pictures.
        first: its resize is relative to HR's size.
        second: its resize is relative to LR's size.
        final_sinc: the last filter.

    Source: Wang et al. 2021 (Real-ESRGAN, arXiv 2107.10833), sections 3.1 and 3.2, figure 2.
    """

    def __init__(
        self, *, scale: int, seed: int, first: Stage, second: Stage, final_sinc: RandomSinc
    ) -> None:
        super().__init__(scale=scale, seed=seed)
        self._first = first
        self._second = second
        self._final_sinc = final_sinc

    def _degrade(self, hr_image: Tensor, generators: Sequence[Generator]) -> Tensor:
        blurred = self._first.blur(hr_image, generators).split(1)
        return torch.cat([self._go_on(*pair) for pair in zip(blurred, generators, strict=True)])

    def _go_on(self, image: Tensor, generator: Generator) -> Tensor:
        height, width = image.shape[-2:]
        lr_size = (height // self.scale, width // self.scale)
        image = self._first.resize(image, generator, size=(height, width))
        image = self._first.noise(image, generator)
        image = compress(image, [draw_quality(self._first.jpeg_quality, generator)])
        image = self._second.blur(image, [generator])
        image = self._second.resize(image, generator, size=lr_size)
        image = self._second.noise(image, generator)
        quality, mode = draw_quality(self._second.jpeg_quality, generator), draw_mode(generator)
        if generator.random() < 0.5:
            image = self._final_sinc(resize(image, lr_size, mode=mode), [generator])
            return compress(image, [quality])
        image = resize(compress(image, [quality]), lr_size, mode=mode)
        return self._final_sinc(image, [generator])
