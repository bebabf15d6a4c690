"""Means of values that are infinite where a picture is reproduced exactly."""

import math
from collections.abc import Sequence

import torch
import torchmetrics
from torch import Tensor

from asrgan.metrics.protocol import METRICS


def counted_values(values: Sequence[float]) -> list[float]:
    """The values that a mean is of: without infinite ones, unless there are no others.

    One picture that is reproduced exactly (infinite dB) would hide all the rest.
    """
    return [value for value in values if not math.isinf(value)] or list(values)


def finite_mean(values: Sequence[float]) -> float:
    """The mean of a metric's `counted_values`; of at least one value."""
    counted = counted_values(values)
    return sum(counted) / len(counted)


def mean_over_benchmarks(score: str, values: Sequence[float]) -> float:
    """The mean of what a validation found on each benchmark.

    Args:
        score: a key of `METRICS`, or a loss. An infinite loss is no exact picture, and stays.
        values: of at least one benchmark.
    """
    return finite_mean(values) if score in METRICS else sum(values) / len(values)


class FiniteMean(torchmetrics.Metric):
    """The `finite_mean` of what all processes have seen; NaN stays NaN."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count"):
            self.add_state(name, default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: float) -> None:
        """Adds a picture's value."""
        if not math.isinf(value):
            self.total += value
            self.count += 1

    def compute(self) -> Tensor:
        """The mean; ``inf`` if all pictures are exact."""
        return self.total / self.count if self.count else torch.full_like(self.total, math.inf)
