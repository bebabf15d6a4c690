"""Many results -> statistics -> tables and pictures."""

from asrgan.studies.cells import Share, run_cell
from asrgan.studies.definition import Study
from asrgan.studies.figures import Picture, plot_comparison, plot_curves
from asrgan.studies.folder import CellFolder, CellPlan, CellState, StudyFolder, StudyPlan
from asrgan.studies.gallery import Example, Gallery
from asrgan.studies.identity import Fingerprints
from asrgan.studies.local import Agenda, run_locally, shares
from asrgan.studies.names import GENERATOR, generator_file, generator_name
from asrgan.studies.plan import Composer, Planner, trainings
from asrgan.studies.requirements import Requirement, find_misses
from asrgan.studies.results import last_scores, read_results, write_results
from asrgan.studies.scoring import Model, Scores, score
from asrgan.studies.statistics import (
    Estimate,
    bootstrap_interval,
    estimate_mean,
    paired_difference,
)
from asrgan.studies.sweeps import wandb_sweeps
from asrgan.studies.tables import (
    DIFFERENCE_COLUMNS,
    Row,
    as_markdown,
    compare,
    summarize,
    write_rows,
)
from asrgan.studies.watch import Watch

__all__ = [
    "DIFFERENCE_COLUMNS",
    "GENERATOR",
    "Agenda",
    "CellFolder",
    "CellPlan",
    "CellState",
    "Composer",
    "Estimate",
    "Example",
    "Fingerprints",
    "Gallery",
    "Model",
    "Picture",
    "Planner",
    "Requirement",
    "Row",
    "Scores",
    "Share",
    "Study",
    "StudyFolder",
    "StudyPlan",
    "Watch",
    "as_markdown",
    "bootstrap_interval",
    "compare",
    "estimate_mean",
    "find_misses",
    "generator_file",
    "generator_name",
    "last_scores",
    "paired_difference",
    "plot_comparison",
    "plot_curves",
    "read_results",
    "run_cell",
    "run_locally",
    "score",
    "shares",
    "summarize",
    "trainings",
    "wandb_sweeps",
    "write_results",
    "write_rows",
]
