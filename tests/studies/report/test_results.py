from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from asrgan.errors import UserError
from asrgan.studies.report import Run, StudyResults

Make = Callable[..., Run]
MakeResults = Callable[..., StudyResults]


def test_a_study_knows_its_pictures_and_metrics(make_results: MakeResults):
    results = make_results()
    assert results.groups() == ["all", "Five", "Seven"]
    assert results.places("Seven").tolist() == list(range(5, 12))
    assert len(results.places("all")) == 12
    assert results.metrics == ["psnr_y_db", "ssim_y", "lpips_alex"]


def test_one_benchmark_is_all_there_is(make_results: MakeResults, make_run: Make):
    run = make_run("SRGAN", 1)
    scores = replace(run.scores, images=[("Five", str(number)) for number in range(12)])
    assert make_results([replace(run, scores=scores)]).groups() == ["all"]


def test_an_unknown_metric_is_one_line(make_results: MakeResults):
    with pytest.raises(UserError, match=r"`metric` \(=psnr\) must be one of psnr_y_db, ssim_y"):
        make_results(metric="psnr")


def test_a_metric_without_values_is_one_line(make_results: MakeResults):
    with pytest.raises(UserError, match=r"`metric` \(=consistency_db\) has no value in the tables"):
        make_results(metric="consistency_db")


def test_a_missing_baseline_is_one_line(make_results: MakeResults):
    with pytest.raises(
        UserError, match=r"`baseline` \(=X\) must be one of the variants: SRGAN, A-"
    ):
        make_results(baseline="X")


def drop(run: Run, *, images: slice = slice(None), metrics: slice = slice(None)) -> Run:
    assert run.scores is not None
    return replace(
        run,
        scores=replace(
            run.scores,
            images=run.scores.images[images],
            metrics=run.scores.metrics[metrics],
            values=run.scores.values[images, metrics],
        ),
    )


def test_tables_of_other_pictures_are_one_line(make_results: MakeResults, make_run: Make):
    whole, short = make_run("SRGAN", 1), drop(make_run("A-SRGAN", 2), images=slice(9))
    expected = (
        "the tables of variants/SRGAN/seed_1 and variants/A-SRGAN/seed_2 do not match:"
        " variants/A-SRGAN/seed_2 lacks Seven/image4, Seven/image5 and 1 more; evaluate both"
    )
    with pytest.raises(UserError, match=expected):
        make_results([whole, short])
    with pytest.raises(UserError, match="variants/A-SRGAN/seed_2 lacks Seven/image4"):
        make_results([replace(short, model="SRGAN"), whole])


def test_a_metric_with_gaps_is_left_out_and_the_study_s_own_is_one_line(
    make_results: MakeResults, make_run: Make
):
    whole, short = make_run("SRGAN", 1), drop(make_run("A-SRGAN", 2), metrics=slice(2))
    short.scores.values[6, 1] = np.nan
    results = make_results([whole, short])
    assert results.metrics == ["psnr_y_db"]
    path = "variants/A-SRGAN/seed_2"
    assert results.gaps == {
        "ssim_y": f"{path} has no value for Seven/image1; remove {path}/evaluation to score it"
        " again",
        "lpips_alex": f"{path} has no value for Five/image0; remove {path}/evaluation to score it"
        " again",
    }
    with pytest.raises(
        UserError, match=r"`metric` \(=ssim_y\) is incomplete: variants/A-SRGAN/see"
    ):
        make_results([whole, short], metric="ssim_y")


def test_what_has_no_value_anywhere_is_no_gap(make_results: MakeResults, make_run: Make):
    runs = [make_run("SRGAN", 1), make_run("A-SRGAN", 2)]
    for run in runs:
        run.scores.values[6, 1] = np.nan
    results = make_results(runs)
    assert (results.metrics, results.gaps) == (["psnr_y_db", "ssim_y", "lpips_alex"], {})


def test_a_picture_that_stands_twice_is_one_line(make_results: MakeResults, make_run: Make):
    whole, other = make_run("SRGAN", 1), make_run("A-SRGAN", 2)
    scores = replace(other.scores, images=[*other.scores.images[:11], other.scores.images[0]])
    with pytest.raises(UserError, match="lacks Seven/image6"):
        make_results([whole, replace(other, scores=scores)])
    scores = replace(other.scores, images=other.scores.images[::-1])
    with pytest.raises(UserError, match="twice, or in another order"):
        make_results([whole, replace(other, scores=scores)])
