"""Pictures piece by piece, so that memory does not grow with them.

A piece is read with a margin and only its inside is kept: where the margin is as wide as the method
looks, the pieces together give what the whole picture gives.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Span(NamedTuple):
    """One piece along one side of a picture; positions in px.

    Attributes:
        start: where reading begins.
        stop: behind the last px that is read.
        keep_start: where what is kept begins; the kept parts of all pieces lie side by side.
        keep_stop: behind the last px that is kept.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def read(self) -> slice:
        """What is read of the picture."""
        return slice(self.start, self.stop)

    def kept(self, stride: int = 1) -> slice:
        """What is kept of a result that has a value for every ``stride`` px that were read.

        Windows that end at the picture's end may leave fewer values; all of the last piece's count.
        """
        first = (self.keep_start - self.start) // stride
        is_last = self.keep_stop == self.stop
        return slice(first, None if is_last else (self.keep_stop - self.start) // stride)


def spans(length: int, *, keep_px: int, margin_px: int) -> Iterator[Span]:
    """Cuts one side of a picture into pieces.

    Args:
        length: of the side, px.
        keep_px: kept of each piece, the last one may have less.
        margin_px: read on both sides of it, where the picture goes on.
    """
    for start in range(0, length, keep_px):
        stop = min(start + keep_px, length)
        yield Span(max(start - margin_px, 0), min(stop + margin_px, length), start, stop)


class Mean:
    """The mean of each channel of a map that comes in pieces, summed up in float64."""

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count = 0

    def add(self, values: Tensor) -> None:
        """Adds a piece, (N, C, h, w)."""
        total = values.sum(dim=-1).sum(dim=-1, dtype=torch.float64)
        self._sum = total if self._sum is None else self._sum + total
        self._count += values.shape[-2] * values.shape[-1]

    @property
    def value(self) -> Tensor:
        """(N, C) in float64."""
        assert self._sum is not None
        return self._sum / self._count
