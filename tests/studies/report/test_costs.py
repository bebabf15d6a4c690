from collections.abc import Callable

import numpy as np
import pytest

from asrgan.models import SRGANGenerator
from asrgan.studies.report import Run, StudyResults
from asrgan.studies.report.costs import count_multiply_adds, count_parameters, measure_costs

MakeGenerator = Callable[..., SRGANGenerator]


def test_multiply_adds_by_hand(make_generator: MakeGenerator):
    """8 features, one block, x4, LR of 10 x 12."""
    per_pixel = 9 * 9 * 3 * 8  # head
    per_pixel += 2 * 9 * 8 * 8 + 9 * 8 * 8  # block, trunk
    per_pixel += 9 * 8 * 32 + 4 * 9 * 8 * 32  # two upsamplings
    per_pixel += 16 * 9 * 9 * 8 * 3  # tail
    plain = make_generator(attention=[])
    assert count_multiply_adds(plain, height=10, width=12) == 120 * per_pixel


def test_attention_is_counted(make_generator: MakeGenerator):
    """Pooled by 2: 30 positions, four 1x1 convolutions; query and key padded to 8 channels."""
    plain, attending = (make_generator(attention=a) for a in ([], [{"after": "trunk"}]))
    more = count_multiply_adds(attending, height=10, width=12) - count_multiply_adds(
        plain, height=10, width=12
    )
    assert more == 30 * (4 * 8 * 1) + 2 * 30 * 30 * 8


def test_parameters_are_those_that_were_learned(make_generator: MakeGenerator):
    convolutions = (9 * 9 * 3 * 8 + 8) + 3 * (9 * 8 * 8 + 8) + 2 * (9 * 8 * 32 + 32)
    convolutions += 9 * 9 * 8 * 3 + 3
    prelus = 1 + 1 + 2
    assert count_parameters(make_generator(attention=[])) == convolutions + prelus


def test_costs_of_a_study(
    full_runs: Callable[[], list[Run]], make_results: Callable[..., StudyResults]
):
    results = make_results(full_runs())
    values = np.array([10.0, 30.0, 20.0])
    curves = {
        f"variants/SRGAN/seed_{seed}": {
            "train/peak_memory_mib": (values, values + seed),
            "train/images_per_s": (values, values),
        }
        for seed in (1, 2, 3)
    }
    costs = measure_costs(results, curves)
    assert list(costs) == ["bicubic", "SRGAN", "A-SRGAN", "pool 8"]
    assert set(vars(costs["bicubic"]).values()) == {None}
    srgan, attending = costs["SRGAN"], costs["A-SRGAN"]
    assert (srgan.training_mib, srgan.images_per_s, srgan.hours) == (33.0, 20.0, 0.5)
    assert srgan.use_mib > 0
    assert attending.multiply_adds > srgan.multiply_adds > 2000**2
    assert attending.parameters > srgan.parameters
    assert attending.training_mib is None


def test_hours_are_those_of_finished_runs(
    make_run: Callable[..., Run], make_results: Callable[..., StudyResults]
):
    runs = [
        make_run("SRGAN", 1, hours=2.0),
        make_run("SRGAN", 2, hours=4.0),
        make_run("SRGAN", 3, hours=9.0, status="failed", scores=None),
    ]
    assert measure_costs(make_results(runs), {})["SRGAN"].hours == pytest.approx(3.0)
