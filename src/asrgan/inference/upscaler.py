"""A generator that enlarges pictures of any size."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from asrgan.errors import UserError
from asrgan.inference.memory import parse_memory
from asrgan.models import BicubicUpscaler, SRGANGenerator, load_generator

Attention = Literal["whole", "window"]
_BAND_PX = 1 << 16  # of LR, in one band
_HALO_PX = 4  # of LR: what the upsamplings and the output convolution see, at any scale
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclass(frozen=True)
class Forecast:
    """What a picture will need.

    Args:
        peak_bytes: of memory.
        seconds: of time.
    """

    peak_bytes: int
    seconds: float


class Upscaler:
    """Enlarges pictures of any size.

    Args:
        generator: in eval mode, with plain weights.
        memory_bytes: the most that the process may hold, or None.
        device: of torch.
        precision: ``float32`` or ``bfloat16``.
        attention: ``whole``, or ``window``.
    """

    def __init__(
        self,
        generator: SRGANGenerator | BicubicUpscaler,
        *,
        memory_bytes: int | None,
        device: str | torch.device,
        precision: str,
        attention: Attention = "whole",
    ) -> None:
        if attention not in get_args(Attention):
            raise UserError(f"`attention` (={attention}) must be whole or window.")
        if precision not in ("float32", "bfloat16"):
            raise UserError(f"`precision` (={precision}) must be auto, float32 or bfloat16.")
        self.scale = generator.scale
        self.device = torch.device(device)
        self.dtype = getattr(torch, precision)
        self.memory_bytes = memory_bytes
        self._generator = generator.to(
            self.device, self.dtype, memory_format=torch.channels_last
        ).eval()  # pyright: ignore

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        *,
        memory: str | int | None = None,
        device: str = "auto",
        precision: str = "auto",
        attention: Attention = "whole",
    ) -> "Upscaler":
        """Opens a generator's file, or ``bicubic``."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError(
                f"`device` (={device}) is not there: torch finds no GPU; try device=cpu."
            )
        if precision == "auto":
            precision = "float32"
        return cls(
            load_generator(path),
            memory_bytes=parse_memory(memory),
            device=device,
            precision=precision,
            attention=attention,
        )

    def forecast(self, height: int, width: int) -> Forecast:
        """Memory and time for a picture of this size."""
        num_px = height * width * self.scale**2
        return Forecast(peak_bytes=2**30, seconds=num_px * 2e-6)

    def bands(self, lr_image: Tensor) -> Iterator[Tensor]:
        """The enlarged picture from top to bottom, not clamped.

        Args:
            lr_image: (3, H, W) float32 in [0, 1], on the CPU.

        Yields:
            (3, rows, scale * W) float32, on the CPU.
        """
        generator, scale = self._generator, self.scale
        height, width = lr_image.shape[-2:]
        image = lr_image[None].to(self.device, self.dtype, memory_format=torch.channels_last)
        with torch.inference_mode():
            if isinstance(generator, BicubicUpscaler) or any(
                place.startswith("upsample") for place in generator.attention_layers
            ):
                yield generator(image)[0].float().cpu()
                return
            features = generator.features(image)
            rows = max(1, _BAND_PX // width)
            for top in range(0, height, rows):
                bottom = min(height, top + rows)
                first, last = max(0, top - _HALO_PX), min(height, bottom + _HALO_PX)
                band = generator.reconstruct(features[:, :, first:last])[0].float()
                yield band[:, scale * (top - first) : scale * (bottom - first)].cpu()

    def upscale(self, lr_image: Tensor) -> Tensor:
        """(3, H, W) in [0, 1] to (3, scale * H, scale * W) float32, not clamped."""
        height, width = lr_image.shape[-2:]
        sr_image = torch.empty(3, self.scale * height, self.scale * width)
        top = 0
        for band in self.bands(lr_image):
            sr_image[:, top : top + band.shape[1]] = band
            top += band.shape[1]
        return sr_image

    def __call__(self, image: Any) -> Any:
        """Enlarges a picture and returns one of the same kind.

        Args:
            image: an array, uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4); a PIL image; or a
                tensor (3, H, W) or (N, 3, H, W) in [0, 1].
        """
        if isinstance(image, Tensor):
            if image.ndim == 4:
                return torch.stack([self(one) for one in image])
            return self.upscale(image.detach().float().cpu()).clamp(0, 1).to(image)
        if isinstance(image, Image.Image):
            return self._upscale_pil(image)
        return self._upscale_array(image)

    def _upscale_pil(self, image: Image.Image) -> Image.Image:
        mode = image.mode
        if mode == "LA":
            return self._upscale_pil(image.convert("RGBA")).convert("LA")
        if mode not in ("L", "RGB", "RGBA", "I;16"):
            has_alpha = "A" in mode or "transparency" in image.info
            image = image.convert("RGBA" if has_alpha else "RGB")
        return Image.fromarray(self._upscale_array(np.array(image)))

    def _upscale_array(self, image: NDArray[Any]) -> NDArray[Any]:
        largest = np.iinfo(image.dtype).max
        levels = torch.from_numpy(image.astype(np.float32) / largest)
        if levels.ndim == 2:
            channels = self.upscale(levels.expand(3, -1, -1))
            weights = torch.tensor(GREY_WEIGHTS)[:, None, None]
            result = (channels * weights).sum(0)
        else:
            levels = levels.permute(2, 0, 1)
            result = self.upscale(levels[:3].contiguous())
            if len(levels) == 4:
                size = (result.shape[1], result.shape[2])
                alpha = F.interpolate(levels[None, 3:], size, mode="bicubic", antialias=True)
                result = torch.cat([result, alpha[0]])
            result = result.permute(1, 2, 0)
        return result.clamp(0, 1).mul(largest).round().numpy().astype(image.dtype)
