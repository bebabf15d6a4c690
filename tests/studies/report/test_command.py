"""`asrgan study report` from a folder to its files."""

import importlib.util
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from asrgan import cli
from asrgan.files import file_digest
from asrgan.studies.folder import StudyFolder

Report = Callable[..., tuple[int, str, str]]
FILES = {
    "comparisons.csv", "costs.csv", "report.html", "report.md", "summary.csv", "tables.tex",
}  # fmt: skip


@pytest.fixture
def asrgan_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Report]:
    """The command in this process: its exit code, and what it says."""
    handlers = logging.getLogger().handlers[:]

    def run(folder: Path, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asrgan", "study", "report", str(folder), *words])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0), *capsys.readouterr()
        return 0, *capsys.readouterr()

    yield run
    logging.getLogger().handlers[:] = handlers


def test_a_report_is_a_page_and_its_tables(asrgan_report: Report, study: StudyFolder):
    words = ["report.pictures=2", "report.explored=1", "report.crop_size_px=32"]
    code, out, err = asrgan_report(study.folder, *words, "report.device=cpu")
    assert code == 0, err
    assert out.startswith("Compared with SRGAN, A-SRGAN is better by 0.")
    assert {path.name for path in (study.folder / "report").iterdir()} == FILES
    page = (study.folder / "report" / "report.html").read_text("utf-8")
    assert page.count('id="example-') == 2


def test_a_report_needs_no_pictures(asrgan_report: Report, study: StudyFolder):
    plan = study.plan()
    study.write_plan(replace(plan, benchmarks={"Five": "/nowhere/Five"}))
    code, out, _ = asrgan_report(study.folder)
    assert code == 0
    assert "Without pictures: " in out
    assert "/nowhere/Five" in out
    assert 'id="pictures"' not in (study.folder / "report" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report.pictures=-1"], "`report.pictures` (=-1) must be at least 0"),
        (["report.crop_size_px=30"], "(=30) must be divisible by the scale (=4); try 32."),
        (["report.photos=3"], "report.photos"),
        (["wandb=me"], "`wandb` (=me) must be ENTITY/PROJECT."),
    ],
)
def test_a_wrong_setting_is_one_line(
    asrgan_report: Report, study: StudyFolder, words: list[str], message: str
):
    code, _, err = asrgan_report(study.folder, *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.skipif(
    importlib.util.find_spec("wandb_workspaces") is None, reason="wandb-workspaces is not installed"
)
@pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
def test_a_report_for_wandb_is_a_file_where_nothing_may_be_sent(
    asrgan_report: Report, study: StudyFolder, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    code, out, err = asrgan_report(study.folder, "report.pictures=0", "wandb=me/sr")
    path = study.folder / "report" / "wandb_report.json"
    assert code == 0, err
    assert out.splitlines()[-1] == f"W&B         {path}, not sent"
    assert json.loads(path.read_text("utf-8"))["displayName"] == "Does attention help?"


def test_variants_with_other_pictures_are_one_line(asrgan_report: Report, study: StudyFolder):
    cell = study.cell("variants/pool 8/seed_3")
    table = cell.folder / "evaluation" / "per_image.csv"
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join(lines[:-3]) + "\n", encoding="utf-8")
    evaluated = {"evaluation/per_image.csv": file_digest(table)}
    cell.write_state(replace(cell.state(), evaluated=evaluated))
    code, _, err = asrgan_report(study.folder)
    assert code == 2
    assert "seed_3 lacks Seven/image4, Seven/image5 and 1 more; evaluate both on the same" in err
    assert err.count("\n") == 1
    assert not (study.folder / "report").exists()
