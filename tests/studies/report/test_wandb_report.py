"""The report of Weights & Biases, as it would be sent."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from asrgan.errors import UserError
from asrgan.studies.report import Run, StudyResults, WandbReport, find, parse_project

Runs = Callable[[], list[Run]]
MakeResults = Callable[..., StudyResults]

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("wandb_workspaces") is None,
        reason="wandb-workspaces is not installed",
    ),
    # Its classes are written for Pydantic 1.
    pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a key nor a network."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def results(full_runs: Runs, make_results: MakeResults) -> StudyResults:
    runs = [
        replace(run, run_id=f"{run.model}{run.seed}".replace(" ", "")) if run.metrics_path else run
        for run in full_runs()
    ]
    return make_results(runs, protocol="8-bit pictures.")


def blocks_of(results: StudyResults) -> list[Mapping[str, Any]]:
    report = WandbReport(find(results, seed=1), entity="me", project="sr")
    specification = json.loads(json.dumps(report.specification()))
    assert specification["displayName"] == results.question[:128]
    assert specification["project"] == {"entityName": "me", "name": "sr"}
    return specification["spec"]["blocks"]


def text_of(block: Mapping[str, Any]) -> str:
    children = [child for line in block["children"] for child in line.get("children", [line])]
    return block.get("content") or "".join(child["text"] for child in children)


def sections(blocks: list[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Heading -> what follows it."""
    return {
        text_of(block): following
        for block, following in pairwise(blocks)
        if block["type"] == "heading"
    }


def test_it_begins_with_the_verdict(results: StudyResults):
    _, answer, heading, table, *_ = blocks_of(results)
    assert text_of(answer).startswith("Compared with SRGAN, A-SRGAN is better by 0.")
    assert text_of(heading) == "PSNR-Y of each variant against SRGAN"
    assert "| A-SRGAN | better by 0." in text_of(table)


def test_it_has_every_section_and_table(results: StudyResults):
    parts = sections(blocks_of(results))
    assert list(parts) == [
        "PSNR-Y of each variant against SRGAN",
        "Learning curves",
        "Pictures",
        "Health",
        "All pictures (12)",
        "Five (5)",
        "Seven (7)",
        "Costs",
        "Method",
    ]
    assert "| pool 8 " in text_of(parts["Seven (7)"])
    assert "multiply-adds at 2000²" in text_of(parts["Costs"])
    assert text_of(parts["Method"]).endswith("8-bit pictures.")


def panels_of(block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return block["metadata"]["panelBankSectionConfig"]["panels"]


def test_each_panel_draws_what_the_runs_have_logged(results: StudyResults):
    parts = sections(blocks_of(results))
    (curve,) = panels_of(parts["Learning curves"])
    (pictures,) = panels_of(parts["Pictures"])
    (health,) = panels_of(parts["Health"])
    assert curve["viewType"] == health["viewType"] == "Run History Line Plot"
    assert (curve["config"]["xAxis"], curve["config"]["metrics"]) == (
        "iteration",
        ["val/Five/psnr_y_db"],
    )
    assert health["config"]["metrics"] == ["train/d_real", "train/d_fake"]
    for panel in (curve, health):  # a line for the mean of the seeds, and a band around it
        assert (panel["config"]["groupAgg"], panel["config"]["groupArea"]) == ("mean", "minmax")
    assert pictures["viewType"] == "Media Browser"
    assert pictures["config"]["mediaKeys"] == ["val/samples"]


def test_panels_do_not_lie_on_each_other(results: StudyResults, tmp_path: Path):
    columns = ["train/gradient_norm/generator", "train/gamma/generator/trunk", "train/d_real"]
    columns += ["val/largest_singular_value/generator"]
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(f"iteration,{','.join(columns)}\n1,1,2,3,4\n", encoding="utf-8")
    runs = [replace(run, metrics_path=metrics) for run in results.runs]
    panels = panels_of(sections(blocks_of(replace(results, runs=runs)))["Health"])
    places = [
        {(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
        for p in (panel["layout"] for panel in panels)
    ]
    assert len(places) == 4
    assert len(set().union(*places)) == sum(map(len, places))
    assert max(x for place in places for x, _ in place) < 24


def test_a_variant_is_a_run_set_of_its_own_runs(results: StudyResults):
    metadata = sections(blocks_of(results))["Learning curves"]["metadata"]
    run_sets = metadata["runSets"]
    assert [run_set["name"] for run_set in run_sets] == ["SRGAN", "A-SRGAN", "pool 8"]
    (wanted,) = run_sets[1]["filters"]["filters"]
    assert wanted["key"] == {"section": "run", "name": "name"}  # W&B's word for a run's ID
    assert (wanted["op"], wanted["value"]) == ("IN", ["A-SRGAN1", "A-SRGAN2", "A-SRGAN3"])
    assert run_sets[1]["grouping"] == [{"section": "run", "name": "group"}]
    colors = metadata["customRunColors"]
    of_run = {run: colors[run] for run in ("SRGAN1", "SRGAN3", "A-SRGAN1", "A-SRGAN2", "pool81")}
    assert len(set(of_run.values())) == 3
    assert colors[f"{run_sets[1]['id']}-group:a study"] == of_run["A-SRGAN1"]


def test_a_study_without_runs_still_has_words(make_results: MakeResults, make_run: Callable):
    runs = [make_run(v, 1, status="waiting", scores=None) for v in ("SRGAN", "A-SRGAN")]
    results = make_results(runs, question="Why? " * 40)
    parts = sections(blocks_of_long(results))
    assert list(parts) == ["Costs", "Method"]


def blocks_of_long(results: StudyResults) -> list[Mapping[str, Any]]:
    specification = WandbReport(find(results, seed=1), entity="me", project="sr").specification()
    assert len(specification["displayName"]) == 128
    assert specification["displayName"].endswith("…")
    return specification["spec"]["blocks"]


def test_without_a_key_nothing_is_sent(results: StudyResults, tmp_path: Path):
    report = WandbReport(find(results, seed=1), entity="me", project="sr")
    report.write(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text("utf-8")) == report.specification()
    assert report.send() is None


def test_a_report_that_cannot_be_sent_is_one_line(
    results: StudyResults, monkeypatch: pytest.MonkeyPatch
):
    from wandb_workspaces.reports import v2

    def fail(self: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("wandb.login", lambda prompt: True)
    monkeypatch.setattr(v2.Report, "save", fail)
    report = WandbReport(find(results, seed=1), entity="me", project="sr")
    with pytest.raises(UserError, match="W&B did not take the report: no route to host"):
        report.send()


@pytest.mark.parametrize("text", ["me", "me/", "/sr", "me/sr/x", "me /sr"])
def test_a_place_is_an_entity_and_a_project(text: str):
    with pytest.raises(UserError, match=r"`wandb` \(=.*\) must be ENTITY/PROJECT"):
        parse_project(text)
    assert parse_project("me/sr") == ("me", "sr")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'asrgan\[wandb\]'"):
        parse_project("me/sr")
