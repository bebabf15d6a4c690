"""Sign-off: what the means of a model must reach."""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from asrgan.errors import UserError
from asrgan.metrics import METRICS
from asrgan.studies.tables import Row

_COMPARISONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class Requirement:
    """A bound on the mean of a metric, for each model and benchmark.

    Attributes:
        metric: key of `METRICS`.
        comparison: ``>=``, ``<=``, ``>`` or ``<``.
        limit: what the mean is compared with.
    """

    metric: str
    comparison: str
    limit: float

    def __str__(self) -> str:
        return f"{self.comparison}{self.limit:g}"

    @classmethod
    def parse(cls, metric: str, bound: object) -> Self:
        """A requirement as it is written: ``ssim_y`` and ``>=0.75``.

        Raises:
            UserError: an unknown metric, or anything but a comparison and a number.
        """
        if metric not in METRICS:
            raise UserError(f"`require.{metric}` is no metric; known are {', '.join(METRICS)}.")
        match = re.fullmatch(rf"\s*(>=|<=|>|<)\s*({_NUMBER})\s*", str(bound))
        if match is None:
            sign = ">=" if METRICS[metric].is_higher_better else "<="
            number = re.search(_NUMBER, str(bound))
            raise UserError(
                f"`require.{metric}` (={bound}) must be a comparison and a number; try"
                f" require={{{metric}: '{sign}{number[0] if number else 1}'}}."
            )
        return cls(metric, match[1], float(match[2]))

    def is_met(self, value: float | None) -> bool:
        """Whether a mean is good enough; one that is missing or not a number never is."""
        return value is not None and _COMPARISONS[self.comparison](value, self.limit)


def find_misses(
    summary: Sequence[Row],
    requirements: Sequence[Requirement],
    *,
    has_ground_truth: Mapping[str, bool],
) -> list[str]:
    """What misses which requirement, a clause for each.

    A metric that needs ground truth is required of the benchmarks that have it.

    Args:
        summary: rows of `summarize`.
        requirements: of the means.
        has_ground_truth: of each benchmark.
    """
    misses: list[str] = []
    for row in summary:
        for requirement in requirements:
            metric = METRICS[requirement.metric]
            value = row[metric.name]
            assert not isinstance(value, str)
            if metric.needs_hr and not has_ground_truth[str(row["benchmark"])]:
                continue
            if not requirement.is_met(value):
                told = "has no value" if value is None else f"{value:.7g}"
                misses.append(
                    f"{row['model']} on {row['benchmark']}: {metric.name} {told}, not {requirement}"
                )
    return misses
