"""Means of each recipe on each benchmark, and what their columns are called."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from asrgan.metrics import Metric
from asrgan.studies.report.effects import SeedMean, mean_over_seeds
from asrgan.studies.report.results import ALL, Kind, StudyResults
from asrgan.studies.report.verdicts import CONFIDENCE, is_in_db

_ACRONYMS = {"psnr", "ssim", "ms", "lpips", "dists", "niqe", "rgb", "y", "vgg"}


@dataclass(frozen=True, kw_only=True)
class SummaryLine:
    """Means of one recipe on one benchmark.

    Attributes:
        benchmark: its name, or `ALL`.
        kind: of the recipe.
        model: its name.
        num_images: pictures of the benchmark.
        means: metric -> mean over seeds of the mean over pictures; only metrics with values.
    """

    benchmark: str
    kind: Kind
    model: str
    num_images: int
    means: Mapping[str, SeedMean]


def summarize_study(results: StudyResults) -> list[SummaryLine]:
    """Means of each recipe with finished runs: on all pictures, and on each benchmark.

    A picture without a value, or with an infinite one, is not in the mean.
    """
    kinds: dict[str, Kind] = {run.model: run.kind for run in results.runs}
    lines: list[SummaryLine] = []
    for benchmark in results.groups():
        places = results.places(benchmark)
        for model in results.models():
            means: dict[str, SeedMean] = {}
            for metric in results.metrics:
                runs = [values[places] for values in results.values(model, metric).values()]
                seeds = [
                    float(run[np.isfinite(run)].mean()) for run in runs if np.isfinite(run).any()
                ]
                if seeds:
                    means[metric] = mean_over_seeds(seeds, confidence=CONFIDENCE)
            if means:
                lines.append(
                    SummaryLine(
                        benchmark=benchmark,
                        kind=kinds[model],
                        model=model,
                        num_images=len(places),
                        means=means,
                    )
                )
    return lines


def name_of(benchmark: str) -> str:
    """A benchmark as a reader knows it."""
    return "All pictures" if benchmark == ALL else benchmark


def label(metric: Metric) -> str:
    """A metric as papers call it: ``PSNR-Y``, ``Colour shift``."""
    words = metric.name.removesuffix("_db").split("_")
    if words[0] in _ACRONYMS:
        return "-".join(w.upper() if w in _ACRONYMS else w.capitalize() for w in words)
    return " ".join(words).capitalize()


def heading(metric: Metric) -> str:
    """A metric at the head of a column: ``PSNR-Y, dB ↑``."""
    unit = ", dB" if is_in_db(metric) else ""
    return f"{label(metric)}{unit} {'↑' if metric.is_higher_better else '↓'}"
