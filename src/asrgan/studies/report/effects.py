"""What seeds and pictures together say about a difference, and how sure it is.

Runs of one recipe differ by their seed, and pictures differ by how much a method helps them. Both
are samples: of all seeds, and of all pictures of the kind. A difference that is to hold for others
must be judged against the spread of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

NUM_DRAWS = 9999  # Davison and Hinkley 1997, section 5.2.2: (R + 1) / 40 is a whole number
_CHUNK_VALUES = 1 << 20  # drawn at once: 8 MiB

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SeedMean:
    """A mean over seeds.

    Attributes:
        mean: of the seeds' means over the pictures.
        deviation: standard deviation of one seed; None: fewer than two seeds.
        low: lower end of the confidence interval, of Student's t; None: fewer than two seeds.
        high: its upper end.
        num_seeds: how many there are.
    """

    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    num_seeds: int


def mean_over_seeds(values: Sequence[float], *, confidence: float) -> SeedMean:
    """The mean of one value from each seed, for these pictures: only the seeds are a sample.

    Args:
        values: one from each seed, at least one.
        confidence: of the interval, between 0 and 1.
    """
    sample = np.asarray(values, dtype=np.float64)
    mean, count = float(sample.mean()), len(sample)
    if count < 2 or not np.isfinite(sample).all():
        return SeedMean(mean=mean, deviation=None, low=None, high=None, num_seeds=count)
    deviation = float(sample.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * deviation / np.sqrt(count)
    return SeedMean(
        mean=mean, deviation=deviation, low=mean - half, high=mean + half, num_seeds=count
    )


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A difference between two recipes.

    Attributes:
        mean: over seeds and pictures.
        low: lower end of the confidence interval; None: fewer than two seeds or pictures.
        high: its upper end.
        p_value: two-sided, that there is no difference; None: fewer than two seeds or pictures.
        num_seeds: pairs of runs.
        num_images: pictures.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    num_seeds: int
    num_images: int


def paired_effects(differences: Sequence[Array], *, confidence: float, seed: int) -> list[Effect]:
    """Means of differences with intervals that hold for other seeds and other pictures.

    A bootstrap over pictures x seeds that stays honest where there are three seeds. Each draw takes
    pictures with replacement, and adds what other seeds would change. Drawing the seeds with
    replacement, too (Owen 2007) is right for many of them; of three it sees two thirds of the
    variance and no tails: at 95% it covers the truth in 76% to 91% of studies where seeds matter.
    So the seeds' part is drawn from Student's t with one degree less than there are seeds, the
    pictures' part is widened in the same way, by the chi distribution of its own estimated spread,
    and what picture and seed only have together is counted once, with the seeds.

    The interval is exact where the spread of seeds decides or that of pictures does. Where both
    matter, it covers more than it says, as every sum of two t distributions does (Behrens and
    Fisher): 97% instead of 95% with three seeds.

    Args:
        differences: each (seeds, pictures): values of one run less those of its partner, which saw
            the same crops. All have the same pictures, at least one; the seeds may differ.
        confidence: of the intervals, between 0 and 1.
        seed: of the draws.

    Returns:
        One for each.

    Source: Owen 2007, "The pigeonhole bootstrap" (which variance); Hesterberg 2015, "What
        teachers should know about the bootstrap", section 5 (why few values need wider draws);
        Searle, Casella and McCulloch 1992, section 4.3 (mean squares of a crossed layout).
    """
    if not differences:
        return []
    num_images = differences[0].shape[1]
    generator = np.random.default_rng(seed)
    spread = np.sqrt(num_images / generator.chisquare(max(1, num_images - 1), NUM_DRAWS))
    profiles = np.stack([values.mean(axis=0) - values.mean() for values in differences])
    of_images = _resampled_means(profiles, generator)
    of_images *= spread

    @cache
    def of_seeds(num_seeds: int) -> Array:
        return np.random.default_rng([seed, num_seeds]).standard_t(num_seeds - 1, NUM_DRAWS)

    effects: list[Effect] = []
    for values, draws in zip(differences, of_images, strict=True):
        num_seeds = len(values)
        mean = float(values.mean())
        if num_seeds < 2 or num_images < 2:
            low = high = p_value = None
        else:
            error = values.mean(axis=1).std(ddof=1) / np.sqrt(num_seeds)
            total = mean + _share_of_images(values) * draws + error * of_seeds(num_seeds)
            low, high = map(float, np.quantile(total, [(1 - confidence) / 2, (1 + confidence) / 2]))
            beyond = 1 + int(min(np.count_nonzero(total <= 0), np.count_nonzero(total >= 0)))
            p_value = min(1.0, 2 * beyond / (NUM_DRAWS + 1))
        effects.append(
            Effect(
                mean=mean,
                low=low,
                high=high,
                p_value=p_value,
                num_seeds=num_seeds,
                num_images=num_images,
            )
        )
    return effects


def _resampled_means(profiles: Array, generator: np.random.Generator) -> Array:
    """Means of rows over columns drawn with replacement, the same for all: (rows, draws)."""
    num_images = profiles.shape[1]
    means = np.empty((len(profiles), NUM_DRAWS))
    uniform = np.full(num_images, 1 / num_images)
    step = max(1, _CHUNK_VALUES // num_images)
    for start in range(0, NUM_DRAWS, step):
        stop = min(start + step, NUM_DRAWS)
        counts = generator.multinomial(num_images, uniform, stop - start)
        np.matmul(profiles, counts.T / num_images, out=means[:, start:stop])
    return means


def _share_of_images(values: Array) -> float:
    """How much of the spread between the pictures' means is theirs, and no mere interaction."""
    num_seeds, num_images = values.shape
    of_seed, of_image = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = values - of_seed - of_image + values.mean()
    between = num_seeds * of_image.var(ddof=1)
    within = np.square(rest).sum() / ((num_seeds - 1) * (num_images - 1))
    return float(np.sqrt(max(0.0, 1 - within / between))) if between > 0 else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: below 5% each, there is a false one among all in at most 5% of studies.

    Written out, since it is five lines, and scipy has only the false discovery rate.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    adjusted = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
