"""What a study says about each variant, in numbers and in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from asrgan.metrics import METRICS, Metric
from asrgan.studies.report.effects import Array, Effect, holm, paired_effects
from asrgan.studies.report.results import ALL, StudyResults

CONFIDENCE = 0.95

Finding = Literal["better", "worse", "equal", "unclear", "too few runs", "no runs"]
_MAX_TOLD = 3  # variants in the one sentence
MINUS = "−"
_FEW_SEEDS = 3  # fewer leave an interval that hardly anything could leave


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant against the baseline, by one metric on one benchmark.

    Attributes:
        variant: its name.
        benchmark: its name, or `ALL`.
        metric: key of `METRICS`.
        effect: variant less baseline; None: no run of both with one seed is finished.
        adjusted_p: of the effect, for all variants of this benchmark and metric together.
        finding: what follows.
        text: the same in words.
    """

    variant: str
    benchmark: str
    metric: str
    effect: Effect | None
    adjusted_p: float | None
    finding: Finding
    text: str

    @property
    def is_shown(self) -> bool:
        """Whether there is a difference beyond doubt, be it too small to matter."""
        return self.adjusted_p is not None and self.adjusted_p < 1 - CONFIDENCE


def compare(results: StudyResults, *, seed: int) -> list[Comparison]:
    """Compares each variant with the baseline, by each metric, on all pictures and each benchmark.

    Runs are paired by seed: they saw the same crops and, where the study has a first stage, started
    from the same weights. Pictures are paired always. All pictures count the same, whatever their
    benchmark. p-values are adjusted for the variants of one benchmark and metric (`holm`); the one
    comparison that a study is made for is that of its own metric on `ALL`.

    Args:
        results: of the study.
        seed: of the draws.

    Returns:
        By benchmark (`ALL` first), metric and variant; only the study's metric has a smallest
        difference that matters.
    """
    others = [name for name in results.models("variant") if name != results.baseline]
    comparisons: list[Comparison] = []
    for benchmark in results.groups():
        places = results.places(benchmark)
        columns = [(metric, variant) for metric in results.metrics for variant in others]
        differences = [_differences(results, v, metric=m, places=places) for m, v in columns]
        effects = dict(zip(columns, _effects(differences, seed=seed), strict=True))
        for metric in results.metrics:
            tested = [v for v in others if (e := effects[metric, v]) and e.p_value is not None]
            p_values = [p for v in tested if (e := effects[metric, v]) and (p := e.p_value)]
            adjusted = dict(zip(tested, holm(p_values), strict=True))
            for variant in others:
                finding, text = judge(
                    effects[metric, variant],
                    adjusted.get(variant),
                    metric=METRICS[metric],
                    smallest=results.difference if metric == results.metric else 0.0,
                    num_compared=len(tested),
                )
                comparisons.append(
                    Comparison(
                        variant=variant,
                        benchmark=benchmark,
                        metric=metric,
                        effect=effects[metric, variant],
                        adjusted_p=adjusted.get(variant),
                        finding=finding,
                        text=text,
                    )
                )
    return comparisons


def _differences(
    results: StudyResults, variant: str, *, metric: str, places: np.ndarray
) -> Array | None:
    """(seeds, pictures) of the runs of both with one seed; pictures with a finite value in all."""
    ours, theirs = (results.values(model, metric) for model in (variant, results.baseline))
    pairs = [(ours[seed][places], theirs[seed][places]) for seed in ours if seed in theirs]
    if not pairs:
        return None
    # A picture that both reproduce exactly has an infinite PSNR twice, and no difference.
    values = np.stack(
        [np.subtract(one, two, out=np.zeros_like(one), where=one != two) for one, two in pairs]
    )
    values = values[:, np.isfinite(values).all(axis=0)]
    return values if values.size else None


def _effects(differences: Sequence[Array | None], *, seed: int) -> list[Effect | None]:
    """The effect of each; those of equally many pictures share their draws."""
    effects: list[Effect | None] = [None] * len(differences)
    groups: dict[int, list[int]] = {}
    for index, values in enumerate(differences):
        if values is not None:
            groups.setdefault(values.shape[1], []).append(index)
    for indices in groups.values():
        chosen = [values for i in indices if (values := differences[i]) is not None]
        found = paired_effects(chosen, confidence=CONFIDENCE, seed=seed)
        for index, effect in zip(indices, found, strict=True):
            effects[index] = effect
    return effects


def judge(
    effect: Effect | None,
    adjusted_p: float | None,
    *,
    metric: Metric,
    smallest: float,
    num_compared: int,
) -> tuple[Finding, str]:
    """A verdict, as a word and as a clause with its numbers.

    A variant is better or worse where the adjusted p-value shows a difference and it is at least
    ``smallest``; equal where the whole interval is smaller than that. A difference that is shown
    but may be too small to matter is told as what it is. Where two seeds show nothing, they are
    too few; one picture always is.

    Args:
        effect: variant less baseline; None: no runs to compare.
        adjusted_p: of the effect; None: one seed, or one picture.
        metric: of the effect.
        smallest: difference that matters, in the metric's unit; 0: any.
        num_compared: how many variants the p-value is adjusted for.
    """
    if effect is None:
        return "no runs", "no finished runs to compare"
    change = signed(effect.mean, metric)
    if effect.low is None or effect.high is None or adjusted_p is None:
        sample = "seed" if effect.num_seeds < 2 else "picture"
        return "too few runs", f"too few {sample}s to tell ({change}, one {sample})"
    change += f" {interval(effect.low, effect.high, metric)}"
    is_small = max(abs(effect.low), abs(effect.high)) < smallest
    limit = number(smallest, metric)
    if adjusted_p < 1 - CONFIDENCE:  # then the interval holds no 0
        finding = "better" if (effect.mean > 0) == metric.is_higher_better else "worse"
        low, high = sorted((abs(effect.low), abs(effect.high)))
        told = f"{finding} by {number(abs(effect.mean), metric)} {interval(low, high, metric)}"
        if abs(effect.mean) >= smallest:
            return finding, told
        if is_small:
            return "equal", f"{told}, less than the {limit} that matters"
        return "unclear", f"{told}, perhaps less than the {limit} that matters"
    if is_small:
        return "equal", f"no difference that matters ({change}, within ±{limit})"
    if effect.num_seeds < _FEW_SEEDS:
        return "too few runs", f"too few seeds to tell ({change}, {effect.num_seeds} seeds)"
    among = f" among {num_compared} variants" if effect.low * effect.high > 0 else ""
    return "unclear", f"no difference shown{among} ({change})"


def effect_word(comparison: Comparison) -> Literal["better", "worse"] | None:
    """To which side a difference is shown, however small; None: it is not."""
    if not comparison.is_shown or comparison.effect is None:
        return None
    is_higher = comparison.effect.mean > 0
    return "better" if is_higher == METRICS[comparison.metric].is_higher_better else "worse"


def bare_number(value: float, metric: Metric) -> str:
    """A value with the metric's digits: ``0.21``."""
    return f"{value:z.{metric.digits}f}".replace("-", MINUS)


def number(value: float, metric: Metric) -> str:
    """The same with its unit: ``0.21 dB``."""
    return f"{bare_number(value, metric)}{' dB' if is_in_db(metric) else ''}"


def signed(value: float, metric: Metric) -> str:
    """The same of a difference: ``+0.21 dB``."""
    text = number(value, metric)
    return text if text.startswith(MINUS) else f"+{text}"


def interval(low: float, high: float, metric: Metric) -> str:
    """``[0.15, 0.27]``."""
    return f"[{bare_number(low, metric)}, {bare_number(high, metric)}]"


def is_in_db(metric: Metric) -> bool:
    """Whether the metric's unit is the decibel; others have none."""
    return metric.name.endswith("_db")


def headline(comparisons: Sequence[Comparison], results: StudyResults) -> str:
    """The answer in one sentence, from the study's own metric on all pictures."""
    own = [c for c in comparisons if (c.benchmark, c.metric) == (ALL, results.metric)]
    if not own or all(c.finding == "no runs" for c in own):
        return "No two runs can be compared yet."
    if len(own) <= _MAX_TOLD:
        clauses = [
            f"{c.variant} is {c.text}" if c.is_shown else f"for {c.variant}, {c.text}" for c in own
        ]
        return f"Compared with {results.baseline}, {'; '.join(clauses)}."
    texts = {
        "better": "better",
        "worse": "worse",
        "shown": "with a difference that may be too small to matter",
        "equal": "without a difference that matters",
        "unclear": "without a difference shown",
        "too few runs": "with too few seeds or pictures to tell",
        "no runs": "without finished runs",
    }
    found = ["shown" if c.finding == "unclear" and c.is_shown else c.finding for c in own]
    told = ", ".join(f"{found.count(key)} {text}" for key, text in texts.items() if key in found)
    return f"Of {len(own)} variants compared with {results.baseline}, {told}."
