"""Curves of many runs: a line for each recipe and a band over its seeds."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asrgan.metrics import METRICS

NUM_POINTS = 120
"""Of a line, at most; a panel of the page has not many more pixels."""

Column = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Iterations and values, only those that were written; float32, for there are many."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """One quantity of one recipe over the iterations.

    Attributes:
        iterations: of the points.
        mean: over the seeds that got this far.
        low: the smallest of them.
        high: the largest of them.
    """

    iterations: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Quantities that are drawn together, over the iterations.

    Attributes:
        title: of the panel.
        columns: of ``metrics.csv``.
        is_log: whether the axis of the values is logarithmic.
    """

    title: str
    columns: Sequence[str]
    is_log: bool = False


# Title, beginnings of columns, whether the axis is logarithmic.
_HEALTH = (
    ("D(real) and D(fake)", ("train/d_real", "train/d_fake"), False),
    ("Gradient norm of G", ("train/gradient_norm/generator",), True),
    ("Gradient norm of D", ("train/gradient_norm/discriminator",), True),
    ("γ of attention in G", ("train/gamma/generator/",), False),
    ("γ of attention in D", ("train/gamma/discriminator/",), False),
    ("Largest singular value", ("val/largest_singular_value/",), False),
)


def validation_columns(names: Iterable[str]) -> list[str]:
    """Those of ``val/BENCHMARK/METRIC``."""
    return [n for n in names if n.startswith("val/") and n.rpartition("/")[2] in METRICS]


def health_panels(names: Iterable[str]) -> list[Panel]:
    """Whether a training is well: the panels that have any of these columns."""
    known = list(names)
    panels = [
        Panel(title=title, columns=[n for n in known if n.startswith(starts)], is_log=is_log)
        for title, starts, is_log in _HEALTH
    ]
    return [panel for panel in panels if panel.columns]


def read_columns(path: Path) -> dict[str, Column]:
    """The columns of a ``metrics.csv``, which may be growing.

    A last line without its end is left out, and so is a value that is not finite.
    """
    text = path.read_text(encoding="utf-8")
    lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    rows = [line for line in lines[1:] if len(line) == len(lines[0])]
    if not rows:
        return {}
    names = lines[0]
    table = np.array([[float(cell or "nan") for cell in row] for row in rows], np.float32).T
    iterations = table[names.index("iteration")]
    columns: dict[str, Column] = {}
    for name, values in zip(names, table, strict=True):
        is_there = np.isfinite(values)
        if name != "iteration" and is_there.any():
            # A column without gaps is the table's own memory, and shares its iterations.
            kept = ... if is_there.all() else is_there
            columns[name] = (iterations[kept], values[kept])
    return columns


def bands(
    runs: Iterable[tuple[str, Mapping[str, Column]]],
) -> dict[str, dict[str, Band]]:
    """A band for each quantity and recipe.

    Lines with more than `NUM_POINTS` points are averaged within as many equal stretches of the
    quantity's iterations, each run by itself, before the runs are laid together.

    Args:
        runs: recipe and columns of one run each.

    Returns:
        Quantity -> recipe -> band.
    """
    grouped: dict[str, dict[str, list[Column]]] = {}
    for model, columns in runs:
        for name, column in columns.items():
            grouped.setdefault(name, {}).setdefault(model, []).append(column)
    return {name: _lay_together(models) for name, models in grouped.items()}


def _lay_together(models: Mapping[str, Sequence[Column]]) -> dict[str, Band]:
    """The bands of one quantity, on one grid of iterations."""
    grid = np.unique(np.concatenate([column[0] for runs in models.values() for column in runs]))
    edges: NDArray[np.floating] | None = None
    if len(grid) > NUM_POINTS:
        width = (grid[-1] - grid[0]) / NUM_POINTS
        grid = grid[0] + width * (np.arange(NUM_POINTS) + 0.5)
        edges = np.append(grid - width / 2, grid[-1] + width / 2)
    found: dict[str, Band] = {}
    for model, runs in models.items():
        table = np.stack([_on_grid(column, grid, edges) for column in runs])
        is_there = ~np.isnan(table).all(axis=0)
        table = table[:, is_there]
        found[model] = Band(
            iterations=grid[is_there].tolist(),
            mean=np.nanmean(table, axis=0).tolist(),
            low=np.nanmin(table, axis=0).tolist(),
            high=np.nanmax(table, axis=0).tolist(),
        )
    return found


def _on_grid(
    column: Column, grid: NDArray[np.floating], edges: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """Means of a run's values at the points of a grid, or between its edges; NaN: no value."""
    iterations, values = column
    if edges is None:
        places = np.searchsorted(grid, iterations)
    else:
        places = np.clip(np.searchsorted(edges, iterations, side="right") - 1, 0, len(grid) - 1)
    counts = np.bincount(places, minlength=len(grid))
    sums = np.bincount(places, weights=values, minlength=len(grid))
    return np.divide(sums, counts, out=np.full(len(grid), np.nan), where=counts > 0)
