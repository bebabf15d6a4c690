"""The report of a search, and its page in a real browser."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrgan.searches import FAILURE, FOLDER, OBJECTIVES, Search, read_search, write_trials
from asrgan.studies.report import write_search_report

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

Open = Callable[..., Any]
LR, NORM, WIDTH = "optimizer.generator.lr", "generator.norm", "generator.num_features"
EVERY = '[...document.querySelectorAll("{}")].map((element) => {})'
FAULT = "diverged: `train/loss` is <no> number."


def scores_of(rate: float) -> dict[str, float]:
    """The more it learns, the higher is PSNR-Y up to 1e-3; ringing rises all along."""
    exponent = float(np.log10(rate))
    return {"psnr_y_db": 30 - abs(exponent + 3), "ringing": exponent + 6, "ssim_y": 0.5}


def make_search(*objectives: str, num_trials: int = 13) -> Search:
    """As many complete trials, with rates from 1e-5 to 0.1; one pruned, failed and running each."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ways = ["minimize" if name == "ringing" else "maximize" for name in objectives]
    study = optuna.create_study(directions=ways)
    study.set_user_attr(OBJECTIVES, list(objectives))
    space = {
        LR: optuna.distributions.FloatDistribution(1e-6, 1.0, log=True),
        NORM: optuna.distributions.CategoricalDistribution(["batch", "none"]),
        WIDTH: optuna.distributions.CategoricalDistribution(["16", "8"]),
    }

    def add(number: int, rate: float, state: str, **what: object) -> None:
        params = {
            LR: rate,
            NORM: ["batch", "none"][number % 2],
            WIDTH: ["16", "8"][number // 2 % 2],
        }
        scores = scores_of(rate)
        reports = {1: scores[objectives[0]] - 5, 2: scores[objectives[0]]}
        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState[state],
            params=params,
            distributions=space,
            values=[scores[name] for name in objectives] if state == "COMPLETE" else None,
            intermediate_values=reports if len(objectives) == 1 else None,
            user_attrs={FOLDER: "/out", **what},
        )
        study.add_trial(trial)

    for number, rate in enumerate(np.logspace(-5, -1, num_trials)):
        add(number, float(rate), "COMPLETE")
    add(num_trials, 1e-5, "PRUNED")
    add(num_trials + 1, 0.1, "FAIL", **{FAILURE: FAULT})
    add(num_trials + 2, 1e-2, "RUNNING")
    return read_search(study)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a search with two objectives."""
    folder = tmp_path_factory.mktemp("front")
    write_search_report(make_search("psnr_y_db", "ringing"), folder, name="a search")
    return folder / "report.html"


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one with one objective, which was pruned."""
    folder = tmp_path_factory.mktemp("single")
    write_search_report(make_search("psnr_y_db"), folder, name="a search")
    return folder / "report.html"


def test_the_front_is_what_no_other_trial_beats_in_both():
    search = make_search("psnr_y_db", "ringing")
    # Beyond 1e-3 (trial 6) more ringing buys no more PSNR-Y.
    assert [trial.number for trial in search.best] == [0, 1, 2, 3, 4, 5, 6]
    assert search.axes == {LR: "log", NORM: "words", WIDTH: "words"}
    assert search.count() == "13 complete, 1 pruned, 1 fail, 1 running"


def test_the_best_of_one_objective_lies_in_its_better_direction():
    assert [t.number for t in make_search("psnr_y_db").best] == [6]
    assert [t.number for t in make_search("ringing").best] == [0]


def test_what_decides_the_scores_is_what_matters():
    search = make_search("psnr_y_db", "ringing", num_trials=60)
    for shares in search.importances.values():
        assert sum(shares.values()) == pytest.approx(1)
        assert shares[LR] > 0.8
    assert make_search("psnr_y_db", num_trials=9).importances == {}


def test_every_trial_stands_in_the_table_with_what_became_of_it(tmp_path: Path):
    search = make_search("psnr_y_db")
    write_trials(tmp_path / "trials.csv", search)
    with (tmp_path / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows[-3:]] == ["pruned", "fail", "running"]
    assert rows[6]["is_best"] == "True"
    assert float(rows[6]["psnr_y_db"]) == pytest.approx(30)
    assert (rows[14]["failure"], rows[14]["folder"]) == (FAULT, "/out/trial_14")
    answer = write_search_report(search, tmp_path, name="a search")
    assert answer == "Trial 6 is the best, with PSNR-Y 30.00 dB."
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.startswith(f"# Search for higher PSNR-Y\n\n{answer}\n\n16 trials: 13 complete")
    assert re.search(r"\| 13 +\| pruned .*at iteration 2, with PSNR-Y 28\.00 dB +\|", text)
    assert f"| {FAULT}" in text


def test_a_search_without_a_complete_trial_has_a_page(visit: Open, tmp_path: Path):
    answer = write_search_report(make_search("psnr_y_db", num_trials=0), tmp_path, name="x")
    assert answer == "No trial has come to its end yet."
    page = visit(tmp_path / "report.html")
    assert page.locator("#history, #parameters").count() == 0
    assert page.locator("#trials tbody tr").count() == 3


def test_the_page_marks_the_front(visit: Open, front: Path):
    page = visit(front)
    heading = page.get_by_role("heading", level=1).inner_text()
    assert heading == "Search for higher PSNR\N{NON-BREAKING HYPHEN}Y and lower ringing"
    assert page.locator("#verdict tbody tr").count() == 7
    assert "1 of 16 trials still to end" in page.get_by_role("note").inner_text()
    page.locator("#front-chart").scroll_into_view_if_needed()
    page.locator("#front-chart circle").first.wait_for()
    places = EVERY.format(
        "#front-chart circle",
        "[element.cx.baseVal.value, element.cy.baseVal.value, element.getAttribute('fill')]",
    )
    points = page.evaluate(places)
    assert len(points) == 13
    # The front is drawn last: more PSNR-Y is right, less ringing is up.
    orange = points[6:]
    assert {fill for *_, fill in orange} == {"var(--hue-1)"}
    assert {fill for *_, fill in points[:6]} == {"var(--hue-0)"}
    assert [x for x, *_ in orange] == sorted(x for x, *_ in orange)
    assert [y for _, y, _ in orange] == sorted(y for _, y, _ in orange)
    labels = page.locator("#front-chart [aria-label=text] text").all_text_contents()
    assert labels == ["0", "1", "2", "3", "4", "5", "6"]
    assert page.locator("#front-chart [aria-label=line] path").count() == 1


def test_the_parameters_follow_the_objective(visit: Open, front: Path):
    page = visit(front)
    charts = page.locator("#parameters-charts")
    charts.scroll_into_view_if_needed()
    charts.locator("circle").first.wait_for()
    captions = charts.locator("figcaption").all_inner_texts()
    assert captions[0].startswith(f"{LR} importance ")
    words = charts.locator("figure", has_text=WIDTH).locator("[aria-label='x-axis tick label']")
    assert words.locator("text").all_text_contents() == ["8", "16"]
    page.locator("#parameters-objective").select_option("ringing")
    assert "Ringing (better ↑)" in charts.inner_text()


def test_the_page_of_one_objective_shows_history_and_pruning(visit: Open, single: Path):
    page = visit(single)
    history = page.locator("#history-chart")
    history.scroll_into_view_if_needed()
    history.locator("circle").first.wait_for()
    assert history.locator("circle").count() == 13
    curves = page.locator("#curves-chart")
    curves.scroll_into_view_if_needed()
    curves.locator("[aria-label=line] path").first.wait_for()
    colors = EVERY.format("#curves-chart [aria-label=line] path", "element.getAttribute('stroke')")
    assert page.evaluate(colors).count("var(--muted)") == 3  # pruned, failed, running
    assert page.locator("#trials .status.pruned").count() == 1
    assert FAULT in page.locator("#trials").inner_text()
    assert page.locator("#trials tr", has_text="best").locator("th").inner_text() == "6"


def test_trials_sort_by_a_key(visit: Open, front: Path):
    page = visit(front)
    table = page.locator("#trials")
    table.get_by_role("button", name="Ringing").press("Enter")
    first = table.locator("tbody th").all_inner_texts()
    assert first[:13] == [str(number) for number in range(12, -1, -1)]
    table.get_by_role("button", name="trial", exact=True).press("Enter")
    assert table.locator("tbody th").all_inner_texts() == [str(number) for number in range(16)]


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(visit: Open, front: Path, width: int):
    page = visit(front, width=width)
    for chart in ("#front-chart", "#parameters-charts"):
        page.locator(chart).scroll_into_view_if_needed()
        page.locator(f"{chart} circle").first.wait_for()
    element = "document.documentElement"
    assert page.evaluate(f"{element}.scrollWidth <= {element}.clientWidth")
