"""A picture goes through a network as its plan says: from top to bottom, in rows."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from asrgan.imaging import bicubic_upscale
from asrgan.inference.attention import RowAttention
from asrgan.inference.convolution import Convolution, RowConvolution
from asrgan.inference.network import (
    Network,
    Place,
    Skip,
    Step,
    describe,
    describe_bicubic,
)
from asrgan.inference.plan import Part, Plan, Precision
from asrgan.inference.rows import Band, FileQueue, MemoryQueue, RowQueue, Window, empty_rows
from asrgan.models import SRGANGenerator

# Of the pictures' range. bfloat16 is the finer the nearer it is to zero: so rounded, black and
# white are right to a quarter of a grey level; between 0 and 1, white would be to a half.
_MIDDLE = 0.5


class Stream(Protocol):
    """What enlarges a picture in rows.

    Attributes:
        network: what is done.
        precision: in which types.
        device: where.
    """

    network: Network
    precision: Precision
    device: torch.device

    def run(self, lr_image: Tensor, plan: Plan) -> Iterator[Tensor]:
        """Rows of the enlarged picture from top to bottom.

        Args:
            lr_image: (3, H, W) in [0, 1].
            plan: for its size.

        Yields:
            (3, rows, scale * W) float32 on the device, not clamped.
        """
        ...


class BicubicStream:
    """Bicubic interpolation in rows; see `Stream`.

    Args:
        scale: integer factor.
        device: of torch.
    """

    def __init__(self, scale: int, *, device: torch.device) -> None:
        self.network = describe_bicubic(scale)
        self.precision = Precision(*[torch.float32] * 3)
        self.device = device

    def run(self, lr_image: Tensor, plan: Plan) -> Iterator[Tensor]:
        """See `Stream`."""
        (part,) = plan.segments[0]
        (step,) = part.steps
        scale = self.network.scale
        for top in range(0, plan.height, part.rows):
            bottom = min(plan.height, top + part.rows)
            first = max(0, top - step.halo)
            rows = lr_image[None, :, first : bottom + step.halo].to(self.device)
            sr_rows = bicubic_upscale(rows, scale=scale)[0]
            yield sr_rows[:, scale * (top - first) : scale * (bottom - first)]


class GeneratorStream:
    """A generator in rows; see `Stream`.

    Args:
        generator: in eval mode, without norms.
        precision: to compute in.
        device: of torch.
        window_px: of LR, for attention within windows; None: each place sees the whole picture.
    """

    def __init__(
        self,
        generator: SRGANGenerator,
        *,
        precision: Precision,
        device: torch.device,
        window_px: int | None,
    ) -> None:
        self.network = describe(generator)
        self.precision = precision
        self.device = device
        self.window_px = window_px
        self._has_tanh = generator.output == "tanh"
        self.layers = {
            name: layer.to(device=device, dtype=torch.float32)
            for name, layer in generator.attention_layers.items()
        }
        *steps, last = (step for segment in self.network.segments for step in segment.steps)
        self.convolutions = {
            step.name: Convolution(
                step, generator, dtype=precision.of(step), phases=1, offset=0.0, device=device
            )
            for step in steps
        }
        self.convolutions[last.name] = Convolution(
            last,
            generator,
            dtype=precision.of(last),
            phases=2 if device.type == "cpu" else 1,  # where it was measured
            offset=0.0 if self._has_tanh else -_MIDDLE,
            device=device,
        )

    @torch.no_grad()
    def run(self, lr_image: Tensor, plan: Plan) -> Iterator[Tensor]:
        """See `Stream`."""
        picture = _Picture(self, plan)
        bands = picture.image_bands(lr_image)
        for index, segment in enumerate(self.network.segments):
            bands = picture.through_segment(index, bands)
            if segment.place is not None:
                bands = picture.through_attention(index, segment.place, bands)
        for band in bands:
            rows = band.rows[0].contiguous()
            yield (torch.tanh(rows) + 1) / 2 if self._has_tanh else rows + _MIDDLE


class _Picture:
    """One picture on its way through a generator, with all that is kept for it."""

    def __init__(self, stream: GeneratorStream, plan: Plan) -> None:
        self._stream = stream
        self._plan = plan
        skips = stream.network.skips
        self._windows = {skip.name: Window() for skip in skips if skip.is_near}
        self._queues = {skip.name: self._skip_queue(skip) for skip in skips if not skip.is_near}
        self._waiting: dict[int, RowQueue] = {}  # whole maps at places of attention, by resolution

    def image_bands(self, lr_image: Tensor) -> Iterator[Band]:
        """The LR picture."""
        part = self._plan.segments[0][0]
        buffer, first_row = self._input_buffer(part.steps[:1], part.rows)
        for rows in lr_image[None].split(part.rows, dim=2):
            band = Band(buffer, first_row, first_row + rows.shape[2])
            band.rows.copy_(rows)
            yield band

    def through_segment(self, index: int, bands: Iterator[Band]) -> Iterator[Band]:
        """Rows of a segment's result as rows of its input come."""
        parts = self._plan.segments[index]
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            next_step = following.steps[0] if following else None
            bands = _flow(self._row_convolutions(part, next_step), bands, limit=part.rows)
        return bands

    def through_attention(self, index: int, place: Place, bands: Iterator[Band]) -> Iterator[Band]:
        """All rows of a segment's result, then rows of the next segment's input."""
        plan, stream = self._plan, self._stream
        attention = RowAttention(
            stream.layers[place.name],
            place,
            height=plan.height,
            width=plan.width,
            window_px=stream.window_px,
            dtype=stream.precision.tokens,
            device=stream.device,
        )
        if place.resolution not in self._waiting:
            queue = self._map_queue(place.features, place.resolution)
            self._waiting = {place.resolution: queue}
        # If a map of this size is still on its way out, the next comes in behind its last row.
        queue = self._waiting[place.resolution]
        for band in bands:
            attention.collect(band.rows)
            queue.append(band.rows)
        attention.attend()
        return self._attended_bands(index + 1, attention, queue)

    def _attended_bands(
        self, index: int, attention: RowAttention, queue: RowQueue
    ) -> Iterator[Band]:
        part = self._plan.segments[index][0]
        buffer, first_row = self._input_buffer(part.steps[:1], part.rows)
        height = self._plan.height * part.steps[0].resolution
        for top in range(0, height, part.rows):
            num_rows = min(part.rows, height - top)
            band = Band(buffer, first_row, first_row + num_rows)
            start = 0
            for rows in queue.take(num_rows):
                stop = start + rows.shape[2]
                attention.add(rows, top + start, to=band.rows[:, :, start:stop])
                start = stop
            yield band

    def _row_convolutions(self, part: Part, next_step: Step | None) -> list[RowConvolution]:
        """The steps of a part, ready for the picture."""
        *inner, last = part.steps
        # Three in turn are enough: a residual block adds the input of the step before.
        in_turn = [self._input_buffer(part.steps[1:], part.rows) for _ in inner[:3]]
        buffers = [in_turn[number % 3] for number in range(len(inner))]
        rows = part.rows * (2 if last.enlarges else 1)
        if next_step is not None:
            buffers.append(self._input_buffer([next_step], rows))
        else:
            buffers.append((self._result_buffer(last, rows), 0))
        return [
            RowConvolution(
                self._stream.convolutions[step.name],
                height=self._plan.height * step.resolution,
                width=self._plan.width * step.resolution,
                limit=part.rows,
                buffer=buffer,
                first_row=first_row,
                kept_by=[self._queues[name] for name in step.keeps if name in self._queues],
                window=next((self._windows[n] for n in step.keeps if n in self._windows), None),
                added=None if step.adds is None else self._skip(step.adds),
            )
            for step, (buffer, first_row) in zip(part.steps, buffers, strict=True)
        ]

    def _skip(self, name: str) -> RowQueue | Window:
        return self._windows[name] if name in self._windows else self._queues[name]

    def _input_buffer(self, steps: Sequence[Step], num_rows: int) -> tuple[Tensor, int]:
        """For the input of any of these steps: the buffer, and where its rows begin."""
        step, convolutions = steps[0], [self._stream.convolutions[step.name] for step in steps]
        above = max(convolution.room[0] for convolution in convolutions)
        below = max(convolution.room[1] for convolution in convolutions)
        buffer = empty_rows(
            step.in_features,
            above + num_rows + below,
            self._plan.width * step.resolution,
            dtype=self._stream.precision.of(step),
            device=self._stream.device,
        )
        return buffer, above

    def _result_buffer(self, step: Step, num_rows: int) -> Tensor:
        """For a segment's result: features, or the picture."""
        is_picture = step == self._stream.network.segments[-1].steps[-1]
        factor = 2 if step.enlarges else 1
        return empty_rows(
            step.out_features // factor**2,
            num_rows + self._stream.convolutions[step.name].phases - 1,
            self._plan.width * step.resolution * factor,
            dtype=torch.float32 if is_picture else self._stream.precision.features,
            device=self._stream.device,
        )

    def _skip_queue(self, skip: Skip) -> RowQueue:
        if skip.start < skip.stop:
            return self._map_queue(skip.features, skip.resolution)
        rows = skip.delay + self._plan.segments[skip.start][0].rows
        return self._memory_queue(skip.features, rows, skip.resolution)

    def _map_queue(self, features: int, resolution: int) -> RowQueue:
        """For a whole map."""
        if not self._plan.is_spilled:
            return self._memory_queue(features, self._plan.height * resolution, resolution)
        return FileQueue(
            features,
            self._plan.height * resolution,
            self._plan.width * resolution,
            dtype=self._stream.precision.features,
            device=self._stream.device,
        )

    def _memory_queue(self, features: int, num_rows: int, resolution: int) -> MemoryQueue:
        precision, device = self._stream.precision, self._stream.device
        width = self._plan.width * resolution
        return MemoryQueue(
            empty_rows(features, num_rows, width, dtype=precision.features, device=device)
        )


def _flow(
    convolutions: Sequence[RowConvolution], bands: Iterator[Band], *, limit: int
) -> Iterator[Band]:
    """Rows through the steps of a part, a few at a time."""
    for band in bands:
        for rows in band.split(limit):
            yield from _advance(convolutions, rows)
    # Each step has waited for rows below those that it computed. Now they are zeros.
    while not convolutions[-1].is_done:
        yield from _advance(convolutions, None)


def _advance(convolutions: Sequence[RowConvolution], band: Band | None) -> Iterator[Band]:
    for convolution in convolutions:
        band = convolution(band)
    if band is not None:
        yield band
