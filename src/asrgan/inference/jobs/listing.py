"""From what a user names to one job for each original."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath

from asrgan.errors import UserError
from asrgan.inference.jobs.folders import (
    Folder,
    Report,
    folder_at,
    is_remote,
    place_of,
    read_bytes,
    real_folder,
)
from asrgan.inference.jobs.recipe import Recipe

LIST_SUFFIXES = (".txt", ".csv", ".parquet")


@dataclass(frozen=True)
class Job:
    """One original and its picture.

    Args:
        source: path or address of the original.
        name: of the original in tables: below its folder, or as it is listed.
        target: name of the picture below the output folder.
    """

    source: str
    name: str
    target: str


def find_jobs(
    given: str,
    output: Folder,
    recipe: Recipe,
    *,
    column: str,
    report: Report = lambda *_: None,
) -> list[Job]:
    """A job for each picture of a folder or list; names of the results keep its structure.

    Two originals whose pictures would get one name (``a.png`` and ``a.jpg`` with ``format=png``)
    keep their suffixes in it (``a.jpg.png``); one that has the right suffix keeps its name.

    Args:
        given: a folder; a text file with a path a line; a CSV or Parquet table; or a picture. Paths
            in lists are relative to the list's folder; absolute ones, and addresses, keep all
            their folders below ``output``. What is listed twice, in whatever words, is one.
        output: the folder of results; what lies in it is no original.
        recipe: tells the suffixes of the results.
        column: of the paths in tables.
        report: is told of each name in a folder that is no picture, and why.

    Raises:
        UserError: nothing there, an unreadable list, no such column, or a result would take the
            place of an original.
    """
    named = _originals(given, output, column, report)
    targets = _targets([PurePosixPath(name) for _, name in named], recipe)
    jobs = [
        Job(source, name, str(target))
        for (source, name), target in zip(named, targets, strict=True)
    ]
    _keep_originals(jobs, output)
    return jobs


def _originals(given: str, output: Folder, column: str, report: Report) -> list[tuple[str, str]]:
    """Where each original is, and its name."""
    if PurePosixPath(given).suffix.lower() in LIST_SUFFIXES:
        place = _cached_place_of()
        by_place: dict[str, tuple[str, str]] = {}
        for entry in _read_list(given, column):
            source, name = _named(entry, given)
            by_place.setdefault(place(source), (source, name))
        if not by_place:
            raise UserError(f"`input` (={given}) lists no picture.")
        return list(by_place.values())
    if not is_remote(given) and not Path(given).is_dir():
        if not Path(given).exists():
            raise UserError(
                f"`input` (={given}) does not exist; give a picture, a folder or a list."
            )
        return [(given, Path(given).name)]
    folder = folder_at(given)
    if real_folder(given) == real_folder(output.location):
        raise UserError(
            f"`output` (={output.location}) is the folder of the originals; name another one."
        )
    place, results = _cached_place_of(), real_folder(output.location) + "/"

    def is_original(name: str) -> bool:
        return not place(folder.locate(name)).startswith(results)

    def report_original(name: str, reason: str) -> None:
        if is_original(name):
            report(name, reason)

    names = folder.find(report=report_original)
    named = [(folder.locate(name), name) for name in names if is_original(name)]
    if not named:
        raise UserError(f"`input` (={given}) holds no picture.")
    return named


def _read_list(given: str, column: str) -> list[str]:
    """The paths in a text file (one a line), or in a column of a CSV or Parquet table."""
    try:
        content = read_bytes(given)
        if given.lower().endswith(".parquet"):
            return _read_parquet(given, content, column)
        text = content.decode("utf-8-sig", errors="surrogateescape")  # names hold any bytes ...
        if "\0" in text:  # ... but for this
            raise ValueError("it is no text in UTF-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"`input` (={given}) cannot be read: {reason}.") from error
    if given.lower().endswith(".txt"):
        return [line.strip() for line in text.split("\n") if line.strip()]
    table = csv.DictReader(io.StringIO(text, newline=""))
    _check_column(given, column, table.fieldnames or [])
    return [row[column] for row in table if row[column]]


def _read_parquet(given: str, content: bytes, column: str) -> list[str]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"`input` (={given}) needs pyarrow; pip install 'asrgan[arrow]', or give a CSV."
        ) from error
    file = parquet.ParquetFile(io.BytesIO(content))
    _check_column(given, column, file.schema_arrow.names)
    return [str(entry) for entry in file.read([column])[column].to_pylist() if entry]


def _check_column(given: str, column: str, columns: Sequence[str]) -> None:
    if column not in columns:
        raise UserError(
            f"`input` (={given}) has no column `{column}`; name one with column=: "
            f"{', '.join(columns)}."
        )


def _named(entry: str, given: str) -> tuple[str, str]:
    """An entry of a list: where it is, and its name."""
    if is_remote(entry):
        return entry, entry.partition("://")[2]
    folder = given.rpartition("/")[0]
    source = f"{folder}/{entry}" if is_remote(given) else str(Path(folder, entry))
    name = PurePosixPath(entry)
    if name.is_absolute() or ".." in name.parts:
        name = PurePosixPath(real_folder(source))
        name = name.relative_to(name.anchor)
    return source, str(name)


def _targets(names: Sequence[PurePosixPath], recipe: Recipe) -> list[PurePosixPath]:
    wanted = [recipe.target(name) for name in names]
    counts = Counter(wanted)
    targets = [
        target if counts[target] == 1 or target == name else PurePosixPath(f"{name}{target.suffix}")
        for name, target in zip(names, wanted, strict=True)
    ]
    for target, count in Counter(targets).items():
        if count > 1:
            raise UserError(f"{count} originals would become {target}; rename all but one.")
    return targets


def _keep_originals(jobs: Sequence[Job], output: Folder) -> None:
    place = _cached_place_of()
    originals = {place(job.source) for job in jobs}
    for job in jobs:
        if place(output.locate(job.target)) in originals:
            raise UserError(
                f"`output` (={output.location}) would put {job.target} in the place of an"
                " original; name another folder."
            )


def _cached_place_of() -> Callable[[str], str]:
    """`place_of`, which looks up few folders instead of that of each file."""
    return partial(place_of, folder_of=cache(real_folder))
