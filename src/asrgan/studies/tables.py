"""Rows of results: files, means, differences, Markdown."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from asrgan.console import markdown_table
from asrgan.files import atomic_path
from asrgan.metrics import METRICS
from asrgan.studies.statistics import estimate_mean, paired_difference

Row = dict[str, str | float | None]
"""A line of a table; None is an empty cell."""

DIFFERENCE_COLUMNS = (
    "benchmark",
    "metric",
    "model",
    "baseline",
    "images",
    "difference",
    "low",
    "high",
)


def write_rows(path: Path, rows: Sequence[Row], *, columns: Sequence[str]) -> None:
    """Writes rows as CSV; the file appears whole or not at all."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summarize(
    rows: Sequence[Row], *, metrics: Sequence[str], confidence: float, seed: int
) -> list[Row]:
    """Means over the pictures of each benchmark and model, with their intervals.

    A picture without a value (one without ground truth, or too small for a metric) is not in the
    mean, nor is one that is exact, see `counted_values`: ``NAME_images`` counts those that are. A
    mean over no pictures is empty.

    Args:
        rows: with ``model``, ``benchmark`` and the metrics.
        metrics: columns to average.
        confidence: of the interval, between 0 and 1.
        seed: of the bootstrap.

    Returns:
        A row for each benchmark and model, in the order of their first rows: ``benchmark``,
        ``model``, ``images`` (all of them), and for each metric ``NAME``, ``NAME_low``,
        ``NAME_high``, ``NAME_images``.
    """
    summary: list[Row] = []
    for benchmark, models in _by_benchmark_and_model(rows).items():
        for model, group in models.items():
            line: Row = {"benchmark": benchmark, "model": model, "images": len(group)}
            for metric in metrics:
                values = [v for row in group if isinstance(v := row.get(metric), float)]
                estimate = estimate_mean(values, confidence=confidence, seed=seed)
                line[metric] = estimate and estimate.mean
                line[f"{metric}_low"] = estimate and estimate.low
                line[f"{metric}_high"] = estimate and estimate.high
                line[f"{metric}_images"] = estimate.count if estimate else 0
            summary.append(line)
    return summary


def compare(
    rows: Sequence[Row], *, metrics: Sequence[str], baseline: str, confidence: float, seed: int
) -> list[Row]:
    """Differences of each model from one of them, paired by picture.

    Args:
        rows: with ``model``, ``benchmark``, ``image`` and the metrics.
        metrics: columns to compare.
        baseline: the model that is subtracted.
        confidence: of the interval, between 0 and 1.
        seed: of the bootstrap.

    Returns:
        A row of `DIFFERENCE_COLUMNS` for each benchmark, metric and other model, where both have
        values of the same pictures.
    """
    differences: list[Row] = []
    for benchmark, models in _by_benchmark_and_model(rows).items():
        theirs = {row["image"]: row for row in models[baseline]}
        for metric in metrics:
            for model, group in models.items():
                pairs = [
                    (value, other)
                    for row in group
                    if isinstance(value := row.get(metric), float)
                    and isinstance(other := theirs[row["image"]].get(metric), float)
                ]
                difference = paired_difference(
                    [value for value, _ in pairs],
                    [other for _, other in pairs],
                    confidence=confidence,
                    seed=seed,
                )
                if difference is not None and model != baseline:
                    cells = (difference.count, difference.mean, difference.low, difference.high)
                    names = (benchmark, metric, model, baseline)
                    differences.append(dict(zip(DIFFERENCE_COLUMNS, names + cells, strict=True)))
    return differences


def as_markdown(
    summary: Sequence[Row], differences: Sequence[Row], *, benchmark: str, metrics: Sequence[str]
) -> str:
    """What is known of a benchmark: a line for each metric, a column for each model.

    Args:
        summary: from `summarize`.
        differences: from `compare`.
        benchmark: whose rows are shown.
        metrics: in order; those without any value are left out.
    """
    means: dict[str, dict[str, str]] = {}
    for row in (row for row in summary if row["benchmark"] == benchmark):
        for metric in metrics:
            if row[metric] is not None:
                ends = (row[f"{metric}_low"], row[f"{metric}_high"])
                cell = _cell(metric, row[metric], *ends)
                count, images = row[f"{metric}_images"], row["images"]
                cell += f" ({count} of {images})" if count != images else ""
                means.setdefault(metric, _start_line(metric))[str(row["model"])] = cell
    text = _table(means, order=metrics) if means else ""
    gains: dict[str, dict[str, str]] = {}
    for row in (row for row in differences if row["benchmark"] == benchmark):
        metric = str(row["metric"])
        cell = _cell(metric, row["difference"], row["low"], row["high"], sign="+")
        gains.setdefault(metric, _start_line(metric))[str(row["model"])] = cell
    if gains:
        text += f"\nDifference from {differences[0]['baseline']}:\n\n{_table(gains, order=metrics)}"
    return text


def _by_benchmark_and_model(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        models = groups.setdefault(str(row["benchmark"]), {})
        models.setdefault(str(row["model"]), []).append(row)
    return groups


def _start_line(metric: str) -> dict[str, str]:
    return {"metric": metric, "better": "higher" if METRICS[metric].is_higher_better else "lower"}


def _cell(
    metric: str,
    mean: str | float | None,
    low: str | float | None,
    high: str | float | None,
    *,
    sign: str = "",
) -> str:
    """``28.43 [27.10, 29.80]``, or without an interval where there is none."""
    digits = f"{sign}.{METRICS[metric].digits}f"
    interval = "" if low is None else f" [{low:{digits}}, {high:{digits}}]"
    return f"{mean:{digits}}{interval}"


def _table(lines: Mapping[str, Mapping[str, str]], *, order: Sequence[str]) -> str:
    """Markdown with aligned columns; a line may lack some."""
    rows = [lines[name] for name in order if name in lines]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    return markdown_table(cells)
