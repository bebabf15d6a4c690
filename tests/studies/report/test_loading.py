"""Studies on disk, as `asrgan study run` leaves them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from asrgan.errors import UserError
from asrgan.files import file_digest
from asrgan.studies.folder import CellState, StudyFolder
from asrgan.studies.report import Run, find, load_results, open_benchmarks, write_report

Runs = Callable[[], list[Run]]


def test_what_is_read_is_what_was_written(study: StudyFolder, full_runs: Runs):
    results = load_results(study)
    assert (results.question, results.protocol) == ("Does attention help?", "8-bit pictures.")
    assert results.provenance["Code"] == "abc"
    for run, expected in zip(results.runs, full_runs(), strict=True):
        assert (run.path, run.model, run.seed) == (expected.path, expected.model, expected.seed)
        assert run.status == "finished"
        assert run.scores.values.tolist() == expected.scores.values.tolist()
        assert run.hours == 0.5


def test_unfinished_cells_have_no_values_and_tell_why(study: StudyFolder):
    failed, waiting = (study.cell(f"variants/pool 8/seed_{n}") for n in (1, 2))
    failed.write_state(replace(failed.state(), trained=None, failure="`loss` is nan."))
    waiting.write_state(CellState())
    running = study.cell("variants/pool 8/seed_3")
    assert running.lock.acquire()
    try:
        runs = {run.path: run for run in load_results(study).runs}
    finally:
        running.lock.release()
    found = [runs[f"variants/pool 8/seed_{number}"] for number in (1, 2, 3)]
    assert [run.status for run in found] == ["failed", "waiting", "running"]
    assert [run.reason for run in found] == ["`loss` is nan.", None, None]
    assert [run.scores for run in found] == [None] * 3
    assert found[0].generator is None
    assert found[2].metrics_path is not None


def test_cells_may_have_met_the_benchmarks_in_another_order(study: StudyFolder, full_runs: Runs):
    cell = study.cell("variants/A-SRGAN/seed_2")
    table = cell.folder / "evaluation" / "per_image.csv"
    head, *rows = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([head, *rows[5:], *rows[:5]]) + "\n", encoding="utf-8")
    evaluated = {"evaluation/per_image.csv": file_digest(table)}
    cell.write_state(replace(cell.state(), evaluated=evaluated))
    for run, expected in zip(load_results(study).runs, full_runs(), strict=True):
        assert run.scores.images == expected.scores.images
        assert run.scores.values.tolist() == expected.scores.values.tolist()


def test_a_folder_without_a_study_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="holds no study yet; asrgan study run starts one"):
        load_results(StudyFolder(tmp_path))


@pytest.mark.parametrize("name", ["evaluation/per_image.csv", "generator.safetensors"])
def test_an_edited_result_is_one_line(study: StudyFolder, name: str):
    path = study.cell("variants/A-SRGAN/seed_2").folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UserError, match=r"seed_2/.* is not what the cell's run left; remove"):
        load_results(study)


def test_an_unknown_metric_is_one_line(study: StudyFolder):
    study.write_plan(replace(study.plan(), metric="psnr"))
    with pytest.raises(UserError, match=r"`metric` \(=psnr\) must be one of"):
        load_results(study)


def test_tables_that_do_not_match_are_one_line(study: StudyFolder):
    cell = study.cell("variants/A-SRGAN/seed_2")
    table = cell.folder / "evaluation" / "per_image.csv"
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    evaluated = {"evaluation/per_image.csv": file_digest(table)}
    cell.write_state(replace(cell.state(), evaluated=evaluated))
    with pytest.raises(UserError, match="variants/A-SRGAN/seed_2 lacks Seven/image6; evaluate"):
        load_results(study)


def test_benchmarks_that_are_gone_are_told(study: StudyFolder):
    plan = study.plan()
    study.write_plan(replace(plan, benchmarks={**plan.benchmarks, "Gone": "/nowhere/Gone"}))
    benchmarks, faults = open_benchmarks(study)
    assert list(benchmarks) == ["Five", "Seven"]
    assert "/nowhere/Gone" in faults[0]


def test_a_moved_study_reports_the_same(study: StudyFolder, tmp_path: Path):
    def report(folder: Path) -> dict[str, str]:
        write_report(
            find(load_results(StudyFolder(folder)), seed=1), folder / "report", examples=[]
        )
        names = ("summary.csv", "comparisons.csv", "costs.csv", "tables.tex", "report.md")
        return {name: (folder / "report" / name).read_text("utf-8") for name in names}

    before = report(study.folder)
    assert report(study.folder.rename(tmp_path / "moved ü")) == before


def test_the_files_agree(study: StudyFolder):
    folder = study.folder / "report"
    findings = find(load_results(study), seed=1)
    write_report(findings, folder, examples=[])
    page, markdown = ((folder / n).read_text("utf-8") for n in ("report.html", "report.md"))
    assert findings.answer in page
    assert findings.answer in markdown
    assert markdown.startswith("# Does attention help?\n")
    payload = page.partition('id="data">')[2].partition("</script>")[0]
    mean = json.loads(payload)["means"]["all"]["A-SRGAN"]["psnr_y_db"][0]
    assert f"| A-SRGAN | 3     | {mean:.2f} ± " in markdown.replace("|     3 |", "| 3     |")
