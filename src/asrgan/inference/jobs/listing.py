"""From what a user names to one job for each original."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from asrgan.errors import UserError
from asrgan.imaging import find_images
from asrgan.inference.jobs.recipe import Recipe

LIST_SUFFIXES = (".txt", ".csv", ".parquet")


@dataclass(frozen=True)
class Job:
    """One original and its picture.

    Args:
        source: path of the original.
        name: of the original in tables: as it was listed, or below the folder.
        target: path of the picture below the output folder.
    """

    source: Path
    name: str
    target: str


def find_jobs(given: Path, output: Path, recipe: Recipe, *, column: str) -> list[Job]:
    """A job for each picture of a folder or list; names of the results keep its structure.

    Two originals whose pictures would get one name (``a.png`` and ``a.jpg`` with ``format=png``)
    keep their suffixes in it (``a.jpg.png``); one that has the right suffix keeps its name.

    Args:
        given: a folder; a text file with a path a line; a CSV or Parquet table; or a picture. Paths
            in lists are relative to the list's folder; absolute ones keep all their folders below
            ``output``.
        output: the folder of results; what lies in it is no original.
        recipe: tells the suffixes of the results.
        column: of the paths in tables.

    Raises:
        UserError: nothing there, an unreadable list, no such column, or a result would take the
            place of an original.
    """
    if given.is_dir():
        if output.resolve() == given.resolve():
            raise UserError(
                f"`output` (={output}) is the folder of the originals; name another one."
            )
        inside = output.resolve()
        named = [
            (path, path.relative_to(given))
            for path in find_images(given)
            if not path.resolve().is_relative_to(inside)
        ]
        if not named:
            raise UserError(f"`input` (={given}) holds no picture.")
    elif given.suffix.lower() in LIST_SUFFIXES:
        named = [_named(entry, given.parent) for entry in dict.fromkeys(read_list(given, column))]
        if not named:
            raise UserError(f"`input` (={given}) lists no picture.")
    elif given.exists():
        named = [(given, Path(given.name))]
    else:
        raise UserError(f"`input` (={given}) does not exist; give a picture, a folder or a list.")
    names = [PurePosixPath(name.as_posix()) for _, name in named]
    targets = _targets(names, recipe)
    jobs = [
        Job(path, str(name), str(target))
        for (path, _), name, target in zip(named, names, targets, strict=True)
    ]
    _keep_originals(jobs, output)
    return jobs


def read_list(path: Path, column: str) -> list[str]:
    """The paths in a text file (one a line), or in a column of a CSV or Parquet table.

    Raises:
        UserError: missing, unreadable, no such column, or Parquet without pyarrow.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path, column)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"`input` (={path}) cannot be read: {reason}.") from error
    if path.suffix.lower() == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    table = csv.DictReader(text.splitlines())
    _check_column(path, column, table.fieldnames or [])
    return [row[column] for row in table if row[column]]


def _read_parquet(path: Path, column: str) -> list[str]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            f"`input` (={path}) needs pyarrow; pip install 'asrgan[parquet]', or give a CSV."
        ) from error
    file = parquet.ParquetFile(path)
    _check_column(path, column, file.schema_arrow.names)
    return [entry for entry in file.read([column])[column].to_pylist() if entry]


def _check_column(path: Path, column: str, columns: Sequence[str]) -> None:
    if column not in columns:
        raise UserError(
            f"`input` (={path}) has no column `{column}`; name one with column=: "
            f"{', '.join(columns)}."
        )


def _named(entry: str, folder: Path) -> tuple[Path, Path]:
    """An entry of a list: where it is, and its name below the output folder."""
    path = folder / entry
    name = Path(entry)
    if name.is_absolute() or ".." in name.parts:
        name = path.resolve()
        name = name.relative_to(name.anchor)
    return path, name


def _targets(names: Sequence[PurePosixPath], recipe: Recipe) -> list[PurePosixPath]:
    wanted = [recipe.target(name) for name in names]
    counts = Counter(wanted)
    return [
        target if counts[target] == 1 or target == name else PurePosixPath(f"{name}{target.suffix}")
        for name, target in zip(names, wanted, strict=True)
    ]


def _keep_originals(jobs: Sequence[Job], output: Path) -> None:
    folder_of = cache(Path.resolve)
    output = output.resolve()
    originals = {folder_of(job.source.parent) / job.source.name for job in jobs}
    for job in jobs:
        if output / job.target in originals:
            raise UserError(
                f"`output` (={output}) would put {job.target} in the place of an original; name"
                " another folder."
            )
