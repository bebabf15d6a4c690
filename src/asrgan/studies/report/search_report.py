"""The report of a search: the best trials, what matters, and what became of each trial."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asrgan.files import write_text
from asrgan.metrics import METRICS, Metric
from asrgan.searches import Search, Trial
from asrgan.studies.report.page import render
from asrgan.studies.report.page_data import metric_data, rounded
from asrgan.studies.report.summary import heading, label
from asrgan.studies.report.tables import Table, as_markdown
from asrgan.studies.report.verdicts import bare_number, number

_CONTENT_LOSS = Metric(
    "content_loss",
    "the generator's losses without the adversarial one, weighted and added",
    is_higher_better=False,
    needs_hr=True,
    digits=4,
)
_MAX_TOLD = 3  # trials in the one sentence
METHOD = """\
Scores are those of the last validation, means over its benchmarks. A pruned trial was worse than
others at the validation where it ended, and has no score of its own. The best of many trials is the
luckiest, too: expect less of it on other pictures and with other seeds. Train it with several seeds
before it is compared with anything, as a variant of a study.
"""
IMPORTANCE = """\
the share of each key in what sets the best tenth of the trials apart from all of them (PED-ANOVA,
Watanabe, Bansal and Hutter 2023).
"""


def write_search_report(search: Search, folder: Path, *, name: str) -> str:
    """Writes ``report.html``, a page like that of a study, and ``report.md``.

    Args:
        search: ended or not.
        folder: receives the files; what was there under their names is replaced.
        name: what the search is called.

    Returns:
        What was found, in one sentence.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    answer = headline(search)
    tables = [table for table in _tables(search) if table.lines]
    page = render(
        "search.html.jinja",
        search=search,
        name=name,
        title=_title(search),
        answer=answer,
        metrics=_metrics(search),
        tables={table.key: table for table in tables},
        method=METHOD,
        importance=IMPORTANCE,
        num_open=sum(trial.state in ("running", "waiting") for trial in search.trials),
        has_curves=any(trial.reports for trial in search.trials),
        data=_page_data(search),
    )
    parts = [f"# {_title(search)}", answer, f"{len(search.trials)} trials: {search.count()}."]
    for table in tables:
        parts += [f"## {table.title}", table.note, as_markdown(table).rstrip()]
    parts += ["## Method", METHOD.rstrip()]
    text = "\n\n".join(part for part in parts if part) + "\n"
    write_text(folder / "report.html", page)
    write_text(folder / "report.md", text)
    return answer


def headline(search: Search) -> str:
    """What was found, in one sentence."""
    best = [str(trial.number) for trial in search.best]
    if not best:
        return "No trial has come to its end yet."
    if len(search.objectives) == 1:
        (metric,), (value,) = _metrics(search), search.best[0].values
        return f"Trial {best[0]} is the best, with {label(metric)} {number(value, metric)}."
    complete = sum(trial.state == "complete" for trial in search.trials)
    more = f" and {len(best) - _MAX_TOLD} more" if len(best) > _MAX_TOLD else ""
    front = "one is" if len(best) == 1 else f"{len(best)} are"
    told = ", ".join(best[:_MAX_TOLD])
    return f"Of {complete} complete trials, {front} on the Pareto front: {told}{more}."


def _title(search: Search) -> str:
    """``Search for higher PSNR-Y and lower Ringing``."""
    metrics = _metrics(search)
    wishes = [f"{'higher' if m.is_higher_better else 'lower'} {_in_text(m)}" for m in metrics]
    return f"Search for {' and '.join(wishes)}"


def _in_text(metric: Metric) -> str:
    """``PSNR-Y``, ``colour shift``."""
    text = label(metric)
    return text if text[:2].isupper() else f"{text[0].lower()}{text[1:]}"


def _metrics(search: Search) -> list[Metric]:
    own = {**METRICS, _CONTENT_LOSS.name: _CONTENT_LOSS}
    return [own[name] for name in search.objectives]


def _tables(search: Search) -> list[Table]:
    metrics = _metrics(search)
    scores, keys = [heading(metric) for metric in metrics], list(search.axes)
    right = "r" * len(metrics)
    sides = ["l" if axis == "words" else "r" for axis in search.axes.values()]
    is_front = len(metrics) > 1
    return [
        Table(
            key="best",
            title="Pareto front" if is_front else "Best trial",
            note="No other trial is as good by all scores and better by one." if is_front else "",
            headings=["trial", *scores, "overrides"],
            lines=[
                [str(t.number), *_scores(t, metrics), shlex.join(t.overrides)] for t in search.best
            ],
            alignment=f"l{right}l",
        ),
        Table(
            key="importance",
            title="What matters",
            note=f"Importance is {IMPORTANCE.rstrip()}",
            headings=["key", *(label(metric) for metric in metrics)],
            lines=[
                [key, *(f"{search.importances[name][key]:.0%}" for name in search.objectives)]
                for key in (keys if search.importances else ())
            ],
            alignment=f"l{right}",
        ),
        Table(
            key="trials",
            title="Trials",
            note="",
            headings=["trial", "state", *scores, *keys, "note"],
            lines=[
                [
                    str(trial.number),
                    trial.state,
                    *_scores(trial, metrics),
                    *(_param(trial.params.get(key)) for key in keys),
                    _note(trial, metrics[0]),
                ]
                for trial in search.trials
            ],
            alignment=f"ll{right}{''.join(sides)}l",
        ),
    ]


def _scores(trial: Trial, metrics: Sequence[Metric]) -> list[str]:
    if not trial.values:
        return [""] * len(metrics)
    return [bare_number(v, metric) for v, metric in zip(trial.values, metrics, strict=True)]


def _param(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _note(trial: Trial, metric: Metric) -> str:
    if trial.state == "pruned" and trial.reports:
        iteration, score = list(trial.reports.items())[-1]
        return f"at iteration {iteration}, with {label(metric)} {number(score, metric)}"
    return trial.failure or ""


def _page_data(search: Search) -> dict[str, Any]:
    """What the scripts of the page get."""
    return {
        "styles": {},
        "metrics": {metric.name: metric_data(metric) for metric in _metrics(search)},
        "objectives": search.objectives,
        "axes": search.axes,
        "importances": search.importances,
        "trials": [
            {
                "number": trial.number,
                "state": trial.state,
                "best": trial.is_best,
                "values": trial.values,
                "params": trial.params,
                "reports": [list(trial.reports), rounded(trial.reports.values())],
            }
            for trial in search.trials
        ],
    }
