"""One job, stage by stage: read, enlarge, write."""

import errno
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO

from asrgan.errors import UserError
from asrgan.inference.enlarging import consistency_db, enlarge, enlarged_size
from asrgan.inference.jobs.folders import (
    Folder,
    folder_at,
    read_bytes,
    read_picture_at,
    stamp_of,
)
from asrgan.inference.jobs.listing import Job
from asrgan.inference.jobs.recipe import Recipe
from asrgan.inference.jobs.results import Result
from asrgan.inference.memory import PeakMemory
from asrgan.inference.upscaler import Upscaler
from asrgan.pictures import Picture, encode_picture, format_of

# Of the disk, not of one file: whatever comes next would fail as well.
_DISK_ERRORS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
)


class UnwritableFolderError(UserError):
    """A disk that is full or cannot be written: the end of all jobs."""


@dataclass
class Work:
    """A job on its way.

    Args:
        job: what is to be done.
        version: of the original.
        original: once it is read.
        enlarged: once it is enlarged.
        seconds: of each stage.
        peak_memory_mib: while it was in the network.
        consistency_db: once it is written.
        error: what ended it.
    """

    job: Job
    version: str = ""
    original: Picture | None = None
    enlarged: Picture | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    peak_memory_mib: int | None = None
    consistency_db: float | None = None
    error: str = ""

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Takes the time, and keeps an error for the table, so that other jobs go on."""
        start = time.perf_counter()
        try:
            yield
        except UnwritableFolderError:
            raise
        except UserError as error:
            self.error = str(error)
        except Exception as error:  # one strange file must not end a night of work
            place = traceback.extract_tb(error.__traceback__)[-1]
            self.error = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        finally:
            self.seconds[name] = time.perf_counter() - start


@dataclass(frozen=True)
class Worker:
    """Does jobs by a recipe. It can be sent to another machine before its first job.

    Args:
        recipe: how.
        recipe_id: for the table.
        output: path or address of the folder of the pictures.
        memory: see `Upscaler.from_file`.
        device: see `Upscaler.from_file`.
    """

    recipe: Recipe
    recipe_id: str
    output: str
    memory: str | int | None
    device: str

    @cached_property
    def upscaler(self) -> Upscaler:
        """The network, opened when it is first needed.

        Raises:
            UserError: the weights, the device or another value is none.
        """
        return Upscaler.from_file(
            self.recipe.weights,
            memory=self.memory,
            device=self.device,
            precision=self.recipe.precision,
            attention=self.recipe.attention,
        )

    @cached_property
    def folder(self) -> Folder:
        """Of the pictures."""
        return folder_at(self.output)

    def read(self, job: Job) -> Work:
        """Reads the original, and refuses it if its picture could not be written later."""
        work = Work(job)
        with work.stage("read"):
            work.version = str(stamp_of(job.source))
            original = read_picture_at(job.source)
            if original.num_frames > 1:
                raise UserError(
                    f"{job.source} holds {original.num_frames} pictures; give a file of one."
                )
            height, width = self._size(original)
            format_of(job.target).check(height=height, width=width, is_opaque=original.is_opaque)
            work.original = original
        return work

    def enlarge(self, work: Work) -> Work:
        """Takes the picture through the network, unless it is large enough already."""
        original = work.original
        if original is None:
            return work
        with work.stage("network"):
            size, bits = self._size(original), self._bits(work.job, original)
            if size == (original.height, original.width):
                work.enlarged = original.with_bits(bits)
            else:
                with PeakMemory(self.upscaler.device) as peak:
                    work.enlarged = enlarge(original, self.upscaler, size=size, bits=bits)
                work.peak_memory_mib = peak.mib
        return work

    def write(self, work: Work) -> Result:
        """Writes the picture; its row.

        Raises:
            UnwritableFolderError: the disk is full, or cannot be written.
        """
        job, original, enlarged = work.job, work.original, work.enlarged
        if original is not None and enlarged is not None:
            with work.stage("write"), _one_line_for_the_disk(self.folder.locate(job.target)):
                if enlarged.width != original.width:
                    work.consistency_db = consistency_db(enlarged, original)
                with self.folder.open(job.target) as file:
                    self._write(file, job, original, enlarged)
        return Result(
            input=job.name,
            output=job.target,
            width_px=original and original.width,
            height_px=original and original.height,
            output_width_px=None if work.error else enlarged and enlarged.width,
            output_height_px=None if work.error else enlarged and enlarged.height,
            read_s=work.seconds.get("read"),
            network_s=work.seconds.get("network"),
            write_s=work.seconds.get("write"),
            peak_memory_mib=work.peak_memory_mib,
            consistency_db=work.consistency_db,
            note="; ".join(self._notes(work)),
            error=work.error,
            input_version=work.version,
            recipe=self.recipe_id,
        )

    def _write(self, file: IO[bytes], job: Job, original: Picture, enlarged: Picture) -> None:
        format_ = format_of(job.target)
        if enlarged is original and job.source.lower().endswith(format_.suffixes):
            file.write(read_bytes(job.source))  # without another loss
        else:
            encode_picture(file, enlarged, format_, quality=self.recipe.quality)

    def _notes(self, work: Work) -> Generator[str]:
        original, enlarged = work.original, work.enlarged
        if original is None or enlarged is None or work.error:
            return
        yield from original.remarks
        format_ = format_of(work.job.target)
        if enlarged.bits < original.bits and self.recipe.bits is None:
            yield f"16 bits became 8, {format_.name} holds no more"
        if original.alpha is not None and not format_.holds_alpha:
            yield "its alpha, wholly opaque, was left out"
        reached = self.upscaler.scale * max(original.height, original.width)
        if enlarged.width == original.width:
            yield "large enough, not enlarged"
        elif max(enlarged.height, enlarged.width) > reached:
            yield f"the last step, from {reached} px, is bicubic interpolation"

    def _size(self, original: Picture) -> tuple[int, int]:
        scale, scale_to = self.upscaler.scale, self.recipe.scale_to
        return enlarged_size(original.height, original.width, scale=scale, scale_to=scale_to)

    def _bits(self, job: Job, original: Picture) -> int:
        return self.recipe.bits_of(original.bits, format_of(job.target))


@contextmanager
def _one_line_for_the_disk(path: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise UnwritableFolderError(
                f"{path} cannot be written: {error.strerror}. The same command goes on when it can."
            ) from error
        raise
