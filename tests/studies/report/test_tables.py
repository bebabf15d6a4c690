"""Tables for papers and programs."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from asrgan.studies.report import StudyResults, find, write_report
from asrgan.studies.report.tables import Table, as_latex, as_markdown, p_value_text

TABLE = Table(
    key="k",
    title="50% of a_b",
    note="x² ↑",
    headings=["model", "n"],
    lines=[["p|q & r_1", "−1 ± 2 ▲"], ["<{\\}>", ""]],
    alignment="lr",
)


def test_latex_shows_every_character_of_a_name():
    assert as_latex(TABLE).splitlines() == [
        r"\begin{table}",
        r"  \centering",
        r"  \caption{50\% of a\_b. x\textsuperscript{2} $\uparrow$}",
        r"  \label{tab:k}",
        r"  \begin{tabular}{lr}",
        r"    \toprule",
        r"    model & n \\",
        r"    \midrule",
        r"    p$|$q \& r\_1 & $-$1 $\pm$ 2 $^{+}$ \\",
        r"    $<$\{\textbackslash{}\}$>$ &  \\",
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]


def test_markdown_keeps_its_columns():
    assert as_markdown(TABLE).splitlines() == [
        "| model      |        n |",
        "| ---------- | -------: |",
        "| p\\|q & r_1 | −1 ± 2 ▲ |",
        "| <{\\}>      |          |",
    ]


def test_a_small_p_value_is_no_zero():
    assert [p_value_text(p) for p in (0.0002, 0.001, 0.5)] == ["< 0.001", "0.001", "0.500"]
    assert p_value_text(None) == ""


def test_csv_has_all_digits_and_the_verdict(
    make_results: Callable[..., StudyResults], tmp_path: Path
):
    findings = find(make_results(), seed=1)
    write_report(findings, tmp_path, examples=[])
    with (tmp_path / "comparisons.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    keyed = {(row["benchmark"], row["metric"], row["variant"]): row for row in rows}
    for comparison in findings.comparisons:
        row = keyed[comparison.benchmark, comparison.metric, comparison.variant]
        assert float(row["difference"]) == comparison.effect.mean
        assert (row["verdict"], row["baseline"]) == (comparison.text, "SRGAN")
    with (tmp_path / "summary.csv").open(encoding="utf-8", newline="") as file:
        line = next(row for row in csv.DictReader(file) if row["model"] == "A-SRGAN")
    runs = [run for run in findings.results.runs if run.model == "A-SRGAN"]
    means = [run.scores.values[:, 0].mean() for run in runs]
    assert float(line["psnr_y_db"]) == pytest.approx(sum(means) / 3)
