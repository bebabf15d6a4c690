from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from asrgan.metrics import METRICS
from asrgan.studies.report import Comparison, Run, StudyResults, compare, headline
from asrgan.studies.report.effects import Effect
from asrgan.studies.report.verdicts import judge

Make = Callable[..., Run]
MakeResults = Callable[..., StudyResults]


def own(results: StudyResults) -> dict[str, Comparison]:
    """The comparisons by the study's own metric on all pictures."""
    chosen = [c for c in compare(results, seed=1) if c.benchmark == "all"]
    return {c.variant: c for c in chosen if c.metric == results.metric}


def test_a_known_difference_is_told_and_none_is_not(make_results: MakeResults):
    found = own(make_results())
    assert list(found) == ["A-SRGAN", "pool 8"]
    assert found["A-SRGAN"].finding == "better"
    assert found["A-SRGAN"].text.startswith("better by 0.")
    assert found["A-SRGAN"].effect.low <= 0.5 <= found["A-SRGAN"].effect.high
    assert found["pool 8"].finding in ("equal", "unclear")


def test_lower_is_better_where_it_is(make_results: MakeResults):
    found = own(make_results(metric="lpips_alex", difference=0.0))
    assert found["A-SRGAN"].effect.mean < 0
    assert found["A-SRGAN"].finding == "better"
    assert found["A-SRGAN"].text.startswith("better by 0.00")


def test_runs_are_paired_by_seed(make_results: MakeResults, make_run: Make):
    """What a seed does to both is no difference."""
    runs: list[Run] = []
    for seed in (1, 2, 3):
        for variant in ("SRGAN", "A-SRGAN"):
            run = make_run(variant, seed)
            run.scores.values[:, 0] += 5 * seed
            runs.append(run)
    unshifted = own(make_results([make_run(v, s) for s in (1, 2, 3) for v in ("SRGAN", "A-SRGAN")]))
    shifted = own(make_results(runs))
    assert shifted["A-SRGAN"].effect.low == pytest.approx(unshifted["A-SRGAN"].effect.low)


def test_only_seeds_of_both_count(make_results: MakeResults, make_run: Make):
    runs = [make_run("SRGAN", s) for s in (1, 2, 3)] + [make_run("A-SRGAN", s) for s in (2, 3, 4)]
    assert own(make_results(runs))["A-SRGAN"].effect.num_seeds == 2


def test_one_seed_is_too_few(make_results: MakeResults, make_run: Make):
    (found,) = own(make_results([make_run("SRGAN", 1), make_run("A-SRGAN", 1)])).values()
    assert found.finding == "too few runs"
    assert found.text.startswith("too few seeds to tell (+0.")


def test_one_picture_is_too_few(make_results: MakeResults, make_run: Make):
    def of_one_picture(run: Run) -> Run:
        scores = run.scores
        return replace(
            run, scores=replace(scores, images=scores.images[:1], values=scores.values[:1])
        )

    runs = [make_run(variant, seed) for variant in ("SRGAN", "A-SRGAN") for seed in (1, 2, 3)]
    (found,) = own(make_results([of_one_picture(run) for run in runs])).values()
    assert found.finding == "too few runs"
    assert found.text.startswith("too few pictures to tell (+0.")
    assert found.text.endswith(", one picture)")


def test_no_finished_run_is_no_comparison(make_results: MakeResults, make_run: Make):
    runs = [make_run("SRGAN", 1), make_run("A-SRGAN", 1, status="running", scores=None)]
    results = make_results(runs)
    (found,) = own(results).values()
    assert (found.finding, found.effect) == ("no runs", None)
    assert headline(compare(results, seed=1), results) == "No two runs can be compared yet."


def test_an_exact_picture_of_both_is_no_difference(make_results: MakeResults, make_run: Make):
    runs = [make_run(variant, seed) for variant in ("SRGAN", "A-SRGAN") for seed in (1, 2, 3)]
    for run in runs:
        run.scores.values[0, 0] = np.inf
    runs[-1].scores.values[1, 0] = np.inf  # of one alone: no number
    assert own(make_results(runs))["A-SRGAN"].effect.num_images == 11


def test_more_variants_need_more_evidence(make_results: MakeResults, make_run: Make):
    alone = own(make_results([make_run(v, s) for v in ("SRGAN", "A-SRGAN") for s in (1, 2, 3)]))
    among = own(make_results())
    assert alone["A-SRGAN"].adjusted_p == alone["A-SRGAN"].effect.p_value
    assert among["A-SRGAN"].adjusted_p == pytest.approx(2 * alone["A-SRGAN"].adjusted_p)


PSNR = METRICS["psnr_y_db"]
EFFECT = Effect(mean=0.21, low=0.15, high=0.27, p_value=0.01, num_seeds=3, num_images=100)
CASES = [
    (EFFECT, 0.01, 0.05, "better", "better by 0.21 dB [0.15, 0.27]"),
    (
        replace(EFFECT, mean=-0.21, low=-0.27, high=-0.15), 0.01, 0.05,
        "worse", "worse by 0.21 dB [0.15, 0.27]",
    ),
    (
        EFFECT, 0.01, 0.25,
        "unclear", "better by 0.21 dB [0.15, 0.27], perhaps less than the 0.25 dB that matters",
    ),
    (
        EFFECT, 0.01, 0.3,
        "equal", "better by 0.21 dB [0.15, 0.27], less than the 0.30 dB that matters",
    ),
    (
        replace(EFFECT, mean=-0.001, low=-0.04, high=0.03), 0.8, 0.05,
        "equal", "no difference that matters (+0.00 dB [−0.04, 0.03], within ±0.05 dB)",
    ),
    (
        replace(EFFECT, mean=-0.1, low=-0.3, high=0.1), 0.8, 0.05,
        "unclear", "no difference shown (−0.10 dB [−0.30, 0.10])",
    ),
    (
        EFFECT, 0.06, 0.05,
        "unclear", "no difference shown among 7 variants (+0.21 dB [0.15, 0.27])",
    ),
    (
        replace(EFFECT, low=-1.0, high=1.4, num_seeds=2), 0.4, 0.05,
        "too few runs", "too few seeds to tell (+0.21 dB [−1.00, 1.40], 2 seeds)",
    ),
    (replace(EFFECT, num_seeds=2), 0.01, 0.05, "better", "better by 0.21 dB [0.15, 0.27]"),
]  # fmt: skip


@pytest.mark.parametrize(("effect", "adjusted_p", "smallest", "finding", "text"), CASES)
def test_a_verdict_in_words(
    effect: Effect, adjusted_p: float, smallest: float, finding: str, text: str
):
    found = judge(effect, adjusted_p, metric=PSNR, smallest=smallest, num_compared=7)
    assert found == (finding, text)


def test_the_answer_is_one_sentence(make_results: MakeResults, make_run: Make):
    results = make_results()
    answer = headline(compare(results, seed=1), results)
    assert answer.startswith("Compared with SRGAN, A-SRGAN is better by 0.")
    assert "; for pool 8, no difference" in answer
    many = [make_run("SRGAN", seed) for seed in (1, 2, 3)]
    for number in range(6):
        many += [make_run("A-SRGAN", seed, model=f"v{number}") for seed in (1, 2, 3)]
    results = make_results([*many, make_run("A-SRGAN", 1, model="late", scores=None)])
    assert headline(compare(results, seed=1), results) == (
        "Of 7 variants compared with SRGAN, 6 better, 1 without finished runs."
    )


def test_a_shown_difference_is_told_as_one_among_many(make_results: MakeResults, make_run: Make):
    runs = [make_run("SRGAN", seed) for seed in (1, 2, 3)]
    for variant, count in (("A-SRGAN", 3), ("pool 8", 1)):
        for number in range(count):
            runs += [make_run(variant, s, model=f"{variant} {number}") for s in (1, 2, 3)]
    results = make_results(runs, difference=0.52)
    comparisons = compare(results, seed=1)
    shown = {name for name, comparison in own(results).items() if comparison.is_shown}
    assert shown == {"A-SRGAN 0", "A-SRGAN 1", "A-SRGAN 2"}
    assert headline(comparisons, results) == (
        "Of 4 variants compared with SRGAN, 3 with a difference that may be too small to matter,"
        " 1 without a difference that matters."
    )
