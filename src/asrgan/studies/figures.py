"""Pictures of results: curves over iterations, and models side by side."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from asrgan.files import atomic_path, read_table

Picture = NDArray[np.uint8]


def plot_curves(tables: Mapping[str, Path], *, columns: Sequence[str], path: Path) -> None:
    """Draws columns of several runs' ``metrics.csv`` over the iteration, a panel for each column.

    Args:
        tables: run name -> ``metrics.csv``; a run without a column is left out of its panel.
        columns: the panels.
        path: the picture, by suffix.
    """
    figure = Figure(figsize=(4.2 * len(columns), 3.2), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    for panel, column in zip(panels, columns, strict=True):
        for number, (name, table) in enumerate(tables.items()):
            iterations, values = _read_column(table, column)
            if values:
                marker = "." if len(values) < 30 else ""
                panel.plot(iterations, values, label=name, color=f"C{number}", marker=marker)
        panel.set_title(column, fontsize=9)
        panel.set_xlabel("iteration", fontsize=8)
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize=8)
    save_figure(figure, path)


def _read_column(table: Path, column: str) -> tuple[list[int], list[float]]:
    _, rows = read_table(table)
    points = [(int(row["iteration"]), float(row[column])) for row in rows if row.get(column)]
    return [iteration for iteration, _ in points], [value for _, value in points]


def plot_comparison(
    images: Mapping[str, Mapping[str, Picture]],
    *,
    captions: Mapping[tuple[str, str], str],
    baseline: str,
    crop_size_px: int,
    num_crops: int,
    path: Path,
) -> None:
    """Puts zoomed crops of several models side by side, below each other for each image.

    The crops are chosen by a rule, not by taste: those where the baseline differs most from the
    ground truth, which is the last column.

    Args:
        images: image name -> column name -> uint8 (H, W, 3), all of one size; the last column is
            the ground truth.
        captions: (image name, column name) -> text below the column's name, where there is one.
        baseline: the column that decides about the crops.
        crop_size_px: side of a crop.
        num_crops: crops of each image; they do not overlap.
        path: the picture, by suffix.
    """
    num_columns = 1 + max(len(columns) for columns in images.values())
    num_rows = num_crops * len(images)
    size = (2.0 * num_columns, 2.2 * num_rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for panel in grid.flat:
        panel.set_axis_off()
    for number, (name, columns) in enumerate(images.items()):
        truth = list(columns.values())[-1]
        error = ((columns[baseline].astype(np.float32) - truth) ** 2).mean(axis=2)
        corners = highest_crops(error, size=crop_size_px, count=num_crops)
        for row, (top, left) in enumerate(corners, start=number * num_crops):
            show_place(grid[row][0], truth, top=top, left=left, size=crop_size_px, title=name)
            for panel, (column, picture) in zip(grid[row][1:], columns.items(), strict=False):
                crop = picture[top : top + crop_size_px, left : left + crop_size_px]
                panel.imshow(crop, interpolation="nearest")
                caption = captions.get((name, column))
                panel.set_title("\n".join(filter(None, [column, caption])), fontsize=8)
    save_figure(figure, path)


def show_place(
    panel: Axes, picture: Picture, *, top: int, left: int, size: int, title: str
) -> None:
    """Shows the whole picture with a frame where a crop is."""
    panel.imshow(picture)
    frame = Rectangle((left, top), size, size, fill=False, edgecolor="red", linewidth=1.2)
    panel.add_patch(frame)
    panel.set_title(title, fontsize=8, parse_math=False)


def highest_crops(values: NDArray[np.float32], *, size: int, count: int) -> list[tuple[int, int]]:
    """Corners (top, left) of the crops that hold the most, from high to low.

    The crops lie on a grid of half a crop and do not overlap.

    Args:
        values: (H, W), of each pixel.
        size: side of a crop; one that is larger than the picture is the picture.
        count: of crops, at most.
    """
    height, width = values.shape
    rows, columns = (
        range(0, max(1, side - size + 1), max(1, size // 2)) for side in (height, width)
    )
    sums = {
        (top, left): values[top : top + size, left : left + size].sum()
        for top in rows
        for left in columns
    }
    chosen: list[tuple[int, int]] = []
    for top, left in sorted(sums, key=lambda corner: -sums[corner]):
        if all(max(abs(top - other[0]), abs(left - other[1])) >= size for other in chosen):
            chosen.append((top, left))
        if len(chosen) == count:
            break
    return chosen


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format of the suffix; it appears whole or not at all."""
    with (
        mpl.rc_context({"font.family": "DejaVu Sans"}),
        warnings.catch_warnings(),
        atomic_path(path) as temporary,
    ):
        # The font has no Chinese: names are shown with boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, dpi=150)
