"""How a picture of some size goes through a network within some memory: decided before it starts.

All there is to decide are numbers of rows. A convolution needs nothing of the rows before but the
last few, so that a segment's memory is a few rows of each of its maps, whatever the height of the
picture. Only at a place of attention the rows wait for the last one: in memory, or else in a file.
Nothing is computed twice: a disk gives a map back in less time than the trunk makes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch

from asrgan.inference.network import IMAGE_CHANNELS, Network, Place, Segment, Skip, Step

# Of one map at a time: enough rows for the threads, few enough for the caches of a CPU.
_MAP_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}
_SMALLEST_MAP_BYTES = 1 << 15
# What the C library's heap and the kernels of a shape take besides; measured, see benchmarks.
_MARGIN = 1.15
_LIBRARIES_BYTES = 16 << 20
_MIN_ROWS = 2  # an output convolution of 2x2 phases makes rows in pairs


@dataclass(frozen=True)
class Precision:
    """Types of numbers.

    Args:
        features: of the maps between convolutions.
        image: of the picture, which the first convolution sees.
        tokens: of query, key and value.
    """

    features: torch.dtype
    image: torch.dtype
    tokens: torch.dtype

    def of(self, step: Step) -> torch.dtype:
        """The type which a step computes in, and of its input."""
        return self.image if step.in_features == IMAGE_CHANNELS else self.features


@dataclass(frozen=True)
class Part:
    """Steps that work on equally many rows.

    Args:
        steps: in order.
        rows: of their input, the most at a time.
    """

    steps: tuple[Step, ...]
    rows: int


@dataclass(frozen=True)
class Plan:
    """How a picture goes through a network.

    Args:
        height: of the LR picture.
        width: of the LR picture.
        segments: the parts of each of the network's segments.
        is_spilled: whether rows that wait for attention do so in a file.
        peak_bytes: of memory, the LR picture included, beside what there is before.
        spilled_bytes: of temporary files, at most.
    """

    height: int
    width: int
    segments: tuple[tuple[Part, ...], ...]
    is_spilled: bool
    peak_bytes: int
    spilled_bytes: int


def plans(
    network: Network, *, height: int, width: int, precision: Precision, device: torch.device
) -> Iterator[Plan]:
    """Plans for a picture, the fastest first, the one with the least memory last."""
    largest = _MAP_BYTES.get(device.type, _MAP_BYTES["cuda"])
    has_places = bool(network.places)
    memory = _Memory(network, height, width, precision)
    for is_spilled in (False, True) if has_places else (False,):
        # A disk is faster than convolutions of very few rows.
        smallest = largest // 4 if has_places and not is_spilled else _SMALLEST_MAP_BYTES
        map_bytes = largest
        while map_bytes >= smallest:
            segments = tuple(
                _parts(
                    segment, height=height, width=width, map_bytes=map_bytes, precision=precision
                )
                for segment in network.segments
            )
            yield memory.plan(segments, is_spilled=is_spilled)
            map_bytes //= 2


def _parts(
    segment: Segment, *, height: int, width: int, map_bytes: int, precision: Precision
) -> tuple[Part, ...]:
    parts: list[Part] = []
    for (resolution, _), alike in groupby(segment.steps, lambda s: (s.resolution, s.enlarges)):
        steps = tuple(alike)
        features = max(max(step.in_features, step.out_features) for step in steps)
        row_bytes = features * width * resolution * precision.features.itemsize
        parts.append(
            Part(steps, _even(height * resolution, max(_MIN_ROWS, map_bytes // row_bytes)))
        )
    return tuple(parts)


def _even(length: int, limit: int) -> int:
    """The longest of equal parts, each within the limit, of some length."""
    return -(-length // -(-length // limit))


@dataclass(frozen=True)
class _Memory:
    """Bytes of what a plan holds, kind by kind."""

    network: Network
    height: int
    width: int
    precision: Precision

    def plan(self, segments: tuple[tuple[Part, ...], ...], *, is_spilled: bool) -> Plan:
        """These parts with the memory that they need."""
        waiting = [self._waiting(index) for index in range(len(segments))]
        peak = max(
            self._rows_of(index, parts) + self._tokens(index) + waiting[index] * (not is_spilled)
            for index, parts in enumerate(segments)
        )
        peak += self._rows(self.height, IMAGE_CHANNELS, 1, torch.float32)
        return Plan(
            height=self.height,
            width=self.width,
            segments=segments,
            is_spilled=is_spilled,
            peak_bytes=round(_MARGIN * peak) + _LIBRARIES_BYTES,
            spilled_bytes=max(waiting) * is_spilled,
        )

    def _waiting(self, index: int) -> int:
        """Whole maps that wait while segment ``index`` works."""
        # Places of one resolution share a map: its rows go as rows of the next come.
        maps = sum(
            {place.resolution: self._map(place) for place in self._places_around(index)}.values()
        )
        for skip in self.network.skips:
            if skip.start <= index <= skip.stop and skip.start < skip.stop:
                maps += self._map(skip)
        return maps

    def _tokens(self, index: int) -> int:
        """Query, key and value at the places around segment ``index``, and attention's result."""
        total = 0
        for place in self._places_around(index):
            height, width = place.pooled_size(self.height, self.width)
            total += 4 * height * width * place.token_features * self.precision.tokens.itemsize
        return total

    def _places_around(self, index: int) -> list[Place]:
        segments = self.network.segments[max(0, index - 1) : index + 1]
        return [segment.place for segment in segments if segment.place is not None]

    def _rows_of(self, index: int, parts: tuple[Part, ...]) -> int:
        """What a segment works in, see `streaming`: its buffers, and the largest passing map."""
        first_step, first_rows = parts[0].steps[0], parts[0].rows
        total = self._input(first_step, first_rows)
        passing = 0
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            last = part.steps[-1]
            total += sum(self._input(step, part.rows) for step in part.steps[1:4])
            if following:
                total += self._input(following.steps[0], part.rows * (2 if last.enlarges else 1))
            else:
                total += 2 * self._result(last, part.rows)
            # The rows above, which each step remembers.
            total += sum(self._input(step, 0) for step in part.steps)
            passing = max(passing, *(self._passing(step, part.rows) for step in part.steps))
        for skip in self.network.skips:
            if skip.start == skip.stop == index and not skip.is_near:
                total += self._rows(skip.delay + first_rows, skip.features, skip.resolution)
        if index:  # what attention adds: rows of whole pooling windows, and of both summands
            place = self.network.segments[index - 1].place
            assert place is not None
            resized = (-(-(first_rows - 1) // place.pool_size) + 1) * place.pool_size
            rows = resized + 2 * first_rows
            total += self._rows(rows, place.features, place.resolution, torch.float32)
        return total + passing

    def _input(self, step: Step, rows: int) -> int:
        room = step.kernel_size + 2 * step.halo
        return self._rows(rows + room, step.in_features, step.resolution, self.precision.of(step))

    def _passing(self, step: Step, rows: int) -> int:
        return self._rows(rows, step.out_features, step.resolution, self.precision.of(step))

    def _result(self, step: Step, rows: int) -> int:
        return self._rows(rows, step.out_features, step.resolution, torch.float32)

    def _map(self, of: Place | Skip) -> int:
        return self._rows(self.height * of.resolution, of.features, of.resolution)

    def _rows(
        self, rows: int, features: int, resolution: int, dtype: torch.dtype | None = None
    ) -> int:
        """Rows of a map, in the features' precision if no other is named."""
        itemsize = (dtype or self.precision.features).itemsize
        return rows * self.width * resolution * features * itemsize
