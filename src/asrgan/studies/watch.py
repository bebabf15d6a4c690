"""Where the cells of a study stand, for someone who watches."""

import csv
import logging
import signal
import threading
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from asrgan.metrics import METRICS, finite_mean
from asrgan.studies.folder import CellFolder, CellState, Status, Step, StudyFolder
from asrgan.studies.results import hours, read_rows

log = logging.getLogger(__name__)

_LOOK_S = 2.0
_WIDTH_OF_A_FILE = 160
_LINES_BESIDE = 6  # of a table: its head and what stands below it
_TAIL_BYTES = 1 << 16  # the last rows of metrics.csv
_ORDER: tuple[Status, ...] = ("finished", "running", "failed", "interrupted", "waiting")
_STYLES = {"finished": "green", "running": "bold", "failed": "red", "interrupted": "yellow"}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a cell stands.

    Attributes:
        path: the cell's.
        status: of the cell.
        step: what is done, or was done last; None: nothing yet.
        iteration: of the last row that was written.
        max_iterations: the end; 0: nothing is trained.
        iterations_per_s: of the last rows; None: not known yet.
        score: the study's metric: over all pictures once finished, in validation before.
        hours: of all attempts.
        reason: why it failed or was interrupted; or None.
    """

    path: str
    status: Status
    step: Step | None
    iteration: int
    max_iterations: int
    iterations_per_s: float | None
    score: float | None
    hours: float
    reason: str | None

    @property
    def description(self) -> str:
        """The status, with the step or the reason."""
        if self.status == "running" and self.step is not None:
            return {"train": "training", "evaluate": "evaluating"}[self.step]
        return self.status if self.reason is None else f"{self.status}: {self.reason}"

    @property
    def progress(self) -> str:
        """``250/500``; nothing where nothing is trained."""
        return f"{self.iteration}/{self.max_iterations}" if self.max_iterations else ""

    @property
    def seconds_left(self) -> float | None:
        """Of the training, at its last pace."""
        if self.status != "running" or self.step != "train" or not self.iterations_per_s:
            return None
        return (self.max_iterations - self.iteration) / self.iterations_per_s or None


class Watch:
    """Looks at the cells of a study; at finished ones once.

    Args:
        study: with its plans written.
    """

    def __init__(self, study: StudyFolder) -> None:
        plan = study.plan()
        assert plan is not None
        self._cells = study.cells()
        self._metric = plan.metric
        self._finished: dict[Path, Standing] = {}

    def look(self) -> list[Standing]:
        """Where all cells stand now, in the order of the study's tables."""
        standings: list[Standing] = []
        for cell in self._cells:
            standing = self._finished.get(cell.folder) or self._look_at(cell)
            if standing.status == "finished":
                self._finished[cell.folder] = standing
            standings.append(standing)
        return standings

    def _look_at(self, cell: CellFolder) -> Standing:
        status, state, plan = cell.status(), cell.state(), cell.plan()
        assert plan is not None
        values = _last_values(cell.folder / "metrics.csv")
        pace = values.get("train/images_per_s")
        if status == "finished":
            rows = read_rows(cell.folder / "evaluation" / "per_image.csv")
            scores = [float(row[self._metric]) for row in rows if row[self._metric]]
        else:
            keys = [key for key in values if key.startswith("val/")]
            scores = [values[key] for key in keys if key.endswith(f"/{self._metric}")]
        return Standing(
            path=plan.path,
            status=status,
            step=state.attempts[-1].step if state.attempts else None,
            iteration=int(values.get("iteration", 0)),
            max_iterations=plan.max_iterations,
            iterations_per_s=None if pace is None else pace / plan.images_per_iteration,
            score=finite_mean(scores) if scores else None,
            hours=hours(state),
            reason=_reason(status, state),
        )

    def table(self, standings: Sequence[Standing]) -> Table:
        """All cells, for a terminal."""
        table = Table(box=box.SIMPLE_HEAD)
        columns = ("cell", "status", "iteration", "it/s", "left", self._metric, "hours")
        for column in columns:
            is_text = column in ("cell", "status")
            table.add_column(column, justify="left" if is_text else "right", no_wrap=not is_text)
        for standing in standings:
            cells = (
                standing.path,
                standing.description,
                standing.progress,
                _text(standing.iterations_per_s, "{:.2f}") if standing.step == "train" else "",
                duration(standing.seconds_left),
                self._score(standing),
                _text(standing.hours, "{:.2f}") if standing.step else "",
            )
            table.add_row(*map(escape, cells), style=_STYLES.get(standing.status))
        return table

    def news(self, before: Sequence[Standing], now: Sequence[Standing]) -> Iterator[str]:
        """A line for each cell whose status or score has changed, for a log."""
        for then, standing in zip(before, now, strict=True):
            if (then.description, then.score) != (standing.description, standing.score):
                left = duration(standing.seconds_left)
                score = self._score(standing)
                parts = (
                    standing.description,
                    standing.progress,
                    left and f"{left} left",
                    score and f"{self._metric} {score}",
                )
                yield f"{standing.path}: {', '.join(part for part in parts if part)}"

    def _score(self, standing: Standing) -> str:
        return _text(standing.score, f"{{:.{METRICS[self._metric].digits}f}}")


@contextmanager
def shown(study: StudyFolder) -> Generator[None]:
    """Shows where the cells stand: as a table on a terminal, else a line for each change."""
    watch, console = Watch(study), Console()

    def render() -> Group:
        standings = watch.look()
        rows = [s for s in standings if s.status not in ("finished", "waiting")]
        fits = len(standings) < console.height - _LINES_BESIDE
        return Group(watch.table(standings if fits else rows), count(standings))

    if console.is_terminal:
        with Live(get_renderable=render, console=console, refresh_per_second=1 / _LOOK_S):
            yield
        return
    ended = threading.Event()

    def tell() -> None:
        before = watch.look()
        log.info(count(before))
        is_last = False
        while not is_last:
            is_last = ended.wait(_LOOK_S)
            now = watch.look()
            for line in watch.news(before, now):
                log.info(line)
            before = now

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def show(study: StudyFolder) -> None:
    """Shows once where the cells stand."""
    console, watch = Console(), Watch(study)
    standings = watch.look()
    wide = console if console.is_terminal else Console(width=_WIDTH_OF_A_FILE)
    wide.print(watch.table(standings), count(standings), sep="\n")


def count(standings: Sequence[Standing]) -> str:
    """How many cells are in which status: ``3 finished, 1 running, 9 waiting``."""
    numbers = Counter(standing.status for standing in standings)
    return ", ".join(f"{number} {status}" for status in _ORDER if (number := numbers[status]))


def duration(seconds: float | None) -> str:
    """``1 h 05 min``, ``4 min 10 s``, or nothing of None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _text(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _reason(status: Status, state: CellState) -> str | None:
    if status == "failed":
        return state.failure
    if status == "interrupted":
        code = state.attempts[-1].exit_code
        return f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else None
    return None


def _last_values(path: Path) -> dict[str, float]:
    """The last value of each column that the last rows have."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        head = file.readline().decode()
        file.seek(max(file.tell(), path.stat().st_size - _TAIL_BYTES))
        tail = file.read().decode(errors="replace")
    columns = next(csv.reader([head]))
    values: dict[str, float] = {}
    for line in tail[: tail.rfind("\n") + 1].splitlines():
        cells = next(csv.reader([line]))
        if len(cells) == len(columns):  # the first line may be cut
            values |= {c: float(v) for c, v in zip(columns, cells, strict=True) if v}
    return values
