"""The report as one of Weights & Biases: its words and tables beside the runs that are there."""

import importlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asrgan.engine.loggers import SAMPLES
from asrgan.errors import UserError
from asrgan.files import write_text
from asrgan.studies.report.curves import Panel, health_panels, validation_columns
from asrgan.studies.report.page_data import HUES, INK
from asrgan.studies.report.report import METHOD, Findings
from asrgan.studies.report.tables import VERDICTS, Table, as_markdown

_GROUP = "Group"  # all runs of a study are in one, so each run set becomes one line with a band
_MAX_TITLE = 128
_WIDTH, _HEIGHT = 24, 8  # of a row of panels


def parse_project(text: str) -> tuple[str, str]:
    """``ENTITY/PROJECT`` in its parts.

    Raises:
        UserError: it is written otherwise, or the package wandb-workspaces is not installed.
    """
    match = re.fullmatch(r"([^/\s]+)/([^/\s]+)", text)
    if match is None:
        raise UserError(f"`wandb` (={text}) must be ENTITY/PROJECT.")
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError(
            "`wandb` needs the package wandb-workspaces; try: pip install 'asrgan[wandb]'."
        )
    return match[1], match[2]


class WandbReport:
    """A report of Weights & Biases, which need not be sent.

    Each variant is a run set, of the runs by which it was trained, in the colour that it has on the
    page.

    Args:
        findings: of the study.
        entity: user or team of W&B.
        project: of W&B.
    """

    def __init__(self, findings: Findings, *, entity: str, project: str) -> None:
        parts: Any = importlib.import_module("wandb_workspaces.reports.v2")
        self._parts = parts
        self._results = results = findings.results
        logged = list(dict.fromkeys(name for run in findings.curves.values() for name in run))
        blocks = [
            parts.CalloutBlock(findings.answer),
            *self._tables(t for t in findings.tables if t.key == VERDICTS),
            *self._section("Learning curves", [self._curve(c) for c in validation_columns(logged)]),
            *self._section("Pictures", [parts.MediaBrowser(media_keys=[SAMPLES], num_columns=1)]),
            *self._section("Health", [self._plot(panel) for panel in health_panels(logged)]),
            *self._tables(t for t in findings.tables if t.key != VERDICTS),
            parts.H2("Method"),
            parts.MarkdownBlock("\n\n".join(part for part in (METHOD, results.protocol) if part)),
        ]
        question = results.question
        title = question if len(question) <= _MAX_TITLE else f"{question[: _MAX_TITLE - 1]}…"
        self._report = parts.Report(
            entity=entity,
            project=project,
            title=title,
            description=f"Study {results.name}",
            blocks=blocks,
            width="fixed",
        )

    def specification(self) -> dict[str, Any]:
        """What W&B would be sent, as plain values."""
        # Its only public way leads over the network.
        view = self._report._to_model()
        return view.model_dump(mode="json", by_alias=True, exclude_none=True)

    def write(self, path: Path) -> None:
        """Writes the specification as JSON."""
        text = json.dumps(self.specification(), indent=2, ensure_ascii=False)
        write_text(path, text + "\n")

    def send(self) -> str | None:
        """Makes the report in W&B.

        Returns:
            Its address; None: there is no key, or ``WANDB_MODE`` says that nothing is to be sent.

        Raises:
            UserError: W&B cannot be reached, or does not take it.
        """
        import wandb

        if os.environ.get("WANDB_MODE", "online") != "online":
            return None
        try:
            has_key = wandb.login(prompt=False)
            return self._report.save().url if has_key else None
        except Exception as error:  # whatever the network and the server come up with
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"W&B did not take the report: {reason}") from error

    def _tables(self, tables: Iterable[Table]) -> Iterator[Any]:
        for table in tables:
            yield self._parts.H2(table.title)
            yield self._parts.MarkdownBlock(f"{table.note}\n\n{as_markdown(table)}")

    def _section(self, title: str, panels: Sequence[Any]) -> list[Any]:
        """A heading and panels, of all runs there are; nothing where there are none."""
        run_sets = self._run_sets()
        if not panels or not run_sets:
            return []
        across = min(3, len(panels))
        for number, panel in enumerate(panels):
            panel.layout = self._parts.Layout(
                x=number % across * (_WIDTH // across),
                y=number // across * _HEIGHT,
                w=_WIDTH // across,
                h=_HEIGHT,
            )
        grid = self._parts.PanelGrid(
            runsets=run_sets, panels=list(panels), custom_run_colors=self._colors(run_sets)
        )
        return [self._parts.H2(title), grid]

    def _run_sets(self) -> list[Any]:
        expr: Any = importlib.import_module("wandb_workspaces.expr")
        return [
            self._parts.Runset(
                name=name, filters=expr.And(expr.Metric("ID").isin(ids)), groupby=[_GROUP]
            )
            for name, ids in self._runs().items()
        ]

    def _runs(self) -> Mapping[str, list[str]]:
        """Variant -> its runs, only where there are some."""
        variants = self._results.models("variant")
        runs = {v: [r.run_id for r in self._results.runs_of(v) if r.run_id] for v in variants}
        return {variant: ids for variant, ids in runs.items() if ids}

    def _colors(self, run_sets: Sequence[Any]) -> dict[Any, str]:
        others = [v for v in self._results.models("variant") if v != self._results.baseline]
        hues = {v: HUES[number % len(HUES)][0] for number, v in enumerate(others)}
        hues[self._results.baseline] = INK[0]
        key = self._parts.RunsetGroupKey(key=self._parts.Metric(_GROUP), value=self._results.name)
        groups = {
            self._parts.RunsetGroup(runset_name=run_set.name, keys=(key,)): hues[run_set.name]
            for run_set in run_sets
        }
        alone = {run_id: hues[name] for name, ids in self._runs().items() for run_id in ids}
        return {**groups, **alone}

    def _curve(self, column: str) -> Any:
        _, benchmark, metric = column.split("/", maxsplit=2)
        return self._plot(Panel(title=f"{metric} on {benchmark}", columns=[column]))

    def _plot(self, panel: Panel) -> Any:
        return self._parts.LinePlot(
            title=panel.title,
            x="iteration",
            y=list(panel.columns),
            log_y=panel.is_log,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
        )
