"""A generator that is built and run in a moment; tests say what of it matters to them."""

from typing import Any

from asrgan.models import SRGANGenerator

SMALL: dict[str, Any] = {
    "scale": 4,
    "num_features": 8,
    "num_blocks": 2,
    "norm": "batch",
    "trunk_end": "norm",
    "output": "linear",
    "spectral_norm": False,
    "spectral_norm_output": False,
    "attention": [],
    "pool_size": 2,
    "attention_resize": "transposed",
}
"""Arguments of `SRGANGenerator`."""


def small_generator(**changes: Any) -> SRGANGenerator:
    """``SMALL`` with changes, and random weights."""
    return SRGANGenerator(**(SMALL | changes))
