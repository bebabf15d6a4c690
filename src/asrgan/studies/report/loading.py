"""From a study on disk to what its report needs."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from asrgan.data import Benchmark, Originals, open_benchmark
from asrgan.errors import UserError
from asrgan.metrics import METRICS
from asrgan.studies.folder import CellFolder, CellPlan, StudyFolder
from asrgan.studies.names import GENERATOR
from asrgan.studies.report.results import ImageScores, Run, StudyResults
from asrgan.studies.results import hours, read_rows


def load_results(folder: StudyFolder) -> StudyResults:
    """What a study has found so far, whether it is finished, running or partly failed.

    Raises:
        UserError: there is no study, what a finished cell left was edited or is gone, or it does
            not fit together, see `StudyResults`.
    """
    study = folder.plan()
    if study is None:
        raise UserError(f"`{folder.folder}` holds no study yet; asrgan study run starts one.")
    cells = [(cell, plan) for cell in folder.cells() if (plan := cell.plan()) is not None]
    return StudyResults(
        name=study.name,
        question=study.question,
        baseline=study.baseline,
        metric=study.metric,
        difference=study.difference,
        scale=study.scale,
        seeds=study.seeds,
        runs=[_run(cell, plan, benchmarks=list(study.benchmarks)) for cell, plan in cells],
        protocol=_protocol(cells),
        provenance=_provenance(folder, cells),
    )


def open_benchmarks(folder: StudyFolder) -> tuple[dict[str, Benchmark | Originals], list[str]]:
    """The benchmarks of a study that are still where they were.

    Returns:
        Name -> benchmark; and why others cannot be opened, a sentence for each.
    """
    study = folder.plan()
    assert study is not None
    benchmarks: dict[str, Benchmark | Originals] = {}
    faults: list[str] = []
    for name, text in study.benchmarks.items():
        try:
            benchmarks[name] = open_benchmark(text, scale=study.scale)
        except UserError as error:
            faults.append(str(error))
    return benchmarks, faults


def _run(cell: CellFolder, plan: CellPlan, *, benchmarks: Sequence[str]) -> Run:
    status, state = cell.status(), cell.state()
    weights, metrics = cell.folder / GENERATOR, cell.folder / "metrics.csv"
    generator = weights if state.trained is not None and weights.is_file() else None
    return Run(
        path=plan.path,
        kind=plan.kind,
        model=plan.model,
        seed=plan.seed,
        status=status,
        reason=state.failure if status == "failed" else None,
        scores=_scores(cell, benchmarks) if status == "finished" else None,
        metrics_path=metrics if metrics.is_file() else None,
        generator=generator,
        run_id=_run_id(cell),
        hours=hours(state),
    )


def _run_id(cell: CellFolder) -> str | None:
    try:
        return json.loads((cell.folder / "run.json").read_text(encoding="utf-8"))["run_id"]
    except FileNotFoundError:
        return None


def _scores(cell: CellFolder, benchmarks: Sequence[str]) -> ImageScores:
    """Its rows, the benchmarks in the study's order, which may be another than the cell's."""
    cell.check_files()
    rows = read_rows(cell.folder / "evaluation" / "per_image.csv")
    places = {name: place for place, name in enumerate(benchmarks)}
    rows = sorted(rows, key=lambda row: places.get(row["benchmark"], len(places)))
    metrics = [name for name in METRICS if rows and name in rows[0]]
    return ImageScores(
        images=[(row["benchmark"], row["image"]) for row in rows],
        metrics=metrics,
        values=np.array([[float(row[name] or "nan") for name in metrics] for row in rows]).reshape(
            len(rows), len(metrics)
        ),
    )


def _protocol(cells: Sequence[tuple[CellFolder, CellPlan]]) -> str:
    """How the values were made: the head of the first evaluation's summary."""
    for cell, _ in cells:
        summary = cell.folder / "evaluation" / "summary.md"
        if summary.is_file():
            return summary.read_text(encoding="utf-8").partition("\n")[0]
    return ""


def _provenance(
    folder: StudyFolder, cells: Sequence[tuple[CellFolder, CellPlan]]
) -> Mapping[str, str]:
    """Which code ran, when, where and for how long."""
    attempts = [attempt for cell, _ in cells for attempt in cell.state().attempts]
    commits = dict.fromkeys(str(plan.code["commit"] or plan.code["version"]) for _, plan in cells)
    facts = {"Folder": str(folder.folder), "Code": ", ".join(commits)}
    if attempts:
        starts = sorted(attempt.started for attempt in attempts)
        facts |= {
            "Started": f"{starts[0]}; the last process {starts[-1]}",
            "Machines": ", ".join(dict.fromkeys(attempt.host for attempt in attempts)),
            "Time": f"{sum(attempt.seconds for attempt in attempts) / 3600:.2f} hours of processes",
        }
    return facts
