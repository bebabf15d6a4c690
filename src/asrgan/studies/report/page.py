"""The report as one HTML file that needs nothing else, see ``page/``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from asrgan.metrics import METRICS
from asrgan.studies.report.costs import RESULT_PX, Cost
from asrgan.studies.report.curves import Band
from asrgan.studies.report.examples import CropExample, shown_runs
from asrgan.studies.report.page_data import HUES, INK, example_data, page_data, styles
from asrgan.studies.report.results import ALL, StudyResults
from asrgan.studies.report.summary import SummaryLine, heading, label, name_of
from asrgan.studies.report.tables import cost_cells, p_value_text
from asrgan.studies.report.verdicts import MINUS, Comparison, effect_word

_FOLDER = Path(__file__).with_name("page")


def render_page(
    results: StudyResults,
    *,
    answer: str,
    summary: Sequence[SummaryLine],
    comparisons: Sequence[Comparison],
    costs: Mapping[str, Cost],
    curves: Mapping[str, Mapping[str, Band]],
    examples: Sequence[CropExample],
) -> str:
    """The whole page.

    Args:
        results: of the study.
        answer: to its question, one sentence.
        summary: its means.
        comparisons: of its variants.
        costs: of its recipes.
        curves: quantity -> recipe -> band.
        examples: pictures.
    """
    own = [c for c in comparisons if (c.benchmark, c.metric) == (ALL, results.metric)]
    axis = _half_axis(own, smallest=results.difference)
    statuses = [run.status for run in results.runs]
    grouped: dict[str, list[SummaryLine]] = {}
    for line in summary:
        grouped.setdefault(line.benchmark, []).append(line)
    return render(
        "study.html.jinja",
        results=results,
        metric=METRICS[results.metric],
        metrics=[METRICS[name] for name in results.metrics],
        answer=answer,
        own=own,
        forests={c.variant: _forest(c, axis) for c in own},
        ticks=_ticks(axis),
        matters=50 * results.difference / axis,
        styles=styles(results),
        summary=grouped,
        found={(c.benchmark, c.variant, c.metric): effect_word(c) for c in comparisons},
        costs={model: cost_cells(cost) for model, cost in costs.items()},
        result_px=RESULT_PX,
        counts={status: statuses.count(status) for status in dict.fromkeys(statuses)},
        seeds=list(
            dict.fromkeys(r.seed for r in shown_runs(results).values() if r.seed is not None)
        ),
        examples=[example_data(example, results) for example in examples],
        data=page_data(results, summary=summary, curves=curves, examples=examples),
    )


def render(template: str, **values: object) -> str:
    """A page as text, with all that it needs.

    Args:
        template: in ``page/``.
        values: that it shows; ``data`` is what its scripts get.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # by default it would sort the recipes
    environment.filters |= {
        "heading": heading,
        "label": label,
        "name_of": name_of,
        "p_value": p_value_text,
    }
    assets = {path.name: path.read_text(encoding="utf-8") for path in _FOLDER.glob("**/*.*")}
    return environment.get_template(template).render(ink=INK, hues=HUES, assets=assets, **values)


@dataclass(frozen=True, kw_only=True)
class Forest:
    """An interval on an axis from 0 to 100 percent, for one line of the table of verdicts.

    Attributes:
        low: lower end.
        high: upper end.
        mean: the estimate.
        is_cut_low: whether the interval goes on to the left of the axis.
        is_cut_high: the same to the right.
    """

    low: float
    high: float
    mean: float
    is_cut_low: bool
    is_cut_high: bool


def _half_axis(comparisons: Sequence[Comparison], *, smallest: float) -> float:
    """Half the length of the axis of verdicts; all effects are on it, the widest intervals cut."""
    effects = [c.effect for c in comparisons if c.effect is not None]
    ends = [
        max(abs(effect.low), abs(effect.high))
        for effect in effects
        if effect.low is not None and effect.high is not None
    ]
    largest = max((abs(effect.mean) for effect in effects), default=0.0)
    usual = float(np.median(ends)) if ends else 0.0
    return 1.1 * max(largest, 1.5 * smallest, usual) or 1.0


def _forest(comparison: Comparison, half_axis: float) -> Forest | None:
    effect = comparison.effect
    if effect is None:
        return None

    def place(value: float) -> float:
        return 50 + 50 * min(1.0, max(-1.0, value / half_axis))

    low = effect.mean if effect.low is None else effect.low
    high = effect.mean if effect.high is None else effect.high
    return Forest(
        low=place(low),
        high=place(high),
        mean=place(effect.mean),
        is_cut_low=low < -half_axis,
        is_cut_high=high > half_axis,
    )


def _ticks(half_axis: float) -> list[tuple[float, str]]:
    """Places in percent and labels: 0, and a round number on each side."""
    power = 10.0 ** math.floor(math.log10(half_axis))
    steps = [factor * power for factor in (0.1, 0.2, 0.5, 1, 2, 5)]
    step = max(step for step in steps if step <= 0.85 * half_axis)
    texts = {-step: f"{MINUS}{step:g}", 0.0: "0", step: f"+{step:g}"}
    return [(50 + 50 * value / half_axis, text) for value, text in texts.items()]
