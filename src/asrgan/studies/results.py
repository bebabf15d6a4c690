"""What the cells of a study have left: rows, scores, hours."""

from collections.abc import Sequence
from pathlib import Path

from asrgan.files import read_table, write_text
from asrgan.metrics import METRICS, counted_values, mean_over_benchmarks
from asrgan.studies.folder import CellState, StudyFolder
from asrgan.studies.tables import Row, as_markdown, write_rows


def read_results(study: StudyFolder) -> list[Row]:
    """A row for each benchmark, finished cell and image, in the order of the study's tables.

    Returns:
        ``benchmark``, ``kind``, ``model``, ``seed`` (None of a reference), ``image`` and the
        metrics.
    """
    rows: list[Row] = []
    for cell in study.cells():
        if cell.status() == "finished":
            plan = cell.plan()
            assert plan is not None
            names = {"kind": plan.kind, "model": plan.model, "seed": plan.seed}
            for row in read_rows(cell.folder / "evaluation" / "per_image.csv"):
                scores = {k: float(row[k]) if row[k] else None for k in METRICS if k in row}
                rows.append(
                    {"benchmark": row["benchmark"], **names, "image": row["image"], **scores}
                )
    benchmarks = list(dict.fromkeys(row["benchmark"] for row in rows))
    return sorted(rows, key=lambda row: benchmarks.index(row["benchmark"]))


def write_results(study: StudyFolder) -> str | None:
    """Writes ``per_image.csv``, ``summary.csv`` and ``summary.md`` of what is finished.

    Means are over the pictures of all seeds; how sure they are is the report's to tell.

    Returns:
        The summary as text; None: nothing is finished.
    """
    rows = read_results(study)
    if not rows:
        return None
    metrics = [name for name in METRICS if name in rows[0]]
    summary = _summarize(rows, metrics)
    parts: list[str] = []
    for benchmark in dict.fromkeys(str(line["benchmark"]) for line in summary):
        parts += [f"## {benchmark}", as_markdown(summary, [], benchmark=benchmark, metrics=metrics)]
    text = "\n\n".join(part.rstrip("\n") for part in parts) + "\n"
    names = ["benchmark", "kind", "model", "seed", "image"]
    write_rows(study.folder / "per_image.csv", rows, columns=[*names, *metrics])
    write_rows(study.folder / "summary.csv", summary, columns=list(summary[0]))
    write_text(study.folder / "summary.md", text)
    return text


def _summarize(rows: Sequence[Row], metrics: Sequence[str]) -> list[Row]:
    """Means by benchmark and model, in the columns of `asrgan.studies.summarize`."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((str(row["benchmark"]), str(row["model"])), []).append(row)
    summary: list[Row] = []
    for (benchmark, model), group in groups.items():
        seeds = len({row["seed"] for row in group})
        line: Row = {"benchmark": benchmark, "model": model, "seeds": seeds, "images": len(group)}
        for metric in metrics:
            values = counted_values([v for row in group if isinstance(v := row[metric], float)])
            mean = sum(values) / len(values) if values else None
            line |= {metric: mean, f"{metric}_low": None, f"{metric}_high": None}
            line[f"{metric}_images"] = len(values)
        summary.append(line)
    return summary


def last_scores(path: Path) -> dict[str, float]:
    """Scores of the last validation in a run's ``metrics.csv``, means over its benchmarks."""
    rows = read_rows(path) if path.exists() else []
    validated = [row for row in rows if any(v for k, v in row.items() if k.startswith("val/"))]
    scores: dict[str, list[float]] = {}
    for row in validated:
        if row["iteration"] == validated[-1]["iteration"]:
            for key, value in row.items():
                if key.startswith("val/") and value:
                    scores.setdefault(key.rpartition("/")[2], []).append(float(value))
    return {name: mean_over_benchmarks(name, values) for name, values in scores.items()}


def hours(state: CellState) -> float:
    """Time of all attempts, lost work included."""
    return sum(attempt.seconds for attempt in state.attempts) / 3600


def read_rows(path: Path) -> list[dict[str, str]]:
    """The whole rows of a CSV file that may be growing."""
    return read_table(path)[1]
