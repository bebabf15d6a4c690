"""What the scripts of the page draw, as plain values for JSON."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from asrgan.metrics import METRICS, Metric
from asrgan.studies.report.curves import Band, health_panels, validation_columns
from asrgan.studies.report.effects import SeedMean
from asrgan.studies.report.examples import AttentionLayer, CropExample, shown_runs
from asrgan.studies.report.results import StudyResults
from asrgan.studies.report.summary import SummaryLine, label
from asrgan.studies.report.verdicts import is_in_db

INK = ("#1a1c20", "#eceded")
"""Of the baseline, on light and on dark ground."""
HUES = (
    ("#2566c8", "#7aabff"),
    ("#c4561c", "#ff9f68"),
    ("#1f8560", "#58cb9f"),
    ("#9a3fae", "#d992ea"),
    ("#bb3150", "#ff88a2"),
    ("#6f6f10", "#cbc653"),
    ("#127f93", "#52cbde"),
    ("#81502f", "#cf9f7c"),
    ("#544dc4", "#a9a4ff"),
    ("#94700f", "#e6be61"),
)
"""Of the other variants, in their order."""
_DASHES = ("", "7 4", "2 3", "9 3 2 3")  # for each round of hues
_OVERVIEW_QUALITY = 82  # of WebP; the crops are stored without loss


def page_data(
    results: StudyResults,
    *,
    summary: Sequence[SummaryLine],
    curves: Mapping[str, Mapping[str, Band]],
    examples: Sequence[CropExample],
) -> dict[str, Any]:
    """Everything but the crops."""
    validation, health = validation_columns(curves), health_panels(curves)
    drawn = [*validation, *(column for panel in health for column in panel.columns)]
    variants = results.models("variant")
    means: dict[str, dict[str, Any]] = {}
    for line in summary:
        of_line = {metric: _mean(mean) for metric, mean in line.means.items()}
        means.setdefault(line.benchmark, {})[line.model] = of_line
    return {
        "baseline": results.baseline,
        "metric": results.metric,
        "metrics": {name: metric_data(metric) for name, metric in METRICS.items()},
        "styles": styles(results),
        "curves": {
            column: {m: _band(curves[column][m]) for m in variants if m in curves[column]}
            for column in drawn
        },
        "validation": validation,
        "health": [{"title": p.title, "log": p.is_log, "columns": p.columns} for p in health],
        "means": means,
        "versions": _names(examples, results),
        "examples": [_facts(example, results) for example in examples],
    }


def metric_data(metric: Metric) -> dict[str, Any]:
    """What the scripts know of a metric."""
    return {
        "label": label(metric),
        "unit": "dB" if is_in_db(metric) else "",
        "digits": metric.digits,
        "higher": metric.is_higher_better,
    }


def example_data(example: CropExample, results: StudyResults) -> dict[str, Any]:
    """The crops of one example, and its attention maps."""
    return {
        "versions": [
            {"name": name, "kind": kind, "source": _webp(crop)}
            for name, kind, crop in _versions(example, results)
        ],
        "attention": [
            {"model": model, **_attention(layer)}
            for model, layers in example.attention.items()
            for layer in layers
        ],
    }


def styles(results: StudyResults) -> dict[str, dict[str, str]]:
    """Recipe -> how it is drawn: the baseline in ink, other variants in hues, the rest in grey."""
    found: dict[str, dict[str, str]] = {}
    kinds = {run.model: run.kind for run in results.runs}
    others = [name for name in results.models("variant") if name != results.baseline]
    for model, kind in kinds.items():
        if model == results.baseline:
            color, dash = "var(--ink)", ""
        elif kind == "variant":
            place, hue = divmod(others.index(model), len(HUES))
            color, dash = f"var(--hue-{hue})", _DASHES[place % len(_DASHES)]
        else:
            color, dash = "var(--muted)", "1 3"
        found[model] = {"kind": kind, "color": color, "dash": dash}
    return found


def _mean(mean: SeedMean) -> list[float | None]:
    """The mean, and the ends of its interval where there is one."""
    ends = [] if mean.low is None or mean.high is None else [mean.low, mean.high]
    return rounded([mean.mean, *ends])


def _band(band: Band) -> list[list[float | None]]:
    return [rounded(part) for part in (band.iterations, band.mean, band.low, band.high)]


def _names(examples: Sequence[CropExample], results: StudyResults) -> list[dict[str, str]]:
    """Everything of which some example has a crop."""
    found = {(name, kind): None for e in examples for name, kind, _ in _versions(e, results)}
    return [{"name": name, "kind": kind} for name, kind in found]


def _versions(
    example: CropExample, results: StudyResults
) -> list[tuple[str, str, NDArray[np.uint8]]]:
    """Name, kind and crop of all that is shown; a variant may be called HR, too."""
    kinds: dict[str, str] = {run.model: run.kind for run in results.runs}
    versions = [("LR", "input", example.lr_crop)]
    versions += [(name, kinds.get(name, "reference"), c) for name, c in example.crops.items()]
    if example.hr_crop is not None:
        versions.append(("HR", "truth", example.hr_crop))
    return versions


def _facts(example: CropExample, results: StudyResults) -> dict[str, Any]:
    """An example without its crops."""
    place = list(results.images).index(example.image)
    scores = {
        model: float(run.scores.values[place, list(run.scores.metrics).index(results.metric)])
        for model, run in shown_runs(results).items()
        if run.scores is not None
    }
    return {
        "benchmark": example.image[0],
        "image": example.image[1],
        "size": example.size_px,
        "place": example.place,
        "change": _round(example.change),
        "overview": _webp(example.overview, quality=_OVERVIEW_QUALITY),
        "crop_scores": {
            model: {name: _round(value) for name, value in values.items()}
            for model, values in example.crop_scores.items()
        },
        "scores": {model: _round(value) for model, value in scores.items()},
        "attends": bool(example.attention),
    }


def _attention(layer: AttentionLayer) -> dict[str, Any]:
    """A layer's maps as one grey picture, a tile for each point."""
    down, across, height, width = layer.maps.shape
    mosaic = layer.maps.transpose(0, 2, 1, 3).reshape(down * height, across * width)
    return {
        "place": layer.place,
        "gamma": _round(layer.gamma),
        "share": _round(layer.share),
        "grid": [down, across],
        "keys": [height, width],
        "maps": _webp(mosaic),
        "breadth": [round(value, 3) for value in layer.breadth.ravel().tolist()],
    }


def _webp(picture: NDArray[np.uint8], *, quality: int | None = None) -> str:
    """A picture as an address that holds it; without a quality, without any loss."""
    # A quarter of the default effort: 4 ms instead of 14 for a crop that is 2% larger.
    options = {"quality": quality} if quality else {"lossless": True, "method": 2, "quality": 25}
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", **options)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def rounded(values: Iterable[float]) -> list[float | None]:
    """Five digits of each; null where one is no number."""
    return [_round(value) for value in values]


def _round(value: float) -> float | None:
    """Five digits: more cannot be seen. JSON knows no other numbers than finite ones."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
