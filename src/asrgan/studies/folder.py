"""How a study lies on disk.

::

    OUTPUT_DIR/
      study.yaml                 the definition, complete: `asrgan study run OUTPUT_DIR` goes on
      study.json                 a `StudyPlan`: question, baseline, metric, and the cells in order
      study.lock                 held by the `asrgan study run` that works here
      fingerprints.json          what is known of the data's files
      per_image.csv              rows of all finished cells: benchmark, kind, model, seed, image,
                                 metrics
      summary.csv, summary.md    their means over seeds and images
      report/                    of `asrgan study report`
      stages/NAME/seed_N/        a cell each: trained once, variants start from it
      variants/NAME/seed_N/      a cell each
      references/NAME/           a cell each: evaluated, not trained

and in each cell

::

      cell.json                  a `CellPlan`: identity, resolved configuration, commands
      state.json                 a `CellState`: attempts with their hours, what is done, failure
      cell.lock                  held while a process works on the cell
      train.log, evaluate.log    what the commands printed
      metrics.csv                by iteration: losses, val/BENCHMARK/METRIC, train/images_per_s,
                                 train/peak_memory_mib and all else of `asrgan train`
      generator.safetensors      the averaged generator that is evaluated
      checkpoints/, samples/, config.yaml, run.json       of `asrgan train`, too
      evaluation/per_image.csv   model, benchmark, image, metrics; with summary.csv and summary.md
                                 of `asrgan evaluate`

Everything is told by files that appear whole: a cell is finished, failed, running, interrupted or
waiting by what they say and by its lock, so that nothing has to be tidied up after a kill.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from asrgan.errors import UserError
from asrgan.files import file_digest, write_text
from asrgan.studies.names import GENERATOR
from asrgan.subprocesses import Lock

T = TypeVar("T")
Kind = Literal["stage", "variant", "reference"]
Step = Literal["train", "evaluate"]
Status = Literal["finished", "running", "failed", "interrupted", "waiting"]


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """What a cell is.

    Attributes:
        path: below the study's folder.
        kind: what it is for.
        model: its name in tables; that of the stage, variant or reference.
        seed: None for a reference.
        identity: hash of `config`, the seed, `data` and `code`; its training belongs to it.
        config: what of the resolved configuration decides the result, by full keys.
        data: key -> fingerprint of the file or folder there, or identity of the stage.
        code: ``version`` hashes the sources, ``commit`` is git's.
        start: path of the cell it starts from; or None.
        max_iterations: where its training ends; 0: nothing is trained.
        num_devices: that a training needs.
        images_per_iteration: over all of them.
        train: the words after ``asrgan train``; empty for a reference.
        evaluate: the words after ``asrgan evaluate``.
        evaluation: hash of how it is evaluated, on what, by which code.
    """

    path: str
    kind: Kind
    model: str
    seed: int | None
    identity: str
    config: Mapping[str, object]
    data: Mapping[str, str]
    code: Mapping[str, str | None]
    start: str | None
    max_iterations: int
    num_devices: int
    images_per_iteration: int
    train: Sequence[str]
    evaluate: Sequence[str]
    evaluation: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One process that trained or evaluated.

    Attributes:
        step: which of the two.
        started: time, ISO 8601, UTC.
        host: name of the machine.
        seconds: so far; exact once `exit_code` is there.
        exit_code: negative: the signal that killed it; None: running, or killed with its study.
    """

    step: Step
    started: str
    host: str
    seconds: float = 0.0
    exit_code: int | None = None


@dataclass(frozen=True, kw_only=True)
class CellState:
    """What has happened to a cell.

    Attributes:
        attempts: in order.
        trained: file -> SHA-256 of what a finished training left; None: not finished.
        evaluated: the same of the evaluation.
        evaluation: of the plan that `evaluated` belongs to.
        failure: one line; None: none, or to be tried again.
    """

    attempts: Sequence[Attempt] = ()
    trained: Mapping[str, str] | None = None
    evaluated: Mapping[str, str] | None = None
    evaluation: str | None = None
    failure: str | None = None


TRAINED_FILES = (GENERATOR, "metrics.csv", "config.yaml")
EVALUATED_FILES = ("evaluation/per_image.csv",)


class CellFolder:
    """A cell of a study on disk.

    Args:
        folder: the cell's; it need not be there yet.

    Attributes:
        folder: the same.
        lock: held by whoever works on the cell.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = Lock(folder / "cell.lock")

    def plan(self) -> CellPlan | None:
        """``cell.json``; None: never planned."""
        return _read(self.folder / "cell.json", lambda content: CellPlan(**content))

    def write_plan(self, plan: CellPlan) -> None:
        """Writes ``cell.json`` where it says something else."""
        if self.plan() != plan:
            _write(self.folder / "cell.json", asdict(plan))

    def state(self) -> CellState:
        """``state.json``."""
        return _read(self.folder / "state.json", _state) or CellState()

    def write_state(self, state: CellState) -> None:
        """Writes ``state.json``; only whoever holds the lock may."""
        _write(self.folder / "state.json", asdict(state))

    def is_finished(self) -> bool:
        """Whether it is trained, and evaluated as its plan says."""
        plan, state = self.plan(), self.state()
        return (
            plan is not None
            and (state.trained is not None or not plan.train)
            and state.evaluation == plan.evaluation
            and all((self.folder / name).is_file() for name in EVALUATED_FILES)
        )

    def status(self) -> Status:
        """Where the cell stands now."""
        if self.lock.is_held():
            return "running"
        if self.is_finished():
            return "finished"
        state = self.state()
        if state.failure is not None:
            return "failed"
        return "interrupted" if state.attempts else "waiting"

    def check_files(self) -> None:
        """Looks whether the results are what the cell's own processes left.

        Raises:
            UserError: one was edited, or one of the training is gone.
        """
        state = self.state()
        for digests, part, remedy in (
            (state.trained or {}, self.folder, "train it anew"),
            (state.evaluated or {}, self.folder / "evaluation", "score it again"),
        ):
            for name, expected in digests.items():
                path = self.folder / name
                if path.is_file() and file_digest(path) == expected:
                    continue
                if path.is_file() or name in TRAINED_FILES:
                    raise UserError(
                        f"`{path}` is not what the cell's run left; remove {part} to {remedy}."
                    )


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What a study is, for those who read its results.

    Attributes:
        name: of the study.
        question: what it is to answer.
        baseline: the model that the other variants are compared with.
        metric: the one that decides, a column of the tables.
        difference: of the metric, in its unit: less does not matter.
        seeds: of each variant.
        scale: of all pictures.
        benchmarks: name -> ``DIR``, ``hr:DIR`` or ``lr:DIR``, see `asrgan.data.open_benchmark`.
        cells: their paths, in the order of tables: references, stages, variants.
        home: where the folder lay when it was written.
        sources: hash of the code and configuration by which it was written.
    """

    name: str
    question: str
    baseline: str
    metric: str
    difference: float
    seeds: Sequence[int]
    scale: int
    benchmarks: Mapping[str, str]
    cells: Sequence[str]
    home: str
    sources: str


class StudyFolder:
    """A study on disk.

    Args:
        folder: its output folder.

    Attributes:
        folder: the same.
        lock: held by the ``asrgan study run`` that works here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = Lock(folder / "study.lock")

    @property
    def definition_path(self) -> Path:
        """``study.yaml``."""
        return self.folder / "study.yaml"

    def plan(self) -> StudyPlan | None:
        """``study.json``; None: nothing was run here yet."""
        return _read(self.folder / "study.json", lambda content: StudyPlan(**content))

    def write_plan(self, plan: StudyPlan) -> None:
        """Writes ``study.json``."""
        _write(self.folder / "study.json", asdict(plan))

    def cells(self) -> list[CellFolder]:
        """Those of the plan, in its order."""
        plan = self.plan()
        return [] if plan is None else [self.cell(path) for path in plan.cells]

    def cell(self, path: str) -> CellFolder:
        """One, by its path below the study's folder."""
        return CellFolder(self.folder / path)


def _state(content: dict[str, Any]) -> CellState:
    attempts = [Attempt(**attempt) for attempt in content.pop("attempts")]
    return CellState(attempts=attempts, **content)


def _read(path: Path, make: Callable[[dict[str, Any]], T]) -> T | None:
    try:
        return make(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"`{path}` was edited, or is another version's ({error}); remove {path.parent}, and"
            " what is in it is made again."
        ) from error


def _write(path: Path, content: Mapping[str, object]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
