"""Amounts of memory: read from text, written as text, measured."""

import ctypes
import os
import re
import resource
import sys
from pathlib import Path

import torch

from asrgan.errors import UserError

_CLEAR_REFS = Path("/proc/self/clear_refs")
# Of cgroups, version 2 and 1: the limit, what is in use, and what that is for.
_CONTAINER_FILES = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
_CONTAINER = Path("/sys/fs/cgroup")
_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}


class MemoryBudgetError(UserError):
    """A budget that can never hold the picture.

    Args:
        message: one line.
        needed_bytes: the smallest budget that can.
    """

    def __init__(self, message: str, *, needed_bytes: int = 0) -> None:  # 0: while it is unpickled
        super().__init__(message)
        self.needed_bytes = needed_bytes


def parse_memory(text: str | int | None) -> int | None:
    """An amount of memory in bytes: ``4GiB``, ``1.5GB``, ``500MiB``, ``4294967296``; None stays.

    Raises:
        UserError: no positive amount, or an unknown unit.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", str(text).lower())
    num_bytes = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if num_bytes < 1:
        raise UserError(f"`memory` (={text}) must be an amount like 4GiB, 500MiB or 2GB.")
    return num_bytes


class PeakMemory:
    """The most that was held while it is entered: resident memory, or torch's on the GPU.

    Attributes:
        mib: None where the system does not tell (only Linux does, of a process).
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.mib: int | None = None

    def __enter__(self) -> "PeakMemory":
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        elif _CLEAR_REFS.exists():
            _CLEAR_REFS.write_text("5")  # forgets the peak
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.mib = torch.cuda.max_memory_reserved(self._device) // 2**20
        elif _CLEAR_REFS.exists():
            status = Path("/proc/self/status").read_text()
            self.mib = int(status.split("VmHWM:")[1].split()[0]) // 1024


def as_text(num_bytes: int) -> str:
    """An amount that `parse_memory` reads: rounded up to MiB, so that it is enough.

    >>> as_text(4 * 2**30), as_text(1), as_text(3 * 10**9)
    ('4GiB', '1MiB', '2862MiB')
    """
    mib = -(-num_bytes // 2**20)
    return f"{mib // 1024}GiB" if mib % 1024 == 0 else f"{mib}MiB"


def held_bytes(device: torch.device) -> int:
    """What a budget counts: the process's resident memory, or what torch holds on the GPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved(device)
    _give_back_freed()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit  # the peak: on the safe side


def free_bytes(device: torch.device) -> int:
    """What this process may come to hold, all in all, without another one missing it.

    On a CPU that is what it holds and four fifths of what the machine, and a container's limit,
    leave; on a GPU nine tenths of what is free there.
    """
    if device.type == "cuda":
        return held_bytes(device) + torch.cuda.mem_get_info(device)[0] * 9 // 10
    return held_bytes(device) + min(_free_of_machine(), _free_of_container()) * 4 // 5


def _free_of_machine() -> int:
    info = Path("/proc/meminfo")
    if not info.exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return int(info.read_text().split("MemAvailable:")[1].split()[0]) * 1024


def _free_of_container() -> int:
    for names in _CONTAINER_FILES:
        limit, usage, purposes = (_CONTAINER / name for name in names)
        if limit.exists() and (most := limit.read_text().strip()) != "max":
            cache = re.search(r"inactive_file (\d+)", purposes.read_text())  # which gives way
            return int(most) - int(usage.read_text()) + int(cache[1] if cache else 0)
    return sys.maxsize


def _give_back_freed() -> None:
    """Lets the C library return what the process no longer uses."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
    if trim is not None:
        trim(0)
