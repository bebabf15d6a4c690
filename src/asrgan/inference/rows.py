"""Feature maps that come and go in rows, from top to bottom."""

import errno
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from asrgan.errors import UserError


@dataclass(frozen=True)
class Band:
    """Consecutive rows of a map, with room around them for those that a convolution sees besides.

    Args:
        buffer: (1, C, R, W), channels last, so that rows lie one behind the other.
        start: the first of its rows in the buffer.
        stop: behind the last one.
    """

    buffer: Tensor
    start: int
    stop: int

    @property
    def rows(self) -> Tensor:
        """(1, C, stop - start, W)."""
        return self.buffer[:, :, self.start : self.stop]

    def split(self, num_rows: int) -> "Iterator[Band]":
        """Equal parts of at most that many rows. The rows above a part are in the room above it."""
        total = self.stop - self.start
        num_parts = -(-total // num_rows)
        edges = [self.start + total * part // num_parts for part in range(num_parts + 1)]
        for start, stop in pairwise(edges):
            yield Band(self.buffer, start, stop)


def empty_rows(
    features: int, num_rows: int, width: int, *, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """(1, features, num_rows, width) with rows that lie one behind the other."""
    return torch.empty(
        (1, features, num_rows, width),
        dtype=dtype,
        device=device,
        memory_format=torch.channels_last,
    )


class RowQueue(Protocol):
    """Rows of a map that wait: first in, first out."""

    def append(self, rows: Tensor) -> None:
        """Copies (1, C, R, W)."""
        ...

    def take(self, num_rows: int) -> list[Tensor]:
        """Its first rows, in parts (1, C, R, W); valid until the next call."""
        ...


class MemoryQueue:
    """Rows that wait in memory, in a ring.

    Args:
        buffer: (1, C, R, W), channels last: room for R rows.
    """

    def __init__(self, buffer: Tensor) -> None:
        self._buffer = buffer
        self._num_appended = self._num_taken = 0

    def append(self, rows: Tensor) -> None:
        """See `RowQueue`."""
        parts = self._parts(self._num_appended, rows.shape[2])
        for part, piece in zip(parts, rows.split([p.shape[2] for p in parts], dim=2), strict=True):
            part.copy_(piece)
        self._num_appended += rows.shape[2]
        assert self._num_appended - self._num_taken <= self._buffer.shape[2]

    def take(self, num_rows: int) -> list[Tensor]:
        """See `RowQueue`."""
        parts = self._parts(self._num_taken, num_rows)
        self._num_taken += num_rows
        assert self._num_taken <= self._num_appended
        return parts

    def _parts(self, row: int, num_rows: int) -> list[Tensor]:
        """Rows from a place in the sequence on, which may go round the end of the ring."""
        capacity = self._buffer.shape[2]
        start = row % capacity
        stop = start + num_rows
        parts = [self._buffer[:, :, start:stop]]
        if stop > capacity:
            parts.append(self._buffer[:, :, : stop - capacity])
        return parts


class FileQueue:
    """Rows of a whole map that wait in a temporary file, in a ring.

    What the system keeps of the file in memory is no process's, and given up where it is needed.
    The rows of a GPU wait in the same way: in the machine's memory, if that has room.

    Args:
        features: channels of the map.
        height: of the map.
        width: of the map.
        dtype: of the map.
        device: where rows are taken to.
    """

    def __init__(
        self, features: int, height: int, width: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._features, self._height, self._width = features, height, width
        self._dtype, self._device = dtype, device
        self._row_bytes = features * width * dtype.itemsize
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the queue
        weakref.finalize(self, self._file.close)
        self._num_appended = self._num_taken = 0

    def append(self, rows: Tensor) -> None:
        """See `RowQueue`; a map ends with the rows of one call.

        Raises:
            UserError: the folder of temporary files is full.
        """
        content = _bytes_of(rows.cpu())
        self._file.seek(self._num_appended % self._height * self._row_bytes)
        try:
            while content:
                content = content[self._file.write(content) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise UserError(
                f"`memory` leaves no room for feature maps, and {tempfile.gettempdir()} is too full"
                " for them; free it, name another folder with TMPDIR=DIR, or allow more memory."
            ) from error
        self._num_appended += rows.shape[2]

    def take(self, num_rows: int) -> list[Tensor]:
        """See `RowQueue`; a map ends with the rows of one call."""
        cpu = torch.device("cpu")
        rows = empty_rows(self._features, num_rows, self._width, dtype=self._dtype, device=cpu)
        content = _bytes_of(rows)
        self._file.seek(self._num_taken % self._height * self._row_bytes)
        while content:
            num_bytes = self._file.readinto(content)
            assert num_bytes
            content = content[num_bytes:]
        self._num_taken += num_rows
        return [rows.to(self._device)]


class Window:
    """Rows of one step's input which the next step adds to its result: they are still there."""

    def __init__(self) -> None:
        self._rows: Tensor | None = None
        self._first_row = self._num_taken = 0

    def show(self, rows: Tensor, first_row: int) -> None:
        """The rows (1, C, R, W) that a step works on, and the number of the first of them."""
        self._rows, self._first_row = rows, first_row

    def take(self, num_rows: int) -> list[Tensor]:
        """See `RowQueue`."""
        assert self._rows is not None
        start = self._num_taken - self._first_row
        self._num_taken += num_rows
        return [self._rows[:, :, start : start + num_rows]]


def _bytes_of(rows: Tensor) -> memoryview:
    """The memory of (1, C, R, W), channels last."""
    return rows.permute(0, 2, 3, 1).view(torch.uint8).numpy().data.cast("B")
