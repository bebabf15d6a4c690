"""Many results -> statistics -> tables and pictures."""

from asrgan.studies.figures import Picture, plot_comparison, plot_curves
from asrgan.studies.gallery import Example, Gallery
from asrgan.studies.requirements import Requirement, find_misses
from asrgan.studies.scoring import Model, Scores, score
from asrgan.studies.statistics import (
    Estimate,
    bootstrap_interval,
    estimate_mean,
    paired_difference,
)
from asrgan.studies.tables import (
    DIFFERENCE_COLUMNS,
    Row,
    as_markdown,
    compare,
    summarize,
    write_rows,
)

__all__ = [
    "DIFFERENCE_COLUMNS",
    "Estimate",
    "Example",
    "Gallery",
    "Model",
    "Picture",
    "Requirement",
    "Row",
    "Scores",
    "as_markdown",
    "bootstrap_interval",
    "compare",
    "estimate_mean",
    "find_misses",
    "paired_difference",
    "plot_comparison",
    "plot_curves",
    "score",
    "summarize",
    "write_rows",
]
