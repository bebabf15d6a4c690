"""Many results -> statistics -> tables and pictures."""

from asrgan.studies.figures import Picture, plot_comparison, plot_curves
from asrgan.studies.statistics import (
    Estimate,
    bootstrap_interval,
    estimate_mean,
    paired_difference,
)
from asrgan.studies.tables import Row, as_markdown, summarize, write_rows

__all__ = [
    "Estimate",
    "Picture",
    "Row",
    "as_markdown",
    "bootstrap_interval",
    "estimate_mean",
    "paired_difference",
    "plot_comparison",
    "plot_curves",
    "summarize",
    "write_rows",
]
