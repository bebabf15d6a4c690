"""What fits the machine."""

import ctypes
import os
import resource
import sys
from typing import Literal, get_args

import torch

from asrgan.engine.launching import is_started_by_srun
from asrgan.errors import UserError
from asrgan.hardware import computes_bfloat16

# Names and numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 2**31 - 1  # the largest it takes

# A photograph's crop takes a worker 2 ms, and half a GiB of memory is a worker's: more do not pay.
_MOST_WORKERS, _MOST_WORKERS_OF_A_CPU = 8, 2

Precision = Literal["auto", "bf16-mixed", "16-mixed", "32-true"]
Accelerator = Literal["auto", "cpu", "gpu", "cuda"]
CompileMode = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


def best_precision(
    precision: Precision, *, accelerator: Accelerator
) -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """``auto`` becomes bfloat16 where the hardware computes with it, else float32.

    Args:
        precision: ``auto``, or one of Lightning's names, which is kept.
        accelerator: Lightning's name.

    Returns:
        A name Lightning knows.

    Raises:
        UserError: an unknown precision, or one that the hardware lacks.
    """
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise UserError(f"`trainer.precision` (={precision}) must be one of: {known}.")
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


def check_devices(*, accelerator: Accelerator, devices: int) -> None:
    """Refuses more GPUs than there are. A CPU is shared by any number of processes.

    Raises:
        UserError: names their number; or another kind of device.
    """
    if accelerator not in get_args(Accelerator):
        known = ", ".join(get_args(Accelerator))
        raise UserError(f"`trainer.accelerator` (={accelerator}) must be one of: {known}.")
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise UserError(
            f"`trainer.accelerator` (={accelerator}): torch finds no GPU on this machine; try cpu."
        )
    if is_on_gpu(accelerator) and devices > torch.cuda.device_count():
        raise UserError(
            f"`devices` (={devices}) must be at most {torch.cuda.device_count()}, the number of"
            " GPUs of this machine."
        )


def check_compile_mode(mode: str | None, *, recomputes: bool) -> None:
    """Refuses what torch.compile does not know, or cannot trace.

    Raises:
        UserError: an unknown mode, or feature maps that are to be recomputed as well.
    """
    if mode is None:
        return
    if mode not in get_args(CompileMode):
        known = ", ".join(get_args(CompileMode))
        raise UserError(f"`trainer.compile` (={mode}) must be null or one of: {known}.")
    if recomputes:
        raise UserError(
            f"`trainer.compile` (={mode}) cannot trace what trainer.recompute=true does; leave one"
            " of them out."
        )


def num_loader_workers(num_workers: int | str, *, accelerator: Accelerator, devices: int) -> int:
    """Processes that make the crops of one device.

    ``auto``: beside a GPU a process for each core of the device's share but the training's own, up
    to 8. On a CPU, whose cores compute the networks, up to 2.

    Args:
        num_workers: a number is kept.
        accelerator: as `best_precision` takes it.
        devices: of this machine.

    Raises:
        UserError: neither a number from 0 on nor ``auto``.
    """
    if num_workers == "auto":
        num_cores = num_cores_of_process(devices)
        if is_on_gpu(accelerator):
            return min(_MOST_WORKERS, max(1, num_cores - 1))
        return min(_MOST_WORKERS_OF_A_CPU, num_cores)
    if not isinstance(num_workers, int) or num_workers < 0:
        raise UserError(
            f"`data.num_workers` (={num_workers}) must be auto or a whole number of at least 0."
        )
    return num_workers


def num_cores_of_process(devices: int) -> int:
    """The share of one of this machine's processes, at least 1."""
    num_cores = int(os.environ.get("SLURM_CPUS_PER_TASK") or len(os.sched_getaffinity(0)))
    return num_cores if is_started_by_srun(os.environ) else max(1, num_cores // devices)


def share_threads(devices: int) -> None:
    """Divides the cores among the processes of this machine, which else would each use them all.

    ``OMP_NUM_THREADS`` decides where it is set.
    """
    if devices > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(num_cores_of_process(devices))


def is_on_gpu(accelerator: Accelerator) -> bool:
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
