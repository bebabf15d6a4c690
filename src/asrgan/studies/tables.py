"""Rows of results: files, means, Markdown."""

import csv
from collections.abc import Sequence
from pathlib import Path

from asrgan.files import atomic_path
from asrgan.metrics import METRICS

Row = dict[str, str | float | None]
"""A line of a table; None is an empty cell."""


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Writes rows of equal keys as CSV; the file appears whole or not at all."""
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def summarize(rows: Sequence[Row], *, metrics: Sequence[str]) -> list[Row]:
    """Means over the images of each benchmark and model.

    Args:
        rows: with ``model``, ``benchmark`` and the metrics.
        metrics: columns to average; the mean of a column with an empty cell is empty.

    Returns:
        A row for each benchmark and model, in the order of their first rows; ``images`` is the
        number of pictures.
    """
    benchmarks = list(dict.fromkeys(row["benchmark"] for row in rows))
    models = list(dict.fromkeys(row["model"] for row in rows))
    summary: list[Row] = []
    for benchmark in benchmarks:
        for model in models:
            group = [r for r in rows if r["benchmark"] == benchmark and r["model"] == model]
            means = {metric: _mean([row[metric] for row in group]) for metric in metrics}
            names = {"benchmark": benchmark, "model": model, "images": len(group)}
            summary.append(names | means)
    return summary


def _mean(values: Sequence[str | float | None]) -> float | None:
    numbers = [value for value in values if isinstance(value, float)]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) else None


def as_markdown(summary: Sequence[Row]) -> str:
    """A summary as a Markdown table, its columns aligned."""
    columns = list(summary[0])
    lines = [columns, ["-" * len(column) for column in columns]]
    lines += [[_cell(column, row[column]) for column in columns] for row in summary]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    lines[1] = ["-" * width for width in widths]
    return "".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |\n"
        for line in lines
    )


def _cell(column: str, value: str | float | None) -> str:
    if isinstance(value, float):
        return f"{value:.{METRICS[column].digits}f}"
    return "" if value is None else str(value)
