"""The table of results, which also tells what is done."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from typing import Any

from asrgan.errors import UserError
from asrgan.inference.jobs.folders import Folder, is_remote, place_of, stamp_of
from asrgan.inference.jobs.listing import Job
from asrgan.inference.jobs.recipe import identity
from asrgan.provenance import describe_run

TABLE = "results.csv"
RECIPE = "recipe.json"
UNFINISHED = "unfinished.json"
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
        source: where the original is.
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
    source: str = ""
    input_version: str = ""
    recipe: str = ""


_COLUMNS = [field.name for field in fields(Result)]
_DIGITS = {"read_s": 3, "network_s": 3, "write_s": 3, "consistency_db": 2}


class Results:
    """What was done in a folder, by the rows of its table. A context: the folder is locked in it.

    A row is added when its picture is in the folder. The pictures that a run is to make stand in
    a file until it ends: one of them without a row is what a run did not live to note.

    Args:
        folder: of the pictures.
        recipe: `Recipe.described`.
        overwrite: whether files of others, and of another recipe, may be replaced.

    Raises:
        UserError: the folder's pictures were made by another recipe, its table or its recipe is
            that of something else, or another run has it.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Folder, recipe: dict[str, Any], *, overwrite: bool) -> None:
        self.recipe_id = identity(recipe)
        self.failed: list[Result] = []
        self._folder = folder
        self._overwrite = overwrite
        self._undone: set[str] = set()
        with ExitStack() as stack:
            stack.enter_context(folder.locked(LOCK))  # before the recipe is compared or replaced
            self._lines = self._read_lines()
            self._keep_recipe(recipe)
            self._unfinished = self._read_unfinished()
            self._locked = stack.pop_all()

    def remaining(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that are to be done; the rows they had are struck from the table.

        Where something stands in the way that no run has made, the job gets a row that says so.

        Raises:
            UserError: a picture in the folder is that of another original.
        """
        undone = [job for job in jobs if not self._is_done(job)]
        for job in undone if not self._overwrite else ():
            if (other := self._other_original(job)) is not None:
                raise UserError(
                    f"{self._folder.locate(job.target)} is there already, made from {other}; name"
                    " another `output`, or overwrite=true replaces it."
                )
        self._undone = {job.target for job in undone}
        self._folder.sweep(self._undone)
        refused: list[Job] = []
        remaining: list[Job] = []
        for job in undone:
            (refused if self._is_in_the_way(job) else remaining).append(job)
        self._unfinished |= {job.target for job in remaining}
        self._keep_unfinished()
        for job in undone:
            self._lines.pop(job.target, None)
        self._folder.write_text(TABLE, "".join((_as_line(_COLUMNS), *self._lines.values())))
        for job in refused:
            place = self._folder.locate(job.target)
            error = f"{place} is there already; overwrite=true replaces it."
            self.add(Result(job.name, job.target, source=place_of(job.source), error=error))
        return remaining

    def add(self, result: Result) -> None:
        """Adds the row of a job."""
        line = _as_line([_as_cell(name, value) for name, value in asdict(result).items()])
        self._folder.append_text(TABLE, line)
        if result.error:
            self.failed.append(result)

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leaves the folder to others, with nothing half-written in it."""
        with self._locked:
            self._folder.sweep(self._undone)
            self._folder.close()
            if kind is None:
                self._unfinished -= self._undone
                self._keep_unfinished()

    def _keep_recipe(self, recipe: dict[str, Any]) -> None:
        earlier = self._read_recipe()
        if not earlier or identity(earlier) != self.recipe_id:
            if earlier and not self._overwrite:
                raise UserError(_difference(self._folder, earlier, recipe))
            content = json.dumps({"recipe": recipe, **describe_run()}, indent=2)
            self._folder.write_text(RECIPE, f"{content}\n")

    def _read_recipe(self) -> dict[str, Any]:
        text = self._folder.read_text(RECIPE)
        try:
            return {**json.loads(text)["recipe"]} if text else {}
        except (ValueError, LookupError, TypeError) as error:
            raise self._foreign(RECIPE) from error

    def _keep_unfinished(self) -> None:
        if self._unfinished:
            self._folder.write_text(UNFINISHED, json.dumps(sorted(self._unfinished)))
        else:
            self._folder.remove(UNFINISHED)

    def _read_unfinished(self) -> set[str]:
        text = self._folder.read_text(UNFINISHED)
        try:
            return {*json.loads(text)} if text else set()
        except (ValueError, TypeError) as error:
            raise self._foreign(UNFINISHED) from error

    def _read_lines(self) -> dict[str, str]:
        """The rows of the table, by their pictures."""
        rows = list(csv.reader(io.StringIO(self._folder.read_text(TABLE), newline="")))
        if rows and rows[0] != _COLUMNS:
            raise self._foreign(TABLE)
        place = _COLUMNS.index("output")
        # A crash may have cut the last.
        return {row[place]: _as_line(row) for row in rows[1:] if len(row) == len(_COLUMNS)}

    def _foreign(self, name: str) -> UserError:
        return UserError(
            f"{self._folder.locate(name)} was not written by this version of `asrgan upscale`; name"
            " another `output`."
        )

    def _is_in_the_way(self, job: Job) -> bool:
        """Whether there is a picture that no run has made."""
        is_there = self._folder.stamp(job.target) is not None
        is_ours = job.target in self._unfinished or self._row_of_picture(job) is not None
        return is_there and not is_ours and not self._overwrite

    def _is_done(self, job: Job) -> bool:
        """Whether the picture is there, from this version of this original, by this recipe."""
        row = self._row_of_picture(job)
        return (
            row is not None
            and (row["input"], row["recipe"]) == (job.name, self.recipe_id)
            and row["input_version"] == str(stamp_of(job.source))
            # An object store tells no versions; on a disk a folder may have been moved.
            and (not is_remote(job.source) or row["source"] == place_of(job.source))
        )

    def _other_original(self, job: Job) -> str | None:
        """Where the original of the job's picture is, if that is there and is not the job's."""
        row = self._row_of_picture(job)
        return row["source"] if row is not None and row["source"] != place_of(job.source) else None

    def _row_of_picture(self, job: Job) -> dict[str, str] | None:
        """The row of the job's picture; None if the one or the other is not there."""
        if job.target not in self._lines:
            return None
        cells = next(csv.reader(io.StringIO(self._lines[job.target], newline="")))
        row = dict(zip(_COLUMNS, cells, strict=True))
        return None if row["error"] or self._folder.stamp(job.target) is None else row


def _as_cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{_DIGITS[name]}f}"
    return "" if value is None else str(value)


def _as_line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)  # with its own line end it quotes both \r and \n
    return text.getvalue().removesuffix("\r\n") + "\n"


def _difference(folder: Folder, before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = next(
        key
        for key in {**now, **before}
        if key != "weights" and (key not in now or key not in before or now[key] != before[key])
    )
    what = (
        f"the pictures in {folder.location} were made with other weights ({before['weights']})"
        if changed == "weights_sha256"
        else f"`{changed}` was {before.get(changed)} for the pictures in {folder.location}, and is"
        f" {now.get(changed)}"
    )
    return f"{what}; name another `output`, or overwrite=true makes them anew."
