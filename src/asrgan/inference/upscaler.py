"""A generator that enlarges pictures of any size."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from asrgan.errors import DivergedError, UserError
from asrgan.hardware import computes_bfloat16, find_device
from asrgan.imaging import resize_bands
from asrgan.inference.forecast import Forecast, Speed, forecast, measure_speed, warm_up
from asrgan.inference.memory import MemoryBudgetError, as_text, held_bytes, parse_memory
from asrgan.inference.network import Network
from asrgan.inference.plan import Plan, Precision, plans
from asrgan.inference.streaming import BicubicStream, GeneratorStream, Stream
from asrgan.models import (
    BicubicUpscaler,
    SRGANGenerator,
    fold_norms,
    load_generator,
    read_metadata,
)
from asrgan.weights import find_weights

Attention = Literal["whole", "window"]
PrecisionName = Literal["auto", "bfloat16", "float32"]
_NOT_RGB = ("CMYK", "LAB", "YCbCr", "HSV")
# What two processes that do the same may differ by.
_SPARE_BYTES = 16 << 20
_GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601, section 2.5.1
_BAND_ROWS = 64  # of a picture that becomes floating point at a time


class Upscaler:
    """Enlarges pictures of any size, exactly, within a memory budget.

    Args:
        generator: stays as it is.
        memory_bytes: the most that the process may hold, interpreter, torch and pictures
            included; on a GPU, the most that torch may hold there. None: no limit.
        device: of torch.
        precision: ``float32``; ``bfloat16`` for the maps and weights between the first convolution
            and the output; ``auto``: what the device is fastest in.
        attention: ``whole``; or ``window``, which limits it to windows as an ablation. The picture
            is another one then, and the windows may show.
        window_px: side of the windows, of LR.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(
        self,
        generator: SRGANGenerator | BicubicUpscaler,
        *,
        memory_bytes: int | None,
        device: str | torch.device,
        precision: str,
        attention: str = "whole",
        window_px: int | None = None,
    ) -> None:
        if attention not in get_args(Attention):
            raise UserError(f"`attention` (={attention}) must be whole or window.")
        if precision not in get_args(PrecisionName):
            raise UserError(f"`precision` (={precision}) must be auto, bfloat16 or float32.")
        if attention == "window" and (window_px is None or window_px < 1):
            raise UserError(
                f"`window_px` (={window_px}) must be the side of attention's windows, of LR: the"
                " crop that the network was trained with, divided by its scale."
            )
        self.scale = generator.scale
        self.device = torch.device(device)
        self.memory_bytes = memory_bytes
        self._window_px = window_px if attention == "window" else None
        self._warm_bytes: int | None = None
        if isinstance(generator, BicubicUpscaler):
            self._stream: Stream = BicubicStream(generator.scale, device=self.device)
            return
        self._stream = GeneratorStream(
            fold_norms(generator),
            precision=_types(precision, self.device),
            device=self.device,
            window_px=self._window_px,
        )

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        *,
        memory: str | int | None = None,
        device: str = "auto",
        precision: str = "auto",
        attention: str = "whole",
    ) -> "Upscaler":
        """Opens a generator.

        Args:
            path: as for `asrgan.models.load_generator`.
            memory: ``4GiB``, ``500MiB``, or bytes; None: no limit.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
            precision: ``auto``, ``bfloat16``, ``float32``.
            attention: ``whole``; or ``window``, of the size that the file's recipe trained with.

        Raises:
            UserError: an argument is out of its range, or the file holds no generator.
        """
        window_px = _trained_px(path) if attention == "window" else None
        return cls(
            load_generator(path),
            memory_bytes=parse_memory(memory),
            device=find_device(device),
            precision=precision,
            attention=attention,
            window_px=window_px,
        )

    @property
    def precision(self) -> str:
        """Of the features."""
        return str(self._stream.precision.features).removeprefix("torch.")

    @property
    def network(self) -> Network:
        """What the generator does, as data."""
        return self._stream.network

    def forecast(
        self,
        height: int,
        width: int,
        *,
        caller_bytes: int = 0,
        later_bytes: int = 0,
        network: Network | None = None,
    ) -> Forecast:
        """What `bands` will need for a picture, of memory and time.

        The first forecast measures the machine, which takes about a second.

        Args:
            height: of LR.
            width: of LR.
            caller_bytes: what the caller will hold meanwhile, beside what it holds now and the LR
                tensor: say, the enlarged picture.
            later_bytes: what it will hold in addition when the network has done.
            network: another one than this generator's, of the same features.

        Raises:
            UserError: the budget can never hold the picture.
        """
        network = network or self.network
        speed, held = self._speed, self.held_bytes() + caller_bytes
        later = held + later_bytes
        expected = forecast(
            network,
            self._plan(network, height, width, held=held, later=later),
            precision=self._stream.precision,
            speed=speed,
            held_bytes=held,
            window_px=self._window_px,
        )
        return replace(expected, peak_bytes=max(expected.peak_bytes, later))

    def bands(self, lr_image: Tensor, *, caller_bytes: int = 0) -> Iterator[Tensor]:
        """The enlarged picture from top to bottom.

        Args:
            lr_image: (3, H, W) float32 in [0, 1], on the CPU.
            caller_bytes: see `forecast`.

        Yields:
            (3, rows, scale * W) float32, on the CPU, not clamped.

        Raises:
            UserError: the budget can never hold the picture, or the disk is too full for features
                that have to wait in a file.
            DivergedError: a result is no finite number.
        """
        _, height, width = lr_image.shape
        held = 0
        if self.memory_bytes is not None:
            held = self.held_bytes() + caller_bytes
            if self.device.type == "cpu":
                held -= lr_image.nbytes  # counted by the plan
        plan = self._plan(self.network, height, width, held=held)
        for rows in self._stream.run(lr_image, plan):
            if not rows.isfinite().all():
                raise DivergedError(
                    "the network makes values that are no numbers; take other weights, or"
                    " precision=float32."
                )
            yield rows.cpu()

    def check(self, height: int, width: int, *, caller_bytes: int, later_bytes: int) -> None:
        """Refuses a size that the budget could not hold if there were no other picture.

        Args:
            height: of LR.
            width: of LR.
            caller_bytes: what the caller will hold besides.
            later_bytes: see `forecast`.

        Raises:
            MemoryBudgetError: it could not.
        """
        held = self.warm_up() + caller_bytes
        self._plan(self.network, height, width, held=held, later=held + later_bytes)

    def upscale(self, lr_image: Tensor) -> Tensor:
        """(3, H, W) in [0, 1] to (3, scale * H, scale * W) float32, not clamped."""
        _, height, width = lr_image.shape
        sr_image = torch.empty(3, self.scale * height, self.scale * width)
        top = 0
        for band in self.bands(lr_image, caller_bytes=sr_image.nbytes):
            sr_image[:, top : top + band.shape[1]] = band
            top += band.shape[1]
        return sr_image

    def __call__(self, image: Any) -> Any:
        """Enlarges a picture and returns one of the same kind.

        Args:
            image: an array, uint8 or uint16, (H, W), (H, W, 3) or (H, W, 4); a PIL image; or a
                tensor (3, H, W) or (N, 3, H, W) in [0, 1]. Grey is enlarged as colour and made
                grey again, alpha by bicubic interpolation. A PIL image is turned as its EXIF say,
                and keeps its colour profile; other colours than RGB become RGB, without it.

        Raises:
            UserError: another kind of picture, or as `bands`.
        """
        if isinstance(image, Tensor):
            return self._enlarge_tensor(image)
        if isinstance(image, Image.Image):
            return self._enlarge_pil(image)
        return self._enlarge_array(image)

    def _enlarge_tensor(self, image: Tensor) -> Tensor:
        if image.ndim == 4:
            return torch.stack([self._enlarge_tensor(one) for one in image])
        if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
            raise _unknown(f"a {image.dtype} tensor {tuple(image.shape)}")
        return self.upscale(image.detach().float().cpu()).clamp_(0, 1).to(image)

    def _enlarge_pil(self, image: Image.Image) -> Image.Image:
        if image.mode == "LA":
            return self._enlarge_pil(image.convert("RGBA")).convert("LA")
        if image.mode != "I;16" and image.mode.startswith(("I", "F")):
            raise _unknown(f"a PIL image of mode {image.mode}")
        image = ImageOps.exif_transpose(image)
        profile = image.info.get("icc_profile") if image.mode not in _NOT_RGB else None
        if image.mode not in ("L", "RGB", "RGBA", "I;16"):
            image = image.convert("RGBA" if image.has_transparency_data else "RGB")
        enlarged = Image.fromarray(self._enlarge_array(np.array(image)))
        if profile:
            enlarged.info["icc_profile"] = profile
        return enlarged

    def _enlarge_array(self, image: NDArray[Any]) -> NDArray[Any]:
        if image.dtype.name not in ("uint8", "uint16") or image.shape[2:] not in ((), (3,), (4,)):
            raise _unknown(f"a {image.dtype} array {image.shape}")
        size = self.scale * image.shape[0], self.scale * image.shape[1]
        sr_image = np.empty((*size, *image.shape[2:]), image.dtype)
        lr_image = as_planes(image[..., :3] if image.ndim == 3 else image)
        bands = self.bands(lr_image.expand(3, -1, -1), caller_bytes=sr_image.nbytes)
        if image.ndim == 2:
            fill_levels(sr_image[..., None], map(as_grey, bands))
            return sr_image
        fill_levels(sr_image[..., :3], bands)
        if image.shape[2] == 4:
            alpha = resize_bands(row_bands(image[..., 3]), height=len(image), size=size)
            fill_levels(sr_image[..., 3:], alpha)
        return sr_image

    def _plan(
        self, network: Network, height: int, width: int, *, held: int, later: int = 0
    ) -> Plan:
        """The fastest plan that the budget allows, and what is held later."""
        if height < 1 or width < 1:
            raise UserError(f"a picture of {width}x{height} px has nothing to enlarge.")
        budget, needed = self.memory_bytes, 0
        for plan in plans(
            network,
            height=height,
            width=width,
            precision=self._stream.precision,
            device=self.device,
        ):
            needed = max(held + plan.peak_bytes, later)
            if budget is None or needed <= budget:
                return plan
        raise self._too_little(height, width, needed=needed)

    def _too_little(self, height: int, width: int, *, needed: int) -> MemoryBudgetError:
        assert self.memory_bytes is not None
        needed += _SPARE_BYTES
        return MemoryBudgetError(
            f"`memory` (={as_text(self.memory_bytes)}) can never hold a picture of {width}x{height}"
            f" px; the smallest that can is memory={as_text(needed)}.",
            needed_bytes=needed,
        )

    def held_bytes(self) -> int:
        """What the budget counts already, libraries that load on first use included."""
        self.warm_up()
        return held_bytes(self.device)

    def warm_up(self) -> int:
        """Loads libraries that load on first use; what the budget counted when it was done."""
        if self._warm_bytes is None:
            warm_up(self._stream)
            self._warm_bytes = held_bytes(self.device)
        return self._warm_bytes

    @cached_property
    def _speed(self) -> Speed:
        return measure_speed(self._stream)


def _types(precision: str, device: torch.device) -> Precision:
    """What is computed in which type.

    A picture has 256 levels, bfloat16 as many between 0 and 1: so it begins in float32.
    Attention does, too, on a CPU: there its fused kernel is faster in float32.
    """
    if precision == "auto":
        precision = "bfloat16" if computes_bfloat16(device) else "float32"
    features = torch.bfloat16 if precision == "bfloat16" else torch.float32
    tokens = torch.float32 if device.type == "cpu" else features
    return Precision(features, image=torch.float32, tokens=tokens)


def as_planes(levels: NDArray[Any]) -> Tensor:
    """uint8 or uint16, (H, W) or (H, W, C), as float32 (C, H, W) in [0, 1]."""
    planes = np.atleast_3d(levels).transpose(2, 0, 1).astype(np.float32, order="C")
    return torch.from_numpy(planes).div_(np.iinfo(levels.dtype).max)


def row_bands(levels: NDArray[Any]) -> Iterator[Tensor]:
    """The same in bands (C, rows, W) from top to bottom, a few rows in floating point at a time."""
    for top in range(0, len(levels), _BAND_ROWS):
        yield as_planes(levels[top : top + _BAND_ROWS])


def as_grey(band: Tensor) -> Tensor:
    """The luma (1, rows, W) of a band (3, rows, W)."""
    return (band * torch.tensor(_GREY_WEIGHTS)[:, None, None]).sum(dim=0, keepdim=True)


def fill_levels(levels: NDArray[Any], bands: Iterable[Tensor]) -> None:
    """Rounds bands of (C, rows, W), or of one channel for all, to the levels of (H, W, C)."""
    top, white = 0, np.iinfo(levels.dtype).max
    for band in bands:
        rows = band.clamp(0, 1).mul_(white).round_().permute(1, 2, 0).numpy()
        np.copyto(levels[top : top + len(rows)], rows, casting="unsafe")
        top += len(rows)


def _unknown(kind: str) -> UserError:
    return UserError(
        f"`image` is {kind}; give an array uint8 or uint16 (H, W), (H, W, 3) or (H, W, 4), a PIL"
        " image, or a tensor (3, H, W) or (N, 3, H, W) in [0, 1]."
    )


def _trained_px(path: Path | str) -> int:
    """Side of the LR crops that a file's recipe trained with."""
    recipe = read_metadata(path)["recipe"] if find_weights(path).suffix == ".safetensors" else {}
    try:
        recipe = recipe["weights"]["recipe"] if "weights" in recipe else recipe  # of an export
        config = recipe["config"]
        return config["data"]["crop_size_px"] // config["scale"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"`attention` (=window) needs to know the crop that `{path}` was trained with, and the"
            " file does not say; try attention=whole."
        ) from error
