"""Amounts of memory."""

import re

from asrgan.errors import UserError

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
