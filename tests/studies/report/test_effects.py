"""The statistics, on simulated studies whose truth is known."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from asrgan.studies.report.effects import holm, mean_over_seeds, paired_effects

NUM_STUDIES = 1000
# How far a difference varies with the seed, with the picture, and with both together. Real
# differences between recipes vary by some 0.05, 0.3 and 0.1 dB.
SPREADS = {
    "pictures and seeds": (0.05, 0.3, 0.1),
    "mostly seeds": (0.2, 0.1, 0.1),
    "pictures alone": (0.0, 0.3, 0.1),
    "nothing but interaction": (0.0, 0.0, 0.1),
}
each_spread = pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS)
estimate = partial(paired_effects, confidence=0.95, seed=1)


def simulate(
    spread: tuple[float, float, float],
    *,
    effect: float,
    num_studies: int = NUM_STUDIES,
    num_seeds: int = 3,
    num_images: int = 40,
) -> list[np.ndarray]:
    """Differences of several studies, each (seeds, pictures)."""
    generator = np.random.default_rng(5)
    of_seed, of_image, of_both = (
        deviation * generator.standard_normal((num_studies, *shape))
        for deviation, shape in zip(
            spread, ((num_seeds, 1), (1, num_images), (num_seeds, num_images)), strict=True
        )
    )
    return list(effect + of_seed + of_image + of_both)


@each_spread
def test_without_a_difference_at_most_one_study_in_twenty_shows_one(
    spread: tuple[float, float, float],
):
    found = estimate(simulate(spread, effect=0.0))
    false_positives = sum(effect.p_value < 0.05 for effect in found) / NUM_STUDIES
    # 5% would be found as 3.6% to 6.4% in 95% of such simulations.
    assert 0.01 < false_positives < 0.064


@each_spread
def test_the_interval_covers_the_true_difference(spread: tuple[float, float, float]):
    found = estimate(simulate(spread, effect=0.21))
    covered = sum(effect.low <= 0.21 <= effect.high for effect in found) / NUM_STUDIES
    assert 0.936 < covered < 0.99
    assert np.mean([effect.mean for effect in found]) == pytest.approx(0.21, abs=0.015)


def test_two_seeds_are_no_licence_for_false_positives():
    found = estimate(simulate((0.1, 0.3, 0.1), effect=0.0, num_seeds=2))
    assert sum(effect.p_value < 0.05 for effect in found) / NUM_STUDIES < 0.064


def test_a_difference_of_the_usual_size_is_found_and_more_seeds_find_smaller_ones():
    spread = SPREADS["pictures and seeds"]

    def power(effect: float, num_seeds: int) -> float:
        found = estimate(simulate(spread, effect=effect, num_seeds=num_seeds, num_images=100))
        return sum(e.p_value < 0.05 and e.mean > 0 for e in found) / NUM_STUDIES

    assert power(0.3, 3) > 0.95
    assert power(0.15, 8) > 0.95 > power(0.15, 3) + 0.2


def test_resampling_three_seeds_would_be_too_narrow():
    """The reason for Student's t: the bootstrap that draws the seeds with replacement, too."""
    generator = np.random.default_rng(0)
    covered = 0
    for values in simulate(SPREADS["mostly seeds"], effect=0.0, num_studies=300):
        num_seeds, num_images = values.shape
        seeds = generator.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), 999)
        images = generator.multinomial(num_images, np.full(num_images, 1 / num_images), 999)
        means = ((seeds @ values) * images).sum(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        covered += low <= 0 <= high
    assert covered / 300 < 0.85


def test_among_many_variants_without_a_difference_few_studies_show_any():
    """Five variants against one baseline, whose noise they share, adjusted together."""
    generator = np.random.default_rng(2)
    num_families = 300
    shared = np.repeat(simulate((0.03, 0.1, 0.05), effect=0.0, num_studies=num_families), 5, axis=0)
    of_seed, of_image = (generator.standard_normal((len(shared), *s)) for s in ((3, 1), (1, 40)))
    found = estimate(list(shared + 0.05 * of_seed + 0.2 * of_image))
    families = np.reshape([effect.p_value for effect in found], (num_families, 5))
    raw = np.mean(families.min(axis=1) < 0.05)
    adjusted = np.mean([min(holm(p_values)) < 0.05 for p_values in families])
    assert raw > 0.08
    assert adjusted < 0.06


def test_with_pictures_alone_the_interval_is_that_of_students_t():
    differences = np.random.default_rng(3).normal(0.1, 0.3, (1, 60)).repeat(4, axis=0)
    (effect,) = estimate([differences])
    expected = stats.ttest_1samp(differences[0], 0).confidence_interval(0.95)
    assert effect.low == pytest.approx(expected.low, abs=0.006)
    assert effect.high == pytest.approx(expected.high, abs=0.006)


def test_with_seeds_alone_the_interval_is_that_of_students_t():
    seeds = np.array([0.1, 0.25, 0.13])
    (effect,) = estimate([seeds[:, None].repeat(50, axis=1)])
    expected = stats.ttest_1samp(seeds, 0)
    interval = expected.confidence_interval(0.95)
    assert effect.mean == pytest.approx(seeds.mean())
    assert effect.low == pytest.approx(interval.low, abs=0.02)
    assert effect.high == pytest.approx(interval.high, abs=0.02)
    assert effect.p_value == pytest.approx(expected.pvalue, abs=0.01)


def test_one_seed_has_a_mean_and_no_interval():
    (effect,) = estimate([np.array([[0.1, 0.3]])])
    assert (effect.mean, effect.low, effect.high, effect.p_value) == (0.2, None, None, None)


def test_equal_runs_have_no_difference():
    (effect,) = estimate([np.zeros((3, 10))])
    assert (effect.mean, effect.low, effect.high, effect.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_the_same_seed_gives_the_same_answer_whatever_stands_beside():
    studies = simulate(SPREADS["mostly seeds"], effect=0.1, num_studies=2)
    assert estimate(studies)[0] == estimate(studies[:1])[0]


def test_the_mean_over_seeds_is_that_of_the_textbook():
    mean = mean_over_seeds([27.1, 27.3, 27.5], confidence=0.95)
    assert mean.deviation == pytest.approx(0.2)
    # 27.3 +- 4.303 * 0.2 / sqrt(3)
    assert (mean.low, mean.high) == (
        pytest.approx(26.803, abs=1e-3),
        pytest.approx(27.797, abs=1e-3),
    )


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
