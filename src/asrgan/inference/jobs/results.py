"""The table of results, which also tells what is done."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from typing import Any

from asrgan.errors import UserError
from asrgan.inference.jobs.folders import Folder, stamp_of
from asrgan.inference.jobs.listing import Job
from asrgan.inference.jobs.recipe import identity
from asrgan.provenance import describe_run

TABLE = "results.csv"
RECIPE = "recipe.json"
LOCK = "results.lock"


@dataclass(frozen=True)
class Result:
    """A row of the table.

    Args:
        input: the original, as listed.
        output: its picture, below the output folder.
        width_px: of the original, as a viewer shows it.
        height_px: of the original.
        output_width_px: of the picture.
        output_height_px: of the picture.
        read_s: time of reading and decoding.
        network_s: time in the network.
        write_s: time of comparing, encoding and writing.
        peak_memory_mib: the largest while it was in the network, of the process or of the GPU.
        consistency_db: of the picture, reduced again, with the original.
        note: what is not as in the original.
        error: why there is no picture.
        input_version: size and time of the original.
        recipe: identity of weights and options.
    """

    input: str
    output: str
    width_px: int | None = None
    height_px: int | None = None
    output_width_px: int | None = None
    output_height_px: int | None = None
    read_s: float | None = None
    network_s: float | None = None
    write_s: float | None = None
    peak_memory_mib: int | None = None
    consistency_db: float | None = None
    note: str = ""
    error: str = ""
    input_version: str = ""
    recipe: str = ""


_COLUMNS = [field.name for field in fields(Result)]
_DIGITS = {"read_s": 3, "network_s": 3, "write_s": 3, "consistency_db": 2}


class Results:
    """What was done in a folder, by the rows of its table. A context: the folder is locked in it.

    A row is added when its picture is in the folder. So a picture without a row, newer than the
    folder's recipe, is one that a run did not live to note.

    Args:
        folder: of the pictures.
        recipe: `Recipe.described`.
        overwrite: whether files of others, and of another recipe, may be replaced.

    Raises:
        UserError: the folder's pictures were made by another recipe, or another run has it.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Folder, recipe: dict[str, Any], *, overwrite: bool) -> None:
        self.recipe_id = identity(recipe)
        self.failed: list[Result] = []
        self._folder = folder
        self._overwrite = overwrite
        self._undone: set[str] = set()
        self._lines: dict[str, str] = {}
        with ExitStack() as stack:
            stack.enter_context(folder.locked(LOCK))  # before the recipe is compared or replaced
            self._keep_recipe(recipe)
            for row in csv.reader(io.StringIO(folder.read_text(TABLE), newline="")):
                if len(row) == len(_COLUMNS) and row != _COLUMNS:  # a crash may have cut the last
                    self._lines[row[_COLUMNS.index("output")]] = _as_line(row)
            self._locked = stack.pop_all()
        self._start = folder.stamp(RECIPE)

    def remaining(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that are to be done; the rows they had are struck from the table.

        Where something stands in the way that no run has made, the job gets a row that says so.
        """
        undone = [job for job in jobs if not self._is_done(job)]
        self._undone = {job.target for job in undone}
        self._folder.sweep(self._undone)
        for job in undone:
            self._lines.pop(job.target, None)
        self._folder.write_text(TABLE, "".join((_as_line(_COLUMNS), *self._lines.values())))
        remaining: list[Job] = []
        for job in undone:
            if self._is_in_the_way(job):
                place = self._folder.locate(job.target)
                error = f"{place} is there already; overwrite=true replaces it."
                self.add(Result(job.name, job.target, error=error))
            else:
                remaining.append(job)
        return remaining

    def add(self, result: Result) -> None:
        """Adds the row of a job."""
        line = _as_line([_as_cell(name, value) for name, value in asdict(result).items()])
        self._folder.append_text(TABLE, line)
        if result.error:
            self.failed.append(result)

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the folder to others, with nothing half-written in it."""
        with self._locked:
            self._folder.sweep(self._undone)
            self._folder.close()

    def _keep_recipe(self, recipe: dict[str, Any]) -> None:
        earlier = json.loads(self._folder.read_text(RECIPE) or "{}").get("recipe", {})
        if not earlier or identity(earlier) != self.recipe_id:
            if earlier and not self._overwrite:
                raise UserError(_difference(self._folder, earlier, recipe))
            content = json.dumps({"recipe": recipe, **describe_run()}, indent=2)
            self._folder.write_text(RECIPE, f"{content}\n")

    def _is_in_the_way(self, job: Job) -> bool:
        stamp = self._folder.stamp(job.target)
        if stamp is None or self._start is None or self._overwrite:
            return False
        return stamp.modified_ns < self._start.modified_ns

    def _is_done(self, job: Job) -> bool:
        """Whether the picture is there, from this version of this original, by this recipe."""
        if job.target not in self._lines:
            return False
        cells = next(csv.reader(io.StringIO(self._lines[job.target], newline="")))
        row = dict(zip(_COLUMNS, cells, strict=True))
        return (
            not row["error"]
            and (row["input"], row["recipe"]) == (job.name, self.recipe_id)
            and row["input_version"] == str(stamp_of(job.source))
            and self._folder.stamp(job.target) is not None
        )


def _as_cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{_DIGITS[name]}f}"
    return "" if value is None else str(value)


def _as_line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _difference(folder: Folder, before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = next(k for k in now if k != "weights" and now[k] != before.get(k))
    what = (
        f"the pictures in {folder.location} were made with other weights ({before['weights']})"
        if changed == "weights_sha256"
        else f"`{changed}` was {before.get(changed)} for the pictures in {folder.location}, and is"
        f" {now[changed]}"
    )
    return f"{what}; name another `output`, or overwrite=true makes them anew."
