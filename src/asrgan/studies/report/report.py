"""All files of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrgan.files import write_text
from asrgan.studies.report import tables
from asrgan.studies.report.costs import Cost, measure_costs
from asrgan.studies.report.curves import Column, bands, read_columns
from asrgan.studies.report.examples import CropExample
from asrgan.studies.report.page import render_page
from asrgan.studies.report.results import StudyResults
from asrgan.studies.report.summary import SummaryLine, summarize_study
from asrgan.studies.report.verdicts import Comparison, compare, headline

METHOD = """\
Runs are paired by seed, pictures always; every picture counts the same. Intervals of differences
hold for other seeds and other pictures: a bootstrap over pictures, and Student's t for the seeds.
p-values are adjusted by Holm's method for all variants of one metric and benchmark.
"""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a report says, in numbers and words.

    Attributes:
        results: of the study.
        answer: to its question, one sentence.
        summary: means.
        comparisons: of the variants.
        costs: of the recipes.
        curves: a run's path -> the columns of its ``metrics.csv``.
    """

    results: StudyResults
    answer: str
    summary: Sequence[SummaryLine]
    comparisons: Sequence[Comparison]
    costs: Mapping[str, Cost]
    curves: Mapping[str, Mapping[str, Column]]

    @property
    def tables(self) -> list[tables.Table]:
        """The verdicts, the means on each benchmark, the costs; those that have lines."""
        all_of_them = [
            tables.verdict_table(self.results, self.comparisons),
            *tables.result_tables(self.results, self.summary, self.comparisons),
            tables.cost_table(self.costs),
        ]
        return [table for table in all_of_them if table.lines]


def find(results: StudyResults, *, seed: int) -> Findings:
    """Judges a study, finished or not.

    Args:
        results: of the study.
        seed: of the bootstrap.
    """
    curves = {
        run.path: read_columns(run.metrics_path)
        for run in results.runs
        if run.metrics_path is not None
    }
    comparisons = compare(results, seed=seed)
    return Findings(
        results=results,
        answer=headline(comparisons, results),
        summary=summarize_study(results),
        comparisons=comparisons,
        costs=measure_costs(results, curves),
        curves=curves,
    )


def write_report(findings: Findings, folder: Path, *, examples: Sequence[CropExample]) -> None:
    """Writes the report of a study.

    ``report.html`` is the page. ``report.md``, ``tables.tex`` (booktabs), ``summary.csv``,
    ``comparisons.csv`` and ``costs.csv`` have its numbers.

    Args:
        findings: of the study.
        folder: receives the files; what was there under their names is replaced.
        examples: pictures for the page.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    results, curves = findings.results, findings.curves
    page = render_page(
        results,
        answer=findings.answer,
        summary=findings.summary,
        comparisons=findings.comparisons,
        costs=findings.costs,
        curves=bands((run.model, curves[run.path]) for run in results.runs if run.path in curves),
        examples=examples,
    )
    write_text(folder / "report.html", page)
    write_text(folder / "report.md", _markdown(findings))
    write_text(folder / "tables.tex", "\n".join(map(tables.as_latex, findings.tables)))
    tables.write_csv_tables(
        folder,
        results=results,
        summary=findings.summary,
        comparisons=findings.comparisons,
        costs=findings.costs,
    )


def _markdown(findings: Findings) -> str:
    results = findings.results
    open_runs = [run for run in results.runs if run.status != "finished"]
    parts = [f"# {results.question}", findings.answer]
    if open_runs:
        lines = [f"- {r.path}: {r.status}{f', {r.reason}' if r.reason else ''}" for r in open_runs]
        parts.append(f"Preliminary; {len(open_runs)} runs are not finished:\n\n" + "\n".join(lines))
    for table in findings.tables:
        parts += [f"## {table.title}", table.note, tables.as_markdown(table).rstrip()]
    parts += ["## Method", METHOD.rstrip(), results.protocol]
    return "\n\n".join(part for part in parts if part) + "\n"
