import math

import numpy as np
import pytest
from scipy import stats

from asrgan.studies import bootstrap_interval, estimate_mean, paired_difference

INF = math.inf


def test_the_interval_equals_a_hand_calculation_over_all_resamples():
    """Of two values there are three means: 1 (1/4), 3 (1/2) and 5 (1/4); the ends are extreme."""
    assert bootstrap_interval([1.0, 5.0], confidence=0.95, seed=1) == (1.0, 5.0)


def test_the_interval_equals_efrons_formula():
    values = np.random.default_rng(3).gamma(2.0, size=30)
    generator = np.random.default_rng(4)
    means = values[generator.integers(0, 30, (200_000, 30))].mean(axis=1)
    bias = stats.norm.ppf((means < values.mean()).mean())
    jackknife = (values.sum() - values) / 29
    deviations = jackknife.mean() - jackknife
    acceleration = (deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    levels = stats.norm.cdf(bias + z / (1 - acceleration * z))
    expected = np.quantile(means, levels)
    interval = bootstrap_interval(values.tolist(), confidence=0.95, seed=1)
    assert interval == pytest.approx(expected, abs=0.02 * values.std())


@pytest.mark.parametrize(("count", "num_trials", "coverage"), [(5, 500, 0.84), (25, 250, 0.93)])
def test_the_interval_covers_the_true_mean_as_often_as_the_docstring_says(
    count: int, num_trials: int, coverage: float
):
    generator = np.random.default_rng(count)
    hits = 0
    for seed, values in enumerate(generator.normal(7.0, 2.0, size=(num_trials, count))):
        low, high = bootstrap_interval(values.tolist(), confidence=0.95, seed=seed) or (0.0, 0.0)
        hits += low <= 7.0 <= high
    assert hits / num_trials == pytest.approx(coverage, abs=0.04)


def test_a_wider_confidence_gives_a_wider_interval_and_a_seed_gives_the_same():
    values = np.random.default_rng(0).normal(size=20).tolist()
    narrow, wide, again = (
        bootstrap_interval(values, confidence=confidence, seed=1) or ()
        for confidence in (0.5, 0.99, 0.5)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert narrow == again


@pytest.mark.parametrize("factor", [1e-300, 1.0, 1e200])
def test_values_that_hardly_differ_have_an_interval(factor: float):
    low_value, high_value = factor, float(np.nextafter(factor, 2 * factor))
    interval = bootstrap_interval([low_value] * 4 + [high_value], confidence=0.95, seed=1)
    assert interval is not None
    assert low_value <= interval[0] <= interval[1] <= high_value
    assert bootstrap_interval([factor] * 3, confidence=0.95, seed=1) == (factor, factor)


def test_the_last_digit_of_a_value_moves_no_interval():
    """Of few values many resamples have the sample's very mean."""
    values = np.array([0.7593, 0.8541, 0.6827, 0.9132, 0.8448])
    low, high = bootstrap_interval(values.tolist(), confidence=0.95, seed=1) or (0.0, 0.0)
    for step in range(1, 40):
        close = (values * (1 + step * 2**-51)).tolist()
        assert bootstrap_interval(close, confidence=0.95, seed=1) == pytest.approx(
            (low, high), rel=1e-12
        )


@pytest.mark.parametrize("values", [[1.0], [], [1.0, INF, 2.0], [1.0, math.nan]])
def test_one_value_and_infinite_ones_have_no_interval(values: list[float]):
    assert bootstrap_interval(values, confidence=0.95, seed=1) is None


def test_a_mean_of_nothing_is_none():
    assert estimate_mean([], confidence=0.95, seed=1) is None


def test_infinite_values_are_left_out_unless_there_are_no_others():
    mean = estimate_mean([1.0, INF, 2.0], confidence=0.95, seed=1)
    assert mean == estimate_mean([1.0, 2.0], confidence=0.95, seed=1)
    assert mean is not None
    assert (mean.mean, mean.count) == (1.5, 2)
    exact = estimate_mean([INF, INF], confidence=0.95, seed=1)
    assert exact is not None
    assert (exact.mean, exact.low, exact.high, exact.count) == (INF, None, None, 2)
    broken = estimate_mean([1.0, math.nan], confidence=0.95, seed=1)
    assert broken is not None
    assert math.isnan(broken.mean)  # and so it meets no requirement


def test_pairs_show_a_difference_that_the_spread_of_the_pictures_would_hide():
    generator = np.random.default_rng(5)
    pictures = generator.normal(28.0, 4.0, size=14)
    gains = generator.normal(0.2, 0.1, size=14)
    better = (pictures + gains).tolist()
    difference = paired_difference(better, pictures.tolist(), confidence=0.95, seed=1)
    assert difference is not None
    assert difference.mean == pytest.approx(gains.mean())
    assert difference.low is not None
    assert difference.low > 0
    ours, theirs = (estimate_mean(v, confidence=0.95, seed=1) for v in (better, pictures.tolist()))
    assert ours is not None
    assert theirs is not None
    assert ours.low is not None
    assert theirs.high is not None
    assert ours.low < theirs.high


def test_a_difference_that_is_not_there_is_rarely_found():
    generator = np.random.default_rng(6)
    found = 0
    for seed, (ours, theirs) in enumerate(generator.normal(28.0, 4.0, size=(100, 2, 14))):
        difference = paired_difference(ours.tolist(), theirs.tolist(), confidence=0.95, seed=seed)
        assert difference is not None
        assert difference.low is not None
        assert difference.high is not None
        found += not difference.low <= 0 <= difference.high
    assert found / 100 < 0.15


def test_equal_pictures_differ_by_nothing_even_where_both_are_exact():
    difference = paired_difference([INF, 3.0], [INF, 2.0], confidence=0.95, seed=1)
    assert difference is not None
    assert (difference.mean, difference.count) == (0.5, 2)
    won = paired_difference([INF, 3.0], [40.0, 2.0], confidence=0.95, seed=1)
    assert won is not None
    assert (won.mean, won.count) == (1.0, 1)


def test_values_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0], confidence=0.95, seed=1)
