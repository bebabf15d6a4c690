"""From a folder of photographs to a prepared folder, in steps that outlive a kill."""

import csv
import hashlib
import io
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from asrgan.data.duplicates import HeldOut
from asrgan.data.shards import (
    FORMAT,
    MANIFEST,
    TILE,
    TILES,
    UNFINISHED,
    read_manifest,
    write_shard,
)
from asrgan.data.storage import ShardFile
from asrgan.data.tiles import Tile, Tiling
from asrgan.errors import UnreadableImageError, UserError
from asrgan.files import are_apart, atomic_path, listing_digest
from asrgan.imaging import find_images, to_rgb
from asrgan.pictures import read_picture

PHOTOGRAPHS = "photographs.csv"
REJECTED = "rejected.csv"
_PLAN = "plan.json"
_LOCK = ".asrgan-lock"
_BYTES_PER_MIB = 2**20


@dataclass(frozen=True)
class _Result:
    """What became of a photograph.

    Args:
        number: its place in the order of work.
        height: px, after the reduction.
        width: px.
        tiles: how many were written.
        flat: tiles that were left out.
        reason: why it is not used; empty if it is.
    """

    number: int
    height: int = 0
    width: int = 0
    tiles: int = 0
    flat: int = 0
    reason: str = ""


@dataclass(frozen=True)
class _Record:
    """A finished shard: the file, its rows of the table, the photographs up to its end."""

    shard: ShardFile
    tiles: NDArray[np.void]
    results: list[_Result]

    def write(self, path: Path) -> None:
        content = {
            "shard": asdict(self.shard),
            "tiles": self.tiles.tolist(),
            "results": [asdict(result) for result in self.results],
        }
        _write(path, json.dumps(content).encode())

    @classmethod
    def read(cls, path: Path) -> "_Record":
        content = json.loads(path.read_bytes())
        return cls(
            shard=ShardFile(**content["shard"]),
            tiles=np.array([tuple(row) for row in content["tiles"]], TILE),
            results=[_Result(**result) for result in content["results"]],
        )


class Preparation:
    """A folder of photographs on its way into shards.

    Photographs are taken in the order of their names' hashes, so that each shard holds a sample of
    all. A shard appears once it is whole, and a record of it after that: a run that was killed goes
    on behind the last record. What comes out depends on the photographs and the settings alone.

    Args:
        input_dir: of the photographs.
        output_dir: empty, or what an earlier run with the same arguments has left.
        tiling: how photographs become tiles.
        shard_mib: a shard is closed when it holds so much.
        held_out: folders whose pictures must not be trained on.
        held_out_bits: see `HeldOut`.
        num_workers: threads; None: as many as there are cores.

    Attributes:
        num_photographs: files that look like one.

    Raises:
        UserError: folders that do not fit, an output that belongs to other data, or no photographs.
    """

    def __init__(
        self,
        input_dir: Path | str,
        output_dir: Path | str,
        *,
        tiling: Tiling,
        shard_mib: float,
        held_out: Sequence[Path | str],
        held_out_bits: int,
        num_workers: int | None,
    ) -> None:
        if num_workers is not None and num_workers < 1:
            raise UserError(f"`num_workers` (={num_workers}) must be at least 1, or null.")
        if shard_mib <= 0:
            raise UserError(f"`shard_mib` (={shard_mib}) must be positive.")
        self._input_dir, self._output_dir = Path(input_dir), Path(output_dir)
        _check_apart(self._input_dir, self._output_dir)
        self._tiling = tiling
        self._shard_bytes = shard_mib * _BYTES_PER_MIB
        self._held_out_dirs = held_out
        self._held_out_bits = held_out_bits
        self._num_workers = num_workers or os.cpu_count() or 1
        self._passed_over: list[tuple[str, str]] = []
        paths = find_images(
            self._input_dir,
            report=lambda path, reason: self._passed_over.append((self._name(path), reason)),
            skip_closed=True,
        )
        if not paths:
            raise UserError(f"no image files in {input_dir} or below it; give photographs.")
        self._paths = sorted(paths, key=lambda path: _digest(self._name(path)))
        self.num_photographs = len(paths)
        self._records: list[_Record] = []
        self._plan: dict[str, Any] = {
            "format": FORMAT,
            "settings": {
                **asdict(tiling),
                "shard_mib": shard_mib,
                "held_out_bits": held_out_bits,
            },
            "input": _describe(self._input_dir, paths),
            "held_out": [
                {"name": Path(folder).resolve().name, **_describe(folder, find_images(folder))}
                for folder in held_out
            ],
        }
        if (manifest := self.manifest) is not None:
            self._check_same(manifest)

    @property
    def manifest(self) -> dict[str, Any] | None:
        """Of the finished output; None before."""
        path = self._output_dir / MANIFEST
        return read_manifest(path.read_bytes()) if path.is_file() else None

    @property
    def num_done(self) -> int:
        """Photographs that are done with."""
        return self._records[-1].results[-1].number + 1 if self._records else 0

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Keeps other processes off the output, and takes up what an earlier run has left.

        Raises:
            UserError: another process is at work, or the output holds something else.
        """
        self._output_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._output_dir / _LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise UserError(
                f"another `asrgan prepare` is writing to {self._output_dir}; wait for its end, or"
                " take another output."
            ) from error
        try:
            self._take_up()
            yield
        finally:
            (self._output_dir / _LOCK).unlink(missing_ok=True)
            lock.release()

    def run(self, *, progress: Callable[[], object]) -> None:
        """Writes what is missing, the manifest last.

        Args:
            progress: called after each photograph.

        Raises:
            UserError: no photograph can be used, or the disk is full; what is written stays, and
                another run goes on from there.
        """
        pending: list[tuple[_Result, Sequence[Tile]]] = []
        num_bytes = 0
        with closing(self._cut_all()) as outcomes:
            for result, tiles in outcomes:
                pending.append((result, tiles))
                num_bytes += sum(len(tile.content) for tile in tiles)
                if num_bytes >= self._shard_bytes:
                    self._finish_shard(pending)
                    pending, num_bytes = [], 0
                progress()
        if num_bytes:
            self._finish_shard(pending)
            pending = []
        self._finish([result for result, _ in pending])

    # Photographs

    def _cut_all(self) -> Generator[tuple[_Result, Sequence[Tile]]]:
        """In order, a few at a time."""
        held_out = HeldOut(self._held_out_dirs, max_bits=self._held_out_bits)
        waiting: deque[Future[tuple[_Result, Sequence[Tile]]]] = deque()
        # Decoders and encoders release the interpreter lock.
        with ThreadPoolExecutor(self._num_workers) as threads:
            try:
                for number in range(self.num_done, self.num_photographs):
                    waiting.append(threads.submit(self._cut, number, held_out))
                    if len(waiting) > 2 * self._num_workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _cut(self, number: int, held_out: HeldOut) -> tuple[_Result, Sequence[Tile]]:
        path = self._paths[number]
        try:
            picture = read_picture(path)
        except UnreadableImageError as error:
            return _Result(number, reason=str(error).removeprefix(f"{path} ").rstrip(".")), ()
        except OSError as error:
            raise UserError(
                f"{path} cannot be read now ({error.strerror or error}); the same command goes on"
                " from here."
            ) from error
        except MemoryError as error:
            raise UserError(
                f"{path} has no room in memory beside {self._num_workers - 1} others; try"
                " num_workers=1, or remove it. The same command goes on from here."
            ) from error
        if picture.num_frames > 1:
            reason = f"holds {picture.num_frames} frames; save the one that is meant"
            return _Result(number, reason=reason), ()
        image = to_rgb(picture)
        if reason := held_out.find(image, path=path):
            return _Result(number, reason=reason), ()
        image = self._tiling.reduce(image)
        height, width = image.shape[:2]
        size = {"height": height, "width": width}
        if min(height, width) < self._tiling.minimum_size_px:
            reason = f"is too small: {width}x{height} < {self._tiling.minimum_size_px} px"
            return _Result(number, **size, reason=reason), ()
        tiles, num_flat = self._tiling.cut(image, name=self._name(path))
        reason = "" if tiles else f"is flat: all its {num_flat} tiles"
        return _Result(number, **size, tiles=len(tiles), flat=num_flat, reason=reason), tiles

    def _name(self, path: Path) -> str:
        return path.relative_to(self._input_dir).as_posix()

    # State

    def _take_up(self) -> None:
        state = self._output_dir / UNFINISHED
        plan_path = state / _PLAN
        if plan_path.is_file():
            self._check_same(json.loads(plan_path.read_bytes()))
        else:
            others = {path.name for path in self._output_dir.iterdir()} - {_LOCK, UNFINISHED}
            if others:
                raise UserError(
                    f"`output` (={self._output_dir}) holds other files ({min(others)}); give an"
                    " empty or a new folder."
                )
            _write(plan_path, json.dumps(self._plan).encode())
        for name in ("shard-*", TILES, PHOTOGRAPHS, REJECTED, MANIFEST):
            half_written = f".{Path(name).stem}.*{Path(name).suffix}"
            for path in self._output_dir.glob(half_written):
                path.unlink()
        self._records = []
        while (path := self._record_path(len(self._records))).is_file():
            record = _Record.read(path)
            shard = self._output_dir / record.shard.name
            if not shard.is_file() or shard.stat().st_size != record.shard.bytes:
                break
            self._records.append(record)

    def _record_path(self, number: int) -> Path:
        return self._output_dir / UNFINISHED / f"shard-{number:05d}.json"

    def _check_same(self, before: Mapping[str, Any]) -> None:
        for key, value in self._plan["settings"].items():
            if (earlier := before["settings"].get(key)) != value:
                raise UserError(
                    f"`{key}` was {earlier} and is {value}, so {self._output_dir} would become"
                    " other data; take the earlier value, or another output."
                )
        for key in ("input", "held_out"):
            if before[key] != self._plan[key]:
                raise UserError(
                    f"`{key}` has other files than {self._output_dir} was made of; put back what"
                    " has changed, or take another output."
                )

    # Output

    def _finish_shard(self, outcomes: Sequence[tuple[_Result, Sequence[Tile]]]) -> None:
        number = len(self._records)
        path = self._output_dir / f"shard-{number:05d}.tar"
        tiles = ((result.number, tile) for result, tiles in outcomes for tile in tiles)
        with self._explaining_disk():
            with atomic_path(path) as temporary:
                rows = write_shard(temporary, tiles, number=number, suffix=self._tiling.tile_format)
                with temporary.open("rb") as file:
                    checksum = hashlib.file_digest(file, "sha256").hexdigest()
            shard = ShardFile(path.name, path.stat().st_size, len(rows), checksum)
            record = _Record(shard, rows, [result for result, _ in outcomes])
            record.write(self._record_path(number))
        self._records.append(record)

    def _finish(self, last_results: Sequence[_Result]) -> None:
        results = [result for record in self._records for result in record.results]
        results += last_results
        used = [result for result in results if not result.reason]
        rejected = [(self._name(self._paths[r.number]), r.reason) for r in results if r.reason]
        rejected = sorted(rejected + self._passed_over)
        with self._explaining_disk():
            _write(self._output_dir / REJECTED, _csv(("path", "reason"), rejected))
        if not used:
            raise UserError(
                f"none of the {self.num_photographs} photographs in {self._input_dir} can be used;"
                f" {self._output_dir / REJECTED} says why."
            )
        rows = np.concatenate([record.tiles for record in self._records])
        table = io.BytesIO()
        np.save(table, rows)
        photographs = [
            (r.number, self._name(self._paths[r.number]), r.height, r.width, r.tiles, r.flat)
            for r in used
        ]
        shards = [record.shard for record in self._records]
        tiles_sha256 = hashlib.sha256(table.getvalue()).hexdigest()
        content = "".join(shard.sha256 for shard in shards) + tiles_sha256
        sides = np.minimum(rows["height"], rows["width"])
        manifest = {
            **self._plan,
            "content_sha256": _digest(content),
            "photographs": {"used": len(used), "rejected": len(rejected)},
            "tiles": {
                "count": len(rows),
                "bytes": int(rows["size"].sum()),
                "flat_left_out": sum(result.flat for result in results),
                "shortest_side_px": [int(sides.min()), int(sides.max())],
                "sha256": tiles_sha256,
            },
            "shards": [asdict(shard) for shard in shards],
        }
        head = ("number", "path", "height", "width", "tiles", "flat")
        with self._explaining_disk():
            _write(self._output_dir / TILES, table.getvalue())
            _write(self._output_dir / PHOTOGRAPHS, _csv(head, photographs))
            text = json.dumps(manifest, indent=2) + "\n"
            _write(self._output_dir / MANIFEST, text.encode())
        shutil.rmtree(self._output_dir / UNFINISHED)

    @contextmanager
    def _explaining_disk(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self._output_dir} could not be written ({error.strerror or error}); see to it,"
                " and the same command goes on from here."
            ) from error


def _check_apart(input_dir: Path, output_dir: Path) -> None:
    if not are_apart(input_dir, output_dir):
        raise UserError(
            f"`input` (={input_dir}) and `output` (={output_dir}) must lie outside of each other."
        )


def _describe(folder: Path | str, paths: Sequence[Path]) -> dict[str, object]:
    return {
        "files": len(paths),
        "bytes": sum(path.stat().st_size for path in paths),
        "names_and_sizes_sha256": listing_digest(folder, paths),
    }


def _digest(text: str) -> str:
    # Names of files may be no text.
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode(errors="surrogateescape")


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
