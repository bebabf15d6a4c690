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
        UserError: an unknown metric, a baseline without runs, tables of different pictures, or gaps
            in the study's own metric.
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
        scored = list(self._scored.items())
        for other in scored[1:]:
            _check_equal(scored[0], other)
        if self.metric in self.gaps:
            raise UserError(f"`metric` (={self.metric}) is incomplete: {self.gaps[self.metric]}.")
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
        return next((scores.images for scores in self._scored.values()), ())

    @cached_property
    def metrics(self) -> Sequence[str]:
        """Metrics with values of the same pictures in all runs, in the order of `METRICS`."""
        if not self._scored:
            return ()
        scores = next(iter(self._scored.values()))
        complete = [name for name in METRICS if name not in self.gaps]
        return [name for name in complete if not np.isnan(_column(scores, name)).all()]

    @cached_property
    def gaps(self) -> Mapping[str, str]:
        """Metric -> where a run lacks a value that others have, for those that are left out."""
        found: dict[str, str] = {}
        for name in METRICS if self._scored else ():
            columns = [_column(scores, name) for scores in self._scored.values()]
            is_missing = np.isnan(np.stack(columns))
            is_gap = is_missing.any(axis=0) & ~is_missing.all(axis=0)
            if is_gap.any():
                place = int(is_gap.argmax())
                path = list(self._scored)[int(is_missing[:, place].argmax())]
                found[name] = (
                    f"{path} has no value for {'/'.join(self.images[place])}; remove"
                    f" {path}/evaluation to score it again"
                )
        return found

    @cached_property
    def _scored(self) -> Mapping[str, ImageScores]:
        """Path -> scores, of those runs that have some."""
        return {run.path: run.scores for run in self.runs if run.scores is not None}

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
            run.seed: _column(run.scores, metric)
            for run in self.runs_of(model)
            if run.scores is not None
        }


def _check_equal(first: tuple[str, ImageScores], other: tuple[str, ImageScores]) -> None:
    """Two runs, path and scores, must have values of the same pictures."""
    one, two = first[1].images, other[1].images
    if list(one) == list(two):
        return
    reason = "a picture stands in one of them twice, or in another order"
    for path, missing in (
        (first[0], [key for key in two if key not in set(one)]),
        (other[0], [key for key in one if key not in set(two)]),
    ):
        if missing:
            shown = ", ".join("/".join(key) for key in missing[:_MAX_SHOWN])
            more = len(missing) - _MAX_SHOWN
            reason = f"{path} lacks {shown}{f' and {more} more' * (more > 0)}"
            break
    raise UserError(
        f"the tables of {first[0]} and {other[0]} do not match: {reason}; evaluate both on the same"
        " pictures."
    )


def _column(scores: ImageScores, metric: str) -> NDArray[np.float64]:
    if metric not in scores.metrics:
        return np.full(len(scores.images), np.nan)
    return scores.values[:, list(scores.metrics).index(metric)]
