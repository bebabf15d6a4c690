"""What the pictures of a benchmark say about a mean, and about the difference of two models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from asrgan.metrics import counted_values

_NUM_RESAMPLES = 9999  # Davison and Hinkley 1997, section 5.2.2: (R + 1) / 40 is a whole number
_BATCH_VALUES = 1 << 22  # resampled at once: 32 MiB


@dataclass(frozen=True)
class Estimate:
    """A mean and how sure it is.

    Attributes:
        mean: of the values.
        low: lower end of the confidence interval; None where `bootstrap_interval` has none.
        high: its upper end.
        count: how many values the mean is of.
    """

    mean: float
    low: float | None
    high: float | None
    count: int


def estimate_mean(values: Sequence[float], *, confidence: float, seed: int) -> Estimate | None:
    """The mean of `counted_values` with its `bootstrap_interval`; None if there are no values."""
    if not values:
        return None
    counted = counted_values(values)
    interval = bootstrap_interval(counted, confidence=confidence, seed=seed)
    low, high = interval or (None, None)
    return Estimate(mean=sum(counted) / len(counted), low=low, high=high, count=len(counted))


def paired_difference(
    values: Sequence[float], baseline: Sequence[float], *, confidence: float, seed: int
) -> Estimate | None:
    """The mean of ``values - baseline``, each pair from one picture; None if there are no pairs.

    What makes a picture hard for both is subtracted, so a difference that holds on each picture is
    seen among pictures that differ much more from each other. Equal values differ by 0, also where
    both are infinite; a picture that one model alone reproduces exactly is left out.

    Raises:
        ValueError: not equally many values.
    """
    pairs = zip(values, baseline, strict=True)
    differences = [0.0 if value == other else value - other for value, other in pairs]
    return estimate_mean(differences, confidence=confidence, seed=seed)


def bootstrap_interval(
    values: Sequence[float], *, confidence: float, seed: int
) -> tuple[float, float] | None:
    """The interval that covers the mean of all pictures of this kind, with some confidence.

    Bias-corrected and accelerated (BCa). Like each bootstrap it is too narrow for few pictures: of
    normally distributed values, 95% intervals cover the true mean in about 84% of all cases for
    5 pictures, 92% for 14, 93% for 25, 94% for 100 (3000 trials each).

    Args:
        values: one from each picture; pictures are drawn with replacement.
        confidence: between 0 and 1.
        seed: of the draws.

    Returns:
        Its ends; None if there are less than two values or one is not finite.

    Source: Efron 1987, "Better Bootstrap Confidence Intervals", section 3.
    """
    sample: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if len(sample) < 2 or not np.isfinite(sample).all():
        return None
    lowest, width = sample.min(), np.ptp(sample)
    if width == 0:  # the acceleration would be 0 / 0
        return lowest.item(), lowest.item()
    result = stats.bootstrap(
        ((sample - lowest) / width,),  # values that differ by rounding alone keep their digits
        _sorted_mean,
        n_resamples=_NUM_RESAMPLES,
        batch=max(1, _BATCH_VALUES // len(sample)),
        confidence_level=confidence,
        method="BCa",
        rng=np.random.default_rng(seed),
    )
    low, high = (float(lowest + width * end) for end in result.confidence_interval)
    assert math.isfinite(low + high)
    return low, high


def _sorted_mean(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """The mean, with the same last digit in whatever order: BCa counts means below the sample's.

    Of 5 pictures one resample in 26 is the sample in another order.
    """
    return np.sort(values, axis=axis).mean(axis=axis)
