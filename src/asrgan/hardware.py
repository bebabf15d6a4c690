"""What the machine has."""

import torch

from asrgan.errors import UserError


def find_device(name: str) -> torch.device:
    """A device of torch by its name; ``auto`` is the GPU where there is one.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        UserError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"`device` (={name}) is unknown; try auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"`device` (={name}) is none that asrgan runs on; try auto, cpu or cuda.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count() or "no"
        raise UserError(
            f"`device` (={name}) is not there: torch finds {found} GPU; try device=cpu."
        )
    return device


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # pyright: ignore[reportPrivateUsage]
