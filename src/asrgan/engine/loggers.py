"""Where values go: a CSV file always, W&B and TensorBoard when asked; all against one counter."""

import csv
import io
import json
import os
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from asrgan.errors import UserError
from asrgan.files import atomic_path


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

    def resume_from(self, iteration: int) -> None:
        """Forgets what was written after ``iteration``; nothing by default."""

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
        self._columns: list[str] = self._read()[0] if path.exists() else []

    @property
    def name(self) -> str:
        """The file's stem."""
        return self._path.stem

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        # A process killed in the middle of a write leaves a line without its end: not a row.
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        reader = csv.DictReader(io.StringIO(whole))
        return list(reader.fieldnames or []), list(reader)

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
            rows = self._read()[1] if self._path.exists() else []
            self._columns += new
            self._rewrite([*rows, row])
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(row)

    @rank_zero_only
    def resume_from(self, iteration: int) -> None:
        """Removes rows of later iterations: the resumed run writes them again."""
        if self._path.exists():
            rows = self._read()[1]
            self._rewrite([row for row in rows if int(row["iteration"]) <= iteration])


class WandbLogger(IterationLogger):
    """A run of Weights & Biases: online with an API key, else kept offline for ``wandb sync``.

    Unlike Lightning's it opens a run of its own in every case, leaves the process's settings alone,
    and marks a failed run as failed.

    Args:
        directory: the run's output folder; W&B keeps its files in ``wandb/`` below it.
        run_config: the resolved configuration, plain containers; its ``run_id`` is the W&B run's,
            the same for a resumed run.
        project: W&B project.
        entity: W&B user or team; None: the key's default.
        group: runs that belong together; or None.
        name: shown name; None: the output folder's.
        tags: to filter by.
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
    ) -> None:
        super().__init__()
        self._settings: dict[str, Any] = {
            "dir": str(directory),
            "config": dict(run_config),
            "id": run_config["run_id"],
            "project": project,
            "entity": entity,
            "group": group,
            "name": name or directory.name,
            "tags": list(tags),
        }
        self._run: Any = None

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
        return self._run

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds values to the run."""
        self._opened.log({"iteration": step, **metrics})

    @rank_zero_only
    def log_picture(self, name: str, picture: NDArray[np.uint8], *, step: int) -> None:
        """Adds a picture to the run's media."""
        import wandb

        self._opened.log({"iteration": step, name: wandb.Image(picture)})

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Closes the run; anything but success marks it as failed."""
        if self._run is not None:
            self._run.finish(exit_code=0 if status == "success" else 1)
            self._run = None


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
            self._writer.add_text("config", f"```\n{self._config}\n```")
        return self._writer

    @rank_zero_only
    def resume_from(self, iteration: int) -> None:
        """Tells TensorBoard to hide what was written after ``iteration``."""
        self._open(purge_step=iteration + 1)

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
