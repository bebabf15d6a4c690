"""All files of a report."""

from collections.abc import Sequence
from pathlib import Path

from asrgan.files import atomic_path
from asrgan.studies.report import tables
from asrgan.studies.report.costs import measure_costs
from asrgan.studies.report.curves import bands, read_columns
from asrgan.studies.report.examples import CropExample
from asrgan.studies.report.page import render_page
from asrgan.studies.report.results import StudyResults
from asrgan.studies.report.summary import summarize_study
from asrgan.studies.report.verdicts import compare, headline

METHOD = """\
Runs are paired by seed, pictures always; every picture counts the same. Intervals of differences
hold for other seeds and other pictures: a bootstrap over pictures, and Student's t for the seeds.
p-values are adjusted by Holm's method for all variants of one metric and benchmark.
"""


def write_report(
    results: StudyResults, folder: Path, *, examples: Sequence[CropExample], seed: int
) -> str:
    """Writes the report of a study, finished or not.

    ``report.html`` is the page. ``report.md``, ``tables.tex`` (booktabs), ``summary.csv``,
    ``comparisons.csv`` and ``costs.csv`` have its numbers.

    Args:
        results: of the study.
        folder: receives the files; what was there under their names is replaced.
        examples: pictures for the page.
        seed: of the bootstrap.

    Returns:
        The answer in one sentence.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    columns = {
        run.path: read_columns(run.metrics_path)
        for run in results.runs
        if run.metrics_path is not None
    }
    summary = summarize_study(results)
    comparisons = compare(results, seed=seed)
    costs = measure_costs(results, columns)
    answer = headline(comparisons, results)
    page = render_page(
        results,
        answer=answer,
        summary=summary,
        comparisons=comparisons,
        costs=costs,
        curves=bands((run.model, columns[run.path]) for run in results.runs if run.path in columns),
        examples=examples,
    )
    _write(folder / "report.html", page)
    shown = [
        tables.verdict_table(results, comparisons),
        *tables.result_tables(results, summary, comparisons),
        tables.cost_table(costs),
    ]
    shown = [table for table in shown if table.lines]
    _write(folder / "report.md", _markdown(results, answer, shown))
    _write(folder / "tables.tex", "\n".join(map(tables.as_latex, shown)))
    tables.write_csv_tables(
        folder, results=results, summary=summary, comparisons=comparisons, costs=costs
    )
    return answer


def _markdown(results: StudyResults, answer: str, shown: Sequence[tables.Table]) -> str:
    open_runs = [run for run in results.runs if run.status != "finished"]
    parts = [f"# {results.question}", answer]
    if open_runs:
        lines = [f"- {r.path}: {r.status}{f', {r.reason}' if r.reason else ''}" for r in open_runs]
        parts.append(f"Preliminary; {len(open_runs)} runs are not finished:\n\n" + "\n".join(lines))
    for table in shown:
        parts += [f"## {table.title}", table.note, tables.as_markdown(table).rstrip()]
    parts += ["## Method", METHOD.rstrip(), results.protocol]
    return "\n\n".join(part for part in parts if part) + "\n"


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
