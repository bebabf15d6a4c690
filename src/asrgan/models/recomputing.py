"""Gradient checkpointing: feature maps that are computed twice instead of kept."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Call = Callable[..., Any]


def plain(part: nn.Module, *inputs: Tensor, call: Call = nn.Module.__call__) -> Any:
    """``call(part, *inputs)``."""
    return call(part, *inputs)


def recomputed(part: nn.Module, *inputs: Tensor, call: Call = nn.Module.__call__) -> Any:
    """``call(part, *inputs)``, of which the backward pass keeps the inputs alone.

    The second forward pass is in the state of the first: batch norm counts its pictures once, and
    spectral norm divides by the same singular value, so gradients are those of the plain call.

    Args:
        part: of a network; without random numbers.
        inputs: of the part.
        call: how the part is used; its forward pass.

    Source: Chen et al. 2016 (arXiv 1604.06174), section 3.
    """
    state = _State(part)
    return checkpoint(
        call,
        part,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), state),
    )


def runner(*, recomputes: bool) -> Call:
    """What calls the parts of a network: ``recomputed`` where that is wanted and of use."""
    return recomputed if recomputes and torch.is_grad_enabled() else plain


class _State:
    """The buffers of a part, as they are now; within it they are so again, each time."""

    def __init__(self, part: nn.Module) -> None:
        self._buffers = list(part.buffers())
        self._values = self._copies()

    def _copies(self) -> list[Tensor]:
        return [buffer.clone() for buffer in self._buffers]

    def _exchange(self) -> None:
        present = self._copies()
        with torch.no_grad():
            for buffer, value in zip(self._buffers, self._values, strict=True):
                buffer.copy_(value)
        self._values = present

    def __enter__(self) -> None:
        self._earlier = list(self._values)
        self._exchange()

    def __exit__(self, *_: object) -> None:
        self._exchange()
        self._values = self._earlier
