import math
from collections.abc import Sequence

import pytest

from asrgan.metrics import FiniteMean, finite_mean, mean_over_benchmarks

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("values", "expected"),
    [([30.0, INF, 32.0], 31.0), ([INF, INF], INF), ([30.0, NAN, INF], NAN)],
    ids=["one-exact", "all-exact", "diverged"],
)
def test_exact_pictures_are_left_out_unless_all_are(values: Sequence[float], expected: float):
    assert finite_mean(values) == pytest.approx(expected, nan_ok=True)
    mean = FiniteMean()
    for value in values:
        mean.update(value)
    assert mean.compute().item() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [([INF], [30.0, 32.0], 31.0), ([30.0, 32.0], [INF], 31.0), ([INF], [INF], INF)],
)
def test_a_process_all_of_whose_pictures_are_exact_leaves_the_mean_to_the_others(
    own: Sequence[float], others: Sequence[float], expected: float
):
    """States are merged as `compute` merges those of all processes."""
    here, there = FiniteMean(), FiniteMean()
    for mean, values in ((here, own), (there, others)):
        for value in values:
            mean.update(value)
    here.merge_state(there)
    assert here.compute().item() == expected


def test_an_infinite_loss_is_no_exact_picture():
    assert mean_over_benchmarks("psnr_y_db", [INF, 30.0]) == 30.0
    assert mean_over_benchmarks("content_loss", [INF, 30.0]) == INF
    assert mean_over_benchmarks("content_loss", [1.0, 2.0]) == 1.5
