"""Many results -> statistics -> tables and pictures."""

from asrgan.studies.figures import Picture, plot_comparison, plot_curves
from asrgan.studies.tables import Row, as_markdown, summarize, write_rows

__all__ = [
    "Picture",
    "Row",
    "as_markdown",
    "plot_comparison",
    "plot_curves",
    "summarize",
    "write_rows",
]
