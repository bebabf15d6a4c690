"""One job, stage by stage: read, enlarge, write."""

import tempfile
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from asrgan.errors import UserError
from asrgan.files import DISK_ERRORS
from asrgan.hardware import find_device
from asrgan.inference.enlarging import consistency_db, enlarge, enlarged_size
from asrgan.inference.jobs.folders import (
    Folder,
    folder_at,
    is_remote,
    place_of,
    read_bytes,
    read_picture_at,
    stamp_of,
)
from asrgan.inference.jobs.listing import Job
from asrgan.inference.jobs.recipe import Recipe
from asrgan.inference.jobs.results import Result
from asrgan.inference.memory import MemoryBudgetError, PeakMemory, free_bytes
from asrgan.inference.upscaler import Upscaler
from asrgan.pictures import Picture, PictureHead, encode_picture, format_of, read_head

_DECODER_BYTES_PER_PX = 4  # Pillow keeps three channels as four


class UnwritableFolderError(UserError):
    """A disk that is full or cannot be written: the end of all jobs."""


class CrowdedError(UserError):
    """A picture that the memory allowed cannot hold beside other jobs."""


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
        except (UnwritableFolderError, CrowdedError):
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
        memory: see `Upscaler.from_file`; or ``auto``: most of what is free.
        device: see `Upscaler.from_file`.
        weights: what is in the recipe's file; None: it is on this machine.
    """

    recipe: Recipe
    recipe_id: str
    output: str
    memory: str | int | None
    device: str
    weights: bytes | None = None

    @cached_property
    def upscaler(self) -> Upscaler:
        """The network, opened when it is first needed.

        Raises:
            UserError: the weights, the device or another value is none.
        """
        return self._open_upscaler(self.recipe.precision)

    @cached_property
    def deep_upscaler(self) -> Upscaler:
        """The network for results of 16 bits, of which bfloat16 has 8."""
        precision = self.recipe.precision
        return self._open_upscaler("float32") if precision == "auto" else self.upscaler

    @cached_property
    def folder(self) -> Folder:
        """Of the pictures."""
        return folder_at(self.output)

    def read(self, job: Job) -> Work:
        """Reads the original, and refuses it if its picture could not be written later."""
        work = Work(job)
        with work.stage("read"):
            work.version = str(stamp_of(job.source))
            if not is_remote(job.source):
                self._check(job, read_head(job.source))  # before it takes any memory
            original = read_picture_at(job.source)
            if original.num_frames > 1:
                raise UserError(
                    f"{job.source} holds {original.num_frames} pictures; give a file of one."
                )
            height, width = self._size(original)
            format_of(job.target).check(height=height, width=width, is_opaque=original.is_opaque)
            work.original = original
        return work

    def enlarge(self, work: Work, *, caller_bytes: int = 0) -> Work:
        """Takes the picture through the network, unless it is large enough already.

        Args:
            work: after `read`.
            caller_bytes: of memory that other jobs will take meanwhile.

        Raises:
            CrowdedError: not beside the other jobs.
        """
        original = work.original
        if original is None:
            return work
        with work.stage("network"):
            size, bits = self._size(original), self._bits(work.job, original)
            if size == (original.height, original.width):
                work.enlarged = original.with_bits(bits)
            else:
                upscaler = self.deep_upscaler if bits == 16 else self.upscaler
                try:
                    with PeakMemory(upscaler.device) as peak:
                        work.enlarged = enlarge(
                            original, upscaler, size=size, bits=bits, caller_bytes=caller_bytes
                        )
                except MemoryBudgetError as error:
                    if caller_bytes:
                        raise CrowdedError(str(error)) from error
                    raise
                work.peak_memory_mib = peak.mib
        return work

    def write(self, work: Work) -> Result:
        """Writes the picture; its row.

        Raises:
            UnwritableFolderError: the disk is full, or cannot be written.
        """
        job, original, enlarged = work.job, work.original, work.enlarged
        if original is not None and enlarged is not None:
            with work.stage("write"), one_line_for_the_disk(self.folder.locate(job.target)):
                if not _is_of_same_size(enlarged, original):
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
            source=place_of(job.source),
            input_version=work.version,
            recipe=self.recipe_id,
        )

    def reading_bytes(self, job: Job) -> int:
        """What reading an original takes, at most."""
        try:
            head = read_head(job.source)
        except (UserError, OSError):  # its row will say so
            return 0
        bytes_per_px = _DECODER_BYTES_PER_PX + head.num_channels * head.num_bits // 8
        return head.height * head.width * bytes_per_px

    def writing_bytes(self, work: Work) -> int:
        """What writing a picture takes, beside what there is already, at most."""
        if work.enlarged is None:
            return 0
        working_bytes_per_px = format_of(work.job.target).working_bytes_per_px
        return work.enlarged.height * work.enlarged.width * working_bytes_per_px

    def _check(self, job: Job, head: PictureHead) -> None:
        """Refuses an original that cannot be enlarged and written within the memory."""
        height, width = self._size(head)
        if (height, width) == (head.height, head.width):
            return
        format_ = format_of(job.target)
        bits = self.recipe.bits_of(head.num_bits, format_)
        num_px = height * width if self.upscaler.device.type == "cpu" else 0
        self.upscaler.check(
            head.height,
            head.width,
            caller_bytes=num_px * head.num_channels * bits // 8,
            later_bytes=num_px * format_.working_bytes_per_px,
        )

    def _open_upscaler(self, precision: str) -> Upscaler:
        memory = self.memory
        if memory == "auto":
            memory = free_bytes(find_device(self.device))
        with self._weights_file() as path:
            upscaler = Upscaler.from_file(
                path,
                memory=memory,
                device=self.device,
                precision=precision,
                attention=self.recipe.attention,
            )
        upscaler.warm_up()  # before there is any picture
        return upscaler

    @contextmanager
    def _weights_file(self) -> Generator[str]:
        """The weights, here for a moment if they are no file of this machine."""
        if self.weights is None:
            yield self.recipe.weights
            return
        with tempfile.NamedTemporaryFile(suffix=Path(self.recipe.weights).suffix) as file:
            file.write(self.weights)
            file.flush()
            yield file.name

    def _write(self, file: IO[bytes], job: Job, original: Picture, enlarged: Picture) -> None:
        if _is_copied(job, original, enlarged):
            file.write(read_bytes(job.source))  # without another loss
        else:
            format_ = format_of(job.target)
            encode_picture(file, enlarged, format_, quality=self.recipe.quality)

    def _notes(self, work: Work) -> Generator[str]:
        original, enlarged = work.original, work.enlarged
        if original is None or enlarged is None or work.error:
            return
        format_ = format_of(work.job.target)
        if not _is_copied(work.job, original, enlarged):
            yield from original.remarks
            if original.exif is not None and format_.exif_of(enlarged) is None:
                yield f"its EXIF, more than {format_.name} holds, were left out"
        wanted_bits = self.recipe.bits or original.bits
        if enlarged.bits < wanted_bits:
            yield f"{wanted_bits} bits became {enlarged.bits}, {format_.name} holds no more"
        if original.alpha is not None and not format_.holds_alpha:
            yield "its alpha, wholly opaque, was left out"
        reached = self.upscaler.scale * max(original.height, original.width)
        if _is_of_same_size(enlarged, original):
            yield "large enough, not enlarged"
        elif max(enlarged.height, enlarged.width) > reached:
            yield f"the last step, from {reached} px, is bicubic interpolation"

    def _size(self, original: Picture | PictureHead) -> tuple[int, int]:
        scale, scale_to = self.upscaler.scale, self.recipe.scale_to
        return enlarged_size(original.height, original.width, scale=scale, scale_to=scale_to)

    def _bits(self, job: Job, original: Picture) -> int:
        return self.recipe.bits_of(original.bits, format_of(job.target))


def _is_of_same_size(enlarged: Picture, original: Picture) -> bool:
    return (enlarged.height, enlarged.width) == (original.height, original.width)


def _is_copied(job: Job, original: Picture, enlarged: Picture) -> bool:
    """Whether the picture is to be the original's file."""
    return enlarged is original and job.source.lower().endswith(format_of(job.target).suffixes)


@contextmanager
def one_line_for_the_disk(path: str) -> Generator[None]:
    """Turns what a disk refuses into an error of one line.

    Raises:
        UnwritableFolderError: the disk is full, or cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:  # whatever comes next would fail as well
            raise UnwritableFolderError(
                f"{path} cannot be written: {error.strerror}. The same command goes on when it can."
            ) from error
        raise
