"""What fits the machine."""

import ctypes
import resource
import sys
from typing import Literal

import torch

from asrgan.errors import UserError
from asrgan.hardware import computes_bfloat16

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**31 - 1  # the largest it takes

Precision = Literal["auto", "bf16-mixed", "16-mixed", "32-true", "64-true"]


def best_precision(
    precision: Precision, *, accelerator: str
) -> Literal["bf16-mixed", "16-mixed", "32-true", "64-true"]:
    """``auto`` becomes bfloat16 where the hardware computes with it, else float32.

    Args:
        precision: ``auto``, or one of Lightning's names, which is kept.
        accelerator: Lightning's name: ``auto``, ``cpu``, ``gpu``, ...

    Returns:
        A name Lightning knows.

    Raises:
        UserError: the hardware lacks the precision.
    """
    on_gpu = is_on_gpu(accelerator)
    has_bf16 = computes_bfloat16(torch.device("cuda" if on_gpu else "cpu"))
    if precision == "auto":
        return "bf16-mixed" if has_bf16 else "32-true"
    if (precision == "bf16-mixed" and not has_bf16) or (precision == "16-mixed" and not on_gpu):
        device, way_out = ("GPU", "16-mixed") if on_gpu else ("CPU", "auto")
        raise UserError(
            f"`trainer.precision` (={precision}): this {device} does not compute with it; try"
            f" trainer.precision={way_out} or 32-true."
        )
    return precision


def check_devices(*, accelerator: str, devices: int) -> None:
    """Refuses more GPUs than there are. A CPU is shared by any number of processes.

    Raises:
        UserError: names their number.
    """
    if is_on_gpu(accelerator) and devices > torch.cuda.device_count():
        raise UserError(
            f"`devices` (={devices}) must be at most {torch.cuda.device_count()}, the number of"
            " GPUs of this machine."
        )


def is_on_gpu(accelerator: str) -> bool:
    """Whether Lightning takes a GPU of this machine for the name of an accelerator."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def gan_strategy(strategy: str, *, devices: int, num_nodes: int) -> str:
    """``auto`` becomes DDP for more than one process.

    Each backward pass of a GAN leaves the other network's parameters unused, so DDP has to look
    for them.

    Args:
        strategy: ``auto``, or one of Lightning's names, which is kept.
        devices: per machine.
        num_nodes: machines.
    """
    if strategy == "auto" and devices * num_nodes > 1:
        return "ddp_find_unused_parameters_true"
    return strategy


def peak_memory_mib(device: torch.device) -> float:
    """The most memory of this process so far: what torch held on a GPU, or all of it on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts KiB


def keep_freed_memory() -> None:
    """Lets the C library keep what is freed: the next step asks for blocks of the same sizes.

    glibc returns large blocks to the system, which hands them out again page by page, filled with
    zeros: up to a tenth of a step on a CPU. Does nothing where the library is another one.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            library.mallopt(option, _KEPT_BYTES)
