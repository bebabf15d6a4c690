"""Where values go: a CSV file always, W&B and TensorBoard when asked; all against one counter."""

import csv
import json
import os
import shutil
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from asrgan.engine.directions import DIRECTIONS
from asrgan.errors import UserError
from asrgan.files import atomic_path, read_table
from asrgan.imaging import read_image

# What an iteration can leave behind, in this order.
_TRAINING, _VALIDATION, _PICTURE = range(3)
SAMPLES = "val/samples"  # the pictures
Place = tuple[int, int]  # in the history of a run: iteration, then one of these


class IterationLogger(Logger):
    """A logger whose step is the iteration of ``SuperResolution``."""

    @property
    def version(self) -> str:
        """Runs are told apart by their output folder alone."""
        return ""

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing by default: ``config.yaml`` lies beside."""

    def log_picture(self, name: str, picture: NDArray[np.uint8], *, step: int) -> None:
        """Shows a picture, uint8 (H, W, 3); nothing by default."""

    def resume_from(self, iteration: int, *, is_validated: bool) -> None:
        """Goes back to a checkpoint, before anything is written: no row twice, none missing.

        Args:
            iteration: of the checkpoint; 0 for a run that starts.
            is_validated: whether the checkpoint follows the validation of its iteration, if that
                has one.
        """

    def flush(self) -> None:
        """Brings to disk what a kill would take along; nothing by default."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Writes values of one iteration."""


class MetricsTable(IterationLogger):
    """``metrics.csv``: a row for each write, a column for each name, empty where there is no value.

    Args:
        path: the file; rows of an earlier run are kept, see ``resume_from``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._columns: list[str] = _read(path)[0] if path.exists() else []

    @property
    def name(self) -> str:
        """The file's stem."""
        return self._path.stem

    def _rewrite(self, rows: Sequence[Mapping[str, object]]) -> None:
        with (
            atomic_path(self._path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Appends a row; a new name makes a new column."""
        row = {"iteration": step, **metrics}
        new = [name for name in row if name not in self._columns]
        if new:
            rows = _read(self._path)[1] if self._path.exists() else []
            self._columns += new
            self._rewrite([*rows, row])
            return
        try:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)
        except OSError as error:
            error.filename = str(self._path)  # a full disk leaves it out
            raise

    @rank_zero_only
    def resume_from(self, iteration: int, *, is_validated: bool) -> None:
        """Removes later rows: the resumed run writes them again."""
        if self._path.exists():
            last = _last_place(iteration, is_validated=is_validated)
            self._rewrite([row for row in _read(self._path)[1] if _place(row) <= last])


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a table, which hold names with a value only."""
    columns, rows = read_table(path)
    return columns, [{name: value for name, value in row.items() if value} for row in rows]


def _place(row: Mapping[str, object]) -> Place:
    is_validation = any(name.startswith("val/") for name in row)
    return int(str(row["iteration"])), _VALIDATION if is_validation else _TRAINING


def _last_place(iteration: int, *, is_validated: bool) -> Place:
    return iteration, _PICTURE if is_validated else _TRAINING


class WandbLogger(IterationLogger):
    """A run of Weights & Biases: online with an API key, else kept offline for ``wandb sync``.

    Unlike Lightning's it opens a run of its own in every case, leaves the process's settings alone,
    marks a failed run as failed, and knows what a killed run has sent already.

    Args:
        directory: the run's output folder; W&B keeps its files in ``wandb/`` below it.
        run_config: the resolved configuration, plain containers; its ``run_id`` is the W&B run's,
            the same for a resumed run.
        project: W&B project.
        entity: W&B user or team; None: the key's default.
        group: runs that belong together; or None.
        name: shown name; None: the output folder's.
        tags: to filter by.
        labels: more entries of the run's configuration: what the run is among others.
        artifacts: hand over the generator and the checkpoints when the run ends well.
    """

    def __init__(
        self,
        *,
        directory: Path,
        run_config: Mapping[str, object],
        project: str,
        entity: str | None,
        group: str | None,
        name: str | None,
        tags: Sequence[str],
        labels: Mapping[str, object],
        artifacts: bool,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._has_artifacts = artifacts
        self._settings: dict[str, Any] = {
            "dir": str(directory),
            "config": {**run_config, **labels},
            "id": run_config["run_id"],
            "project": project,
            "entity": entity,
            "group": group,
            "name": name or directory.name,
            "tags": list(tags),
        }
        self._run: Any = None
        self._first_step = 0
        self._scores: set[str] = set()

    @property
    def name(self) -> str:
        """W&B project."""
        return self._settings["project"]

    @property
    def _opened(self) -> Any:
        if self._run is None:
            import wandb

            has_choice = "WANDB_MODE" in os.environ or wandb.login(prompt=False)
            mode = None if has_choice else "offline"
            self._run = wandb.init(**self._settings, mode=mode, resume="allow", reinit="create_new")
            self._run.define_metric("iteration")
            self._run.define_metric("*", step_metric="iteration")
            self._first_step = self._run.step  # behind what the server has
            self._scores.clear()
        return self._run

    @rank_zero_only
    def resume_from(self, iteration: int, *, is_validated: bool) -> None:
        """Hands over again what W&B lacks: a kill takes along what is on its way.

        An offline run gets a folder at each start. So that one alone is complete, the new one
        holds the whole history, from ``metrics.csv`` and ``samples/``, and earlier ones that are
        not synced are renamed to ``replaced-...``, which `wandb sync` leaves alone.
        """
        for folder in offline_runs(self._directory):
            if folder.name.endswith(f"-{self._settings['id']}"):
                replaced = folder.with_name(f"replaced-{folder.name}")
                shutil.rmtree(replaced, ignore_errors=True)  # of the same second
                folder.rename(replaced)
        last = _last_place(iteration, is_validated=is_validated)
        history: list[tuple[Place, Any]] = []
        if (table := self._directory / "metrics.csv").exists():
            history += [(_place(row), row) for row in _read(table)[1]]
        for path in (self._directory / "samples").glob("iteration_*.png"):
            history.append(((int(path.stem.partition("_")[2]), _PICTURE), path))
        for place, entry in sorted(history, key=lambda item: item[0]):
            if place > last:
                break
            if isinstance(entry, Path):
                self.log_picture(SAMPLES, read_image(entry), step=place[0])
            else:
                self._log(place, {k: float(v) for k, v in entry.items() if k != "iteration"})

    def _log(self, place: Place, values: Mapping[str, object]) -> None:
        run, step = self._opened, 3 * place[0] + place[1]
        if step >= self._first_step:
            self._define_scores(values)
            run.log({"iteration": place[0], **values}, step=step, commit=True)

    def _define_scores(self, names: Iterable[str]) -> None:
        """Has the summary show the best of each validation score: ``NAME.max`` or ``NAME.min``."""
        for name in names:
            score = name.rpartition("/")[2]
            if name.startswith("val/") and name not in self._scores and score in DIRECTIONS:
                summary = "max" if DIRECTIONS[score] > 0 else "min"
                self._opened.define_metric(name, step_metric="iteration", summary=f"{summary},last")
                self._scores.add(name)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds values to the run."""
        self._log(_place({"iteration": step, **metrics}), metrics)

    @rank_zero_only
    def log_picture(self, name: str, picture: NDArray[np.uint8], *, step: int) -> None:
        """Adds a picture to the run's media."""
        import wandb

        self._log((step, _PICTURE), {name: wandb.Image(picture)})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Closes the run; anything but success marks it as failed."""
        if self._run is not None:
            if self._has_artifacts and status == "success":
                self._hand_over()
            self._run.finish(exit_code=0 if status == "success" else 1)
            self._run = None

    def _hand_over(self) -> None:
        import wandb

        artifact = wandb.Artifact(f"run-{self._settings['id']}", type="model")
        artifact.add_file(str(self._directory / "generator.safetensors"))
        artifact.add_dir(str(self._directory / "checkpoints"), name="checkpoints")
        self._run.log_artifact(artifact)


def offline_runs(folder: Path) -> list[Path]:
    """What W&B holds below a run's folder and has not been sent yet."""
    runs = sorted(folder.glob("wandb/offline-run-*"))
    return [run for run in runs if not any(run.glob("*.synced"))]


class TensorBoardLogger(IterationLogger):
    """Event files for TensorBoard in ``tensorboard/`` below the output folder.

    Args:
        directory: the run's output folder.
        run_config: the resolved configuration, shown as text.

    Raises:
        UserError: the package tensorboard is not installed.
    """

    def __init__(self, *, directory: Path, run_config: Mapping[str, object]) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "`logger=tensorboard` needs the package tensorboard;"
                " try: pip install 'asrgan[tensorboard]'."
            ) from error
        self._folder = directory / "tensorboard"
        self._config = json.dumps(run_config, indent=2)
        self._writer_class = SummaryWriter
        self._writer: Any = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._folder.name

    def _open(self, purge_step: int | None = None) -> Any:
        if self._writer is None:
            self._writer = self._writer_class(str(self._folder), purge_step=purge_step)
            if not purge_step:
                self._writer.add_text("config", f"```\n{self._config}\n```")
        return self._writer

    @rank_zero_only
    def resume_from(self, iteration: int, *, is_validated: bool) -> None:
        """Tells TensorBoard to hide what was written after ``iteration``."""
        del is_validated  # values of a repeated validation are the same
        self._open(purge_step=iteration + 1 if iteration else 0)

    @rank_zero_only
    def flush(self) -> None:
        """Writes what waits for its turn, which is two minutes' worth."""
        self._open().flush()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds scalars."""
        for name, value in metrics.items():
            self._open().add_scalar(name, value, step)

    @rank_zero_only
    def log_picture(self, name: str, picture: NDArray[np.uint8], *, step: int) -> None:
        """Adds a picture."""
        self._open().add_image(name, picture, step, dataformats="HWC")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Closes the event file."""
        del status
        if self._writer is not None:
            self._writer.close()
            self._writer = None
