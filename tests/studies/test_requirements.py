import math

import pytest

from asrgan.errors import UserError
from asrgan.studies import Requirement, find_misses

SUMMARY = [
    {"benchmark": "Set5", "model": "a", "ssim_y": 0.75, "consistency_db": 40.0},
    {"benchmark": "Set5", "model": "b", "ssim_y": 0.7499996, "consistency_db": math.inf},
    {"benchmark": "small", "model": "a", "ssim_y": None, "consistency_db": 30.0},
    {"benchmark": "small", "model": "b", "ssim_y": None, "consistency_db": None},
]
HAS_GROUND_TRUTH = {"Set5": True, "small": False}


def misses(**bounds: str) -> list[str]:
    requirements = [Requirement.parse(metric, bound) for metric, bound in bounds.items()]
    return find_misses(SUMMARY, requirements, has_ground_truth=HAS_GROUND_TRUTH)


def test_each_model_and_benchmark_that_misses_is_named_with_its_value():
    assert misses(consistency_db=">=35") == [
        "a on small: consistency_db 30, not >=35",
        "b on small: consistency_db has no value, not >=35",
    ]


def test_a_value_is_compared_as_it_is_and_not_as_it_is_rounded():
    assert misses(ssim_y=">=0.75") == ["b on Set5: ssim_y 0.7499996, not >=0.75"]
    assert misses(ssim_y=">0.75")[0] == "a on Set5: ssim_y 0.75, not >0.75"
    assert misses(ssim_y="<=0.75") == []
    assert misses(ssim_y="<0.75") == ["a on Set5: ssim_y 0.75, not <0.75"]


@pytest.mark.parametrize("bound", [">=0", ">0", "<=1", "<1"])
def test_what_has_no_value_or_is_not_a_number_never_passes(bound: str):
    requirement = Requirement.parse("consistency_db", bound)
    assert not requirement.is_met(None)
    assert not requirement.is_met(math.nan)


@pytest.mark.parametrize("text", [">=0.75", ">= 0.75", " >=.75 ", ">=75e-2", ">=+0.750"], ids=repr)
def test_a_bound_is_a_comparison_and_a_number(text: str):
    assert Requirement.parse("ssim_y", text) == Requirement("ssim_y", ">=", 0.75)


@pytest.mark.parametrize(
    ("metric", "bound", "message"),
    [
        ("ssim_y", 0.75, r"`require\.ssim_y` \(=0\.75\) must be a comparison.*ssim_y: '>=0\.75'"),
        ("colour_shift", "1.5", r"must be a comparison.*colour_shift: '<=1\.5'"),
        ("ssim_y", "=>0.75", r"\(==>0\.75\) must be a comparison and a number; try"),
        ("ssim_y", ">=", "must be a comparison and a number"),
        ("ssim_y", ">=nan", "must be a comparison and a number"),
        ("ssim", ">=0.75", r"`require\.ssim` is no metric; known are psnr_y_db, ssim_y"),
        (3, ">=0.75", r"`require\.3` is no metric"),
    ],
)
def test_what_is_no_bound_is_refused(metric: str, bound: object, message: str):
    with pytest.raises(UserError, match=message):
        Requirement.parse(metric, bound)
