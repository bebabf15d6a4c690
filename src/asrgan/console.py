"""What commands show while they work, and what they tell in the end."""

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm


def open_bar(**settings: Any) -> "tqdm[Any]":
    """A progress bar that suits where it goes: a terminal, or a file that it must not fill.

    Args:
        settings: of ``tqdm``.
    """
    is_terminal = sys.stderr.isatty()
    return tqdm(dynamic_ncols=is_terminal, mininterval=0.5 if is_terminal else 30, **settings)


def markdown_table(lines: Sequence[Sequence[str]], *, alignment: Sequence[str] = ()) -> str:
    """Lines of cells, the headings first, as Markdown with aligned columns.

    Args:
        lines: all with as many cells.
        alignment: of each column, ``l`` or ``r``; empty: all to the left.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = alignment or ["l"] * len(widths)
    rules = [
        "-" * width if side == "l" else "-" * (width - 1) + ":"
        for side, width in zip(sides, widths, strict=True)
    ]
    justify = {"l": str.ljust, "r": str.rjust}
    columns = list(zip(sides, widths, strict=True))
    return "".join(
        "| "
        + " | ".join(justify[s](cell, w) for cell, (s, w) in zip(line, columns, strict=True))
        + " |\n"
        for line in [lines[0], rules, *lines[1:]]
    )
