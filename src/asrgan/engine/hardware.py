"""What fits the machine."""

import ctypes
import resource
import sys
from typing import Literal

import torch

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
    """
    if precision != "auto":
        return precision
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    has_bf16 = computes_bfloat16(torch.device("cuda" if on_gpu else "cpu"))
    return "bf16-mixed" if has_bf16 else "32-true"


def gan_strategy(strategy: str, *, devices: int | str, num_nodes: int) -> str:
    """``auto`` becomes DDP for more than one process.

    Each backward pass of a GAN leaves the other network's parameters unused, so DDP has to look
    for them.

    Args:
        strategy: ``auto``, or one of Lightning's names, which is kept.
        devices: per node, as Lightning takes it.
        num_nodes: machines.
    """
    if strategy == "auto" and (num_nodes > 1 or str(devices) != "1"):
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
