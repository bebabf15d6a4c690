"""Convolutions over rows that come in bands: each row is computed once, and from its neighbours."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.inference.network import Step
from asrgan.inference.rows import Band, RowQueue, Window, empty_rows
from asrgan.models import SRGANGenerator, as_phases, pixel_by_pixel


class Convolution:
    """The weights of a step, as they are used.

    Args:
        step: what it does.
        generator: has the weights; without norms.
        dtype: to compute in, and of its input.
        phases: the square of pixels, this wide, that are computed as channels of one; 1 is the
            convolution as it is. See `as_phases`.
        offset: added to the result.
        device: of torch.
    """

    def __init__(
        self,
        step: Step,
        generator: SRGANGenerator,
        *,
        dtype: torch.dtype,
        phases: int,
        offset: float,
        device: torch.device,
    ) -> None:
        conv = cast("nn.Conv2d", generator.get_submodule(step.name))
        assert conv.bias is not None
        weight, bias = conv.weight.detach(), conv.bias.detach() + offset
        if step.enlarges:
            weight, bias = pixel_by_pixel(weight), pixel_by_pixel(bias)
        if phases > 1:
            weight, bias = as_phases(weight, phases), bias.repeat_interleave(phases**2)
        weight = weight.contiguous(memory_format=torch.channels_last)
        self._weight, self._bias = (t.to(device=device, dtype=dtype) for t in (weight, bias))
        self.step = step
        self.phases = phases
        self.slope: float | None = None  # of the PReLU
        if step.activation is not None:
            prelu = cast("nn.PReLU", generator.get_submodule(step.activation))
            self.slope = prelu.weight.item()

    @property
    def kernel_size(self) -> int:
        """Rows of input that one row, or one row of phases, depends on."""
        return self._weight.shape[2]

    @property
    def room(self) -> tuple[int, int]:
        """Rows that it may need above and below a band."""
        return self.kernel_size - 1 + self.step.halo, self.step.halo

    def zeros(self, num_rows: int, width: int) -> Tensor:
        """Rows of its input."""
        rows = empty_rows(
            self.step.in_features,
            num_rows,
            width,
            dtype=self._weight.dtype,
            device=self._weight.device,
        )
        return rows.zero_()

    def __call__(self, rows: Tensor) -> Tensor:
        """The convolution, with zeros to the left and right, and none above and below."""
        padding = (0, self.step.halo)
        result = F.conv2d(rows, self._weight, self._bias, stride=self.phases, padding=padding)
        return F.pixel_shuffle(result, self.phases) if self.phases > 1 else result


class RowConvolution:
    """A step on its way through one picture.

    It remembers the last rows of its input, which the next band's first rows see: so bands of any
    height give what the whole map would give.

    Args:
        convolution: its weights.
        width: of its input.
        height: of its input.
        limit: rows of its input, the most at a time.
        buffer: (1, C, R, W) for its result, to which others write in between.
        first_row: of the result in the buffer.
        kept_by: queues for its input.
        window: where the next step finds its input.
        added: what is added to its result.
    """

    def __init__(
        self,
        convolution: Convolution,
        *,
        height: int,
        width: int,
        limit: int,
        buffer: Tensor,
        first_row: int,
        kept_by: Sequence[RowQueue],
        window: Window | None,
        added: RowQueue | Window | None,
    ) -> None:
        step, kernel_size = convolution.step, convolution.kernel_size
        self._convolution = convolution
        self._limit = -(-limit // convolution.phases)
        self._buffer, self._first_row = buffer, first_row
        self._kept_by, self._window, self._added = kept_by, window, added
        self._missing_in, self._missing_out = height, height // convolution.phases
        # Above the picture are zeros.
        self._above = convolution.zeros(kernel_size - 1 + step.halo, width)
        self._num_above = step.halo
        self._next_row = -step.halo  # the first of those above, in the whole map

    @property
    def is_done(self) -> bool:
        """Whether the picture's last row is computed."""
        return self._missing_out == 0

    def __call__(self, band: Band | None) -> Band | None:
        """The rows that can be computed now, in the step's own buffer; valid until the next call.

        At the picture's top these are fewer than came in. At its end they would be more, from step
        to step, so the limit holds some back: call again without rows.

        Args:
            band: the next rows of its input, with `Convolution.room`.
        """
        rows = self._above[:, :, : self._num_above].clone() if band is None else self._join(band)
        if self._window is not None:
            self._window.show(rows, self._next_row)
        kernel_size, stride = self._convolution.kernel_size, self._convolution.phases
        num_rows = min((rows.shape[2] - kernel_size) // stride + 1, self._limit)
        num_rows = max(num_rows, 0)
        above = rows[:, :, stride * num_rows :]
        self._num_above = above.shape[2]
        self._above[:, :, : self._num_above] = above
        self._next_row += stride * num_rows
        self._missing_out -= num_rows
        if not num_rows:
            return None
        return self._finish(self._convolution(rows[:, :, : stride * (num_rows - 1) + kernel_size]))

    def _join(self, band: Band) -> Tensor:
        """The band's rows below those above; below the picture are zeros."""
        for queue in self._kept_by:
            queue.append(band.rows)
        start, stop = band.start - self._num_above, band.stop
        band.buffer[:, :, start : band.start] = self._above[:, :, : self._num_above]
        self._missing_in -= band.stop - band.start
        if not self._missing_in:
            stop += self._convolution.step.halo
            band.buffer[:, :, band.stop : stop] = 0
        return band.buffer[:, :, start:stop]

    def _finish(self, result: Tensor) -> Band:
        """What follows the convolution."""
        slope = self._convolution.slope
        num_rows = result.shape[2] * (2 if self._convolution.step.enlarges else 1)
        band = Band(self._buffer, self._first_row, self._first_row + num_rows)
        if self._added is not None:
            if slope is not None:
                F.leaky_relu_(result, slope)
            start = 0
            for rows in self._added.take(num_rows):
                stop = start + rows.shape[2]
                torch.add(result[:, :, start:stop], rows, out=band.rows[:, :, start:stop])
                start = stop
        elif self._convolution.step.enlarges:
            _write(_pixels(result), to=_pixels_of_shuffled(band.rows), slope=slope)
        else:
            _write(result, to=band.rows, slope=slope)
        return band


def _write(result: Tensor, *, to: Tensor, slope: float | None) -> None:
    """PReLU with one slope, in one pass where the precision stays."""
    if slope is None:
        to.copy_(result)
    elif to.dtype == result.dtype:
        torch.ops.aten.leaky_relu.out(result, slope, out=to)
    else:
        to.copy_(F.leaky_relu_(result, slope))


def _pixels(features: Tensor) -> Tensor:
    """(1, 2 * 2 * C, H, W), channels last, as (H, 2, W, 2 * C): what pixel shuffle moves."""
    return features[0].permute(1, 2, 0).unflatten(2, (2, -1)).transpose(1, 2)


def _pixels_of_shuffled(features: Tensor) -> Tensor:
    """(1, C, 2 * H, 2 * W), channels last, as (H, 2, W, 2 * C)."""
    pixels = features[0].permute(1, 2, 0)
    return pixels.view(pixels.shape[0] // 2, 2, pixels.shape[1] // 2, -1)
