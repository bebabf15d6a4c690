"""Memory and time that a picture will need, before any work on it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from asrgan.inference.network import Network, Place
from asrgan.inference.plan import Plan, Precision, plans
from asrgan.inference.streaming import Stream

# The picture on which convolutions are timed: its parts are as wide as those of a small original.
_SAMPLE_SIZE = (96, 256)
_SAMPLE_QUERIES, _SAMPLE_KEYS = 1024, 16384
_ROUNDS = 3
# Written and read again; a slow disk. Memory that caches the file is faster.
_SPILLED_BYTES_PER_S = 200e6


@dataclass(frozen=True)
class Forecast:
    """What a picture will need.

    Args:
        plan: how it goes through the network.
        peak_bytes: of memory, as `memory` counts it: all that the process holds.
        seconds: of time.
        attention_seconds: share of attention in it.
        num_operations: a multiplication with an addition being two; attention included.
        num_attention_operations: share of attention in it.
        attention_map_bytes: of the largest attention map, which is never stored.
    """

    plan: Plan
    peak_bytes: int
    seconds: float
    attention_seconds: float
    num_operations: int
    num_attention_operations: int
    attention_map_bytes: int


@dataclass(frozen=True)
class Speed:
    """What a machine does in a precision.

    Args:
        operation_s: seconds for one operation of a convolution.
        pair_s: seconds for one pair of a query and a key.
    """

    operation_s: float
    pair_s: float


def forecast(
    network: Network,
    plan: Plan,
    *,
    precision: Precision,
    speed: Speed,
    held_bytes: int,
    window_px: int | None,
) -> Forecast:
    """What a plan will need.

    Args:
        network: of the plan.
        plan: for a picture.
        precision: of the plan.
        speed: of the machine.
        held_bytes: what there is beside the plan.
        window_px: of attention, in LR; None: each place sees the whole picture.
    """
    height, width = plan.height, plan.width
    pairs = [num_pairs(place, height, width, window_px=window_px) for place in network.places]
    attention = sum(
        4 * place.num_inner * number for place, number in zip(network.places, pairs, strict=True)
    )
    convolutions = height * width * network.operations_per_px
    attention_s = speed.pair_s * sum(pairs)
    spilling_s = plan.spilled_bytes / _SPILLED_BYTES_PER_S
    return Forecast(
        plan=plan,
        peak_bytes=held_bytes + plan.peak_bytes,
        seconds=speed.operation_s * convolutions + attention_s + spilling_s,
        attention_seconds=attention_s,
        num_operations=convolutions + attention,
        num_attention_operations=attention,
        attention_map_bytes=precision.features.itemsize * max(pairs, default=0),
    )


def num_pairs(place: Place, height: int, width: int, *, window_px: int | None) -> int:
    """Pairs of a query and a key at a place, for an LR picture of that size."""
    rows, columns = place.pooled_size(height, width)
    if window_px is None:
        return (rows * columns) ** 2
    window = place.window(window_px)
    return _squares(rows, window) * _squares(columns, window)


def _squares(length: int, window: int) -> int:
    """Sum of the squared lengths of the windows along one side."""
    whole, rest = divmod(length, window)
    return whole * window**2 + rest**2


def warm_up(stream: Stream) -> None:
    """Enlarges a tiny picture, so that libraries load what they load on first use."""
    for _ in _on_sample(stream, 16, 16):
        pass


def measure_speed(stream: Stream) -> Speed:
    """Times a small picture and a small attention; about a second."""
    network, precision, device = stream.network, stream.precision, stream.device
    height, width = _SAMPLE_SIZE
    features = max((place.token_features for place in network.places), default=8)
    query, key = (
        torch.zeros((1, 1, length, features), dtype=precision.tokens, device=device)
        for length in (_SAMPLE_QUERIES, _SAMPLE_KEYS)
    )

    def attend() -> None:
        F.scaled_dot_product_attention(query, key, key, scale=1.0)

    def upscale() -> None:
        for _ in _on_sample(stream, height, width):
            pass

    pair_s = _fastest(attend, device) / (_SAMPLE_QUERIES * _SAMPLE_KEYS)
    num_pairs_seen = sum(num_pairs(p, height, width, window_px=None) for p in network.places)
    attention_s = pair_s * num_pairs_seen
    convolutions_s = max(_fastest(upscale, device) - attention_s, 0.0)
    return Speed(
        operation_s=convolutions_s / (height * width * network.operations_per_px), pair_s=pair_s
    )


def _on_sample(stream: Stream, height: int, width: int) -> Iterator[Tensor]:
    """A picture of that size, enlarged."""
    network, precision, device = stream.network, stream.precision, stream.device
    plan = next(plans(network, height=height, width=width, precision=precision, device=device))
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    return stream.run(image, plan)


def _fastest(call: Callable[[], None], device: torch.device) -> float:
    """Seconds of the fastest of a few calls, after one that makes everything ready."""
    seconds: list[float] = []
    for _ in range(_ROUNDS + 1):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
