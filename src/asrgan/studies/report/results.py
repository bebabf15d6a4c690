"""What a study has found so far: runs, their values of each picture, what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from asrgan.errors import UserError
from asrgan.metrics import METRICS

Kind = Literal["reference", "stage", "variant"]
Status = Literal["finished", "running", "failed", "interrupted", "waiting"]
ImageKey = tuple[str, str]
"""Benchmark and name of a picture."""

ALL = "all"
"""Stands for every picture of all benchmarks."""

_MAX_SHOWN = 2


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Values of one run.

    Attributes:
        images: the pictures, in the order of the rows.
        metrics: names of the columns.
        values: (images, metrics); NaN where a cell is empty.
    """

    images: Sequence[ImageKey]
    metrics: Sequence[str]
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One cell of a study.

    Attributes:
        path: below the study's folder; its name in messages.
        kind: what it is for.
        model: its recipe's name in tables.
        seed: None for a reference.
        status: where it stands.
        reason: why it failed or was interrupted; or None.
        scores: of each picture; None: not finished.
        metrics_path: ``metrics.csv``, which may be growing; None: nothing was trained.
        generator: ``generator.safetensors``; None: not there (yet).
        run_id: of the training, in W&B, too; None: nothing was trained yet.
        hours: of all attempts.
    """

    path: str
    kind: Kind
    model: str
    seed: int | None
    status: Status
    reason: str | None = None
    scores: ImageScores | None = None
    metrics_path: Path | None = None
    generator: Path | None = None
    run_id: str | None = None
    hours: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StudyResults:
    """A study, finished or not.

    Attributes:
        name: of the study.
        question: what it is to answer.
        baseline: the variant that the others are compared with.
        metric: the one that decides, key of `METRICS`.
        difference: of the metric, in its unit: less does not matter.
        scale: of the pictures.
        seeds: each variant has one run with each.
        runs: in the order of tables.
        protocol: how the values were made, one line; empty: not told.
        provenance: facts about code, packages, dates, for the page's end.

    Raises:
        UserError: an unknown metric, a baseline without runs, or tables of different pictures or
            metrics.
    """

    name: str
    question: str
    baseline: str
    metric: str
    difference: float
    scale: int
    seeds: Sequence[int]
    runs: Sequence[Run]
    protocol: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise UserError(f"`metric` (={self.metric}) must be one of {', '.join(METRICS)}.")
        if self.baseline not in self.models("variant"):
            known = ", ".join(self.models("variant")) or "there are none"
            raise UserError(f"`baseline` (={self.baseline}) must be one of the variants: {known}.")
        scored = [run for run in self.runs if run.scores is not None]
        for run in scored[1:]:
            _check_equal(scored[0], run)
        if scored and self.metric not in self.metrics:
            raise UserError(
                f"`metric` (={self.metric}) has no value in the tables, which have"
                f" {', '.join(self.metrics) or 'none'}; evaluate the study with it, or choose one"
                " of these."
            )

    def models(self, *kinds: Kind) -> list[str]:
        """Names of the recipes of some kinds, or of all, in the order of tables."""
        chosen = [run.model for run in self.runs if not kinds or run.kind in kinds]
        return list(dict.fromkeys(chosen))

    def runs_of(self, model: str) -> list[Run]:
        """The runs of a recipe."""
        return [run for run in self.runs if run.model == model]

    @cached_property
    def images(self) -> Sequence[ImageKey]:
        """Every picture, once."""
        return next((run.scores.images for run in self.runs if run.scores is not None), ())

    @cached_property
    def metrics(self) -> Sequence[str]:
        """Metrics with at least one value, in the order of `METRICS`."""
        scores = next((run.scores for run in self.runs if run.scores is not None), None)
        if scores is None:
            return ()
        columns = list(scores.metrics)
        return [
            name
            for name in METRICS
            if name in columns and not np.isnan(scores.values[:, columns.index(name)]).all()
        ]

    @cached_property
    def benchmarks(self) -> Sequence[str]:
        """Names, in the order of the tables."""
        return list(dict.fromkeys(benchmark for benchmark, _ in self.images))

    def groups(self) -> list[str]:
        """What means are taken over: `ALL` pictures, and each benchmark where there are several."""
        return [ALL, *self.benchmarks] if len(self.benchmarks) > 1 else [ALL]

    def places(self, group: str) -> NDArray[np.intp]:
        """Where in `images` those of a group are."""
        chosen = [i for i, (benchmark, _) in enumerate(self.images) if group in (ALL, benchmark)]
        return np.asarray(chosen, dtype=np.intp)

    def values(self, model: str, metric: str) -> dict[int | None, NDArray[np.float64]]:
        """Seed -> one value for each of `images`, of the runs that are finished."""
        return {
            run.seed: run.scores.values[:, list(run.scores.metrics).index(metric)]
            for run in self.runs_of(model)
            if run.scores is not None
        }


def _check_equal(first: Run, other: Run) -> None:
    """Two runs must have values of the same metrics on the same pictures."""
    assert first.scores is not None
    assert other.scores is not None
    one, two = first.scores, other.scores
    if list(one.images) != list(two.images):
        for run, missing in (
            (first, [key for key in two.images if key not in set(one.images)]),
            (other, [key for key in one.images if key not in set(two.images)]),
        ):
            if missing:
                shown = ", ".join("/".join(key) for key in missing[:_MAX_SHOWN])
                more = len(missing) - _MAX_SHOWN
                raise _unlike(
                    first, other, f"{run.path} lacks {shown}{f' and {more} more' * (more > 0)}"
                )
        raise _unlike(first, other, "a picture stands in one of them twice, or in another order")
    if list(one.metrics) != list(two.metrics):
        for run, missing in (
            (first, [name for name in two.metrics if name not in one.metrics]),
            (other, [name for name in one.metrics if name not in two.metrics]),
        ):
            if missing:
                raise _unlike(first, other, f"{run.path} lacks the column {missing[0]}")
        raise _unlike(first, other, "their columns stand in another order")
    is_different = np.isnan(one.values) != np.isnan(two.values)
    if is_different.any():
        row, column = (int(i) for i in np.argwhere(is_different)[0])
        run = first if np.isnan(one.values[row, column]) else other
        place = f"{one.metrics[column]} of {'/'.join(one.images[row])}"
        raise _unlike(first, other, f"{run.path} has no value for {place}")


def _unlike(first: Run, other: Run, reason: str) -> UserError:
    return UserError(
        f"the tables of {first.path} and {other.path} do not match: {reason}; evaluate both on the"
        " same pictures with the same metrics."
    )
