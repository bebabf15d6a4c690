"""Kill, stop, starve and poison small trainings, and see that nothing is lost.

    python tests/fault_injection.py             everything, 20 kills: some ten minutes on 2 cores
    python tests/fault_injection.py --short     what CI runs

Each training is an A-SRGAN of a few iterations in a process of its own. Kill -9 comes at a random
count of Python calls between the first and the last of `trainer.fit`, every fourth within the
writing of a checkpoint; so the same seed kills at the same places. Every third resumed run is
killed again. In the end all files must hold what those of an undisturbed run hold.

Prints a line for each case and a tally; the exit code is 1 if a case failed.
"""

import argparse
import csv
import json
import logging
import multiprocessing
import os
import pkgutil
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import wandb
from omegaconf import OmegaConf
from safetensors.torch import load_file
from skimage import data
from torch import Tensor

from asrgan import train
from asrgan.configuration import compose
from asrgan.engine import Checkpoints, SuperResolution
from asrgan.errors import UserError
from asrgan.imaging import write_image
from asrgan.models import read_metadata

NUM_ITERATIONS = 12
SETTINGS = (
    "experiment=asrgan_x4",
    "size=small",
    "data.train=photographs/train",
    "data.validation=photographs/Val",
    "data.crop_size_px=32",
    "data.batch_size=2",
    "data.num_workers=0",
    "generator.num_features=8",
    "generator.num_blocks=1",
    "discriminator.num_features=8",
    f"max_iterations={NUM_ITERATIONS}",
    "validate_every=4",
    "checkpoint_every=3",
    "trainer.log_every=2",
    "trainer.sample_size_px=32",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
)
BATCH_OF_NAN = 5  # the iteration before it
EXIT_LIMIT_S = 30  # after SIGTERM

PROCESSES = multiprocessing.get_context("forkserver")  # imports once
Fault = Callable[[], None]


class LostError(Exception):
    """A resumed run that is not the undisturbed one; says where."""


# A training, in a process of its own


def run(output_dir: Path, overrides: Sequence[str], faults: Sequence[Fault]) -> None:
    """`asrgan train`, with its output in ``output_dir``.log; exits with 1 after a user's error."""
    os.setpgrp()
    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # of the loader, as everywhere
    sys.argv = ["asrgan"]
    with output_dir.with_suffix(".log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    for fault in faults:
        fault()
    config = compose("train", [*SETTINGS, *overrides])
    output_dir.mkdir(exist_ok=True)
    try:
        train.run(OmegaConf.create(config), output_dir)
    except UserError as error:
        print(f"asrgan: {error}", flush=True)
        sys.exit(1)
    finally:
        wandb.teardown()  # processes like this one end without it


def start(output_dir: Path, *overrides: str, faults: Sequence[Fault] = ()) -> Any:
    process = PROCESSES.Process(target=run, args=(output_dir, overrides, faults))
    process.start()
    return process


def finish(output_dir: Path, *overrides: str, faults: Sequence[Fault] = ()) -> int:
    process = start(output_dir, *overrides, faults=faults)
    process.join()
    return process.exitcode


def succeed(output_dir: Path, *overrides: str, faults: Sequence[Fault] = ()) -> None:
    code = finish(output_dir, *overrides, faults=faults)
    if code != 0:
        raise LostError(f"{output_dir.name} ended with code {code}: {told(output_dir)[-1500:]}")


def told(output_dir: Path) -> str:
    return output_dir.with_suffix(".log").read_text()


# Faults: what a process does to itself, before it trains


class Calls:
    """Counts the Python calls of `trainer.fit`; kills at one of them, or notes them all.

    Args:
        kill_at: the call which is the last one; None: none is.
        report: receives, as JSON, where it was killed, or all counts.
    """

    def __init__(self, *, kill_at: int | None, report: Path) -> None:
        self.kill_at = kill_at
        self.report = report
        self.count = 0
        self.writes: list[tuple[int, int]] = []

    def __call__(self) -> None:
        fit, save, init = pl.Trainer.fit, Checkpoints._save, wandb.init

        def counted_fit(*args: Any, **kwargs: Any) -> None:
            sys.setprofile(self._see)
            try:
                fit(*args, **kwargs)
            finally:
                sys.setprofile(None)
            counts = {"count": self.count, "writes": self.writes}
            self.report.write_text(json.dumps(counts))

        def noted_save(*args: Any, **kwargs: Any) -> None:
            before = self.count
            save(*args, **kwargs)
            self.writes.append((before, self.count))

        def uncounted_init(*args: Any, **kwargs: Any) -> Any:
            sys.setprofile(None)  # it calls far more than all iterations
            try:
                return init(*args, **kwargs)
            finally:
                sys.setprofile(self._see)

        pl.Trainer.fit = counted_fit
        wandb.init = uncounted_init
        Checkpoints._save = noted_save

    def _see(self, frame: FrameType, event: str, argument: object) -> None:
        del argument
        if not event.endswith("call"):
            return
        self.count += 1
        if self.count == self.kill_at:
            self.report.write_text(json.dumps(_describe(frame)))
            os.kill(os.getpid(), signal.SIGKILL)


def _describe(frame: FrameType | None) -> str:
    """Iteration and innermost function of asrgan, from a stack."""
    place, iteration, is_writing = "", None, False
    while frame is not None:
        modules = [v for v in frame.f_locals.values() if isinstance(v, SuperResolution)]
        iteration = modules[0].iteration if modules else iteration
        is_writing |= frame.f_code.co_name == "_save"
        if not place and "/asrgan/" in frame.f_code.co_filename:
            place = frame.f_code.co_qualname
        frame = frame.f_back
    return f"at iteration {iteration} in {place}" + (", within a checkpoint" if is_writing else "")


def poison() -> None:
    """One batch is not finite."""
    step = SuperResolution._step_generator

    def poisoned(self: SuperResolution, sr_image: Tensor, hr_image: Tensor) -> Any:
        broken = hr_image * float("nan") if self.iteration == BATCH_OF_NAN else hr_image
        return step(self, sr_image, broken)

    SuperResolution._step_generator = poisoned


class Slow:
    """A function takes seconds more; a file appears with its first call.

    Args:
        owner: module or class of the function, by its full name.
        name: the function's.
        marker: the file.
    """

    def __init__(self, owner: str, name: str, marker: Path) -> None:
        self.owner, self.name, self.marker = owner, name, marker

    def __call__(self) -> None:
        owner = pkgutil.resolve_name(self.owner)
        function = getattr(owner, self.name)

        def slow(*args: Any, **kwargs: Any) -> Any:
            self.marker.touch()
            time.sleep(EXIT_LIMIT_S / 4)
            return function(*args, **kwargs)

        setattr(owner, self.name, slow)


class FullDisk:
    """The disk has no room for a checkpoint from an iteration on."""

    def __init__(self, filler: Path, *, iteration: int) -> None:
        self.filler, self.iteration = filler, iteration

    def __call__(self) -> None:
        train_step = SuperResolution.training_step

        def filling(module: SuperResolution, *args: Any) -> None:
            if module.iteration == self.iteration:
                free = os.statvfs(self.filler.parent)
                room_for_a_row = 64 * 1024
                self.filler.write_bytes(bytes(free.f_bavail * free.f_frsize - room_for_a_row))
            train_step(module, *args)

        SuperResolution.training_step = filling


# What is compared


def require_equal(one: Path, other: Path) -> None:
    """Every file of one run holds what that of the other holds."""
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (
            torch.load(folder / "checkpoints" / name, weights_only=True) for folder in (one, other)
        )
        for checkpoint in (ours, theirs):
            del checkpoint["global_step"]  # Lightning's, of this process; nothing reads it
        _require_same(ours, theirs, name)
    for name, read in {
        "generator.safetensors": _generator,
        "metrics.csv": _rows,
        "samples": _pictures,
        "tensorboard": _events,
        "wandb": _history,
    }.items():
        if (one / name).exists():
            _require_same(read(one / name), read(other / name), name)
    unfinished = [path.relative_to(other) for path in other.glob("**/.*")]
    if unfinished:
        raise LostError(f"left behind: {unfinished}")


def _require_same(ours: Any, theirs: Any, place: str) -> None:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if list(ours) != list(theirs):
            raise LostError(f"{place} has {list(theirs)}, not {list(ours)}")
        for key in ours:
            _require_same(ours[key], theirs[key], f"{place}[{key!r}]")
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            raise LostError(f"{place} has {len(theirs)} entries, not {len(ours)}")
        for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            _require_same(our, their, f"{place}[{number}]")
    elif isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        if ours.dtype != theirs.dtype or not torch.equal(ours, theirs):
            raise LostError(f"{place} differs")
    elif ours != theirs:
        raise LostError(f"{place} is {theirs}, not {ours}")


def _generator(path: Path) -> dict[str, Any]:
    return load_file(path) | {"iteration": read_metadata(path)["recipe"]["iteration"]}


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return [_reproducible(row) for row in csv.DictReader(file)]


def _reproducible(row: dict[str, Any]) -> dict[str, Any]:
    """Without speed and memory, W&B's times, and its names of pictures."""
    left_out = ("train/images_per_s", "train/peak_memory_mib", "_", "val/samples/path")
    return {name: row[name] for name in sorted(row) if not name.startswith(left_out)}


def _pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _events(folder: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    tags = events.Tags()
    values = {t: [(e.step, e.value) for e in events.Scalars(t)] for t in sorted(tags["scalars"])}
    return _reproducible(values) | {t: [e.step for e in events.Images(t)] for t in tags["images"]}


def _history(folder: Path) -> list[dict[str, Any]]:
    """The rows of all offline runs together, from W&B's file: records in LevelDB's log format."""
    from wandb.proto import wandb_internal_pb2

    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        content, position, parts = path.read_bytes(), 7, b""
        while position + 7 <= len(content):
            if 32768 - position % 32768 < 7:  # the rest of a block, too short for a head
                position += 32768 - position % 32768
                continue
            length, kind = struct.unpack_from("<HB", content, position + 4)
            parts += content[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # whole, or its last part
                record = wandb_internal_pb2.Record()
                record.ParseFromString(parts)
                parts = b""
                if record.WhichOneof("record_type") == "history":
                    items = record.history.item
                    row = {"/".join(i.nested_key): json.loads(i.value_json) for i in items}
                    rows.append(_reproducible(row))
    return rows


# The cases


def kills(folder: Path, *, number: int, seed: int, loggers: str) -> Iterator[tuple[str, str]]:
    """Kill -9 at random moments."""
    overrides = (f"logger={loggers}", "resume=true")
    whole = folder / "undisturbed"
    succeed(whole, *overrides, faults=[Calls(kill_at=None, report=folder / "calls.json")])
    calls = json.loads((folder / "calls.json").read_text())
    choice = random.Random(seed)
    for case in range(number):
        output_dir, report = folder / f"kill{case}", folder / f"kill{case}.json"
        kill_at = choice.randint(1, calls["count"])
        if case % 4 == 0:
            kill_at = choice.randint(*choice.choice(calls["writes"]))
        places: list[str] = []
        with verdict() as words:
            while kill_at is not None:
                fault = Calls(kill_at=kill_at, report=report)
                code = finish(output_dir, *overrides, faults=[fault])
                if code != -signal.SIGKILL and (code != 0 or not places):
                    raise LostError(f"was not killed, but ended with code {code}")
                if code == 0:
                    break  # a resumed run that was over sooner
                places.append(json.loads(report.read_text()))
                is_once_more = case % 3 == 0 and len(places) == 1
                kill_at = choice.randint(1, calls["count"] // 2) if is_once_more else None
            succeed(output_dir, *overrides)
            require_equal(whole, output_dir)
        yield f"kill -9 {'; again '.join(places)}", words[0]


def signals(folder: Path) -> Iterator[tuple[str, str]]:
    """SIGTERM to all processes of a training, wherever it is."""
    overrides = ("data.num_workers=1", "resume=true")
    whole = folder / "undisturbed"
    succeed(whole, *overrides)
    for name, place in {
        "an iteration": None,
        "a validation": ("asrgan.engine:SuperResolution", "validation_step"),
        "the start of the loader": ("asrgan.data.module", "_start_worker"),
        "the writing of a checkpoint": ("asrgan.engine:Checkpoints", "_save"),
    }.items():
        output_dir, marker = folder / name.replace(" ", "_"), folder / f"{name}.begun"
        faults = [] if place is None else [Slow(*place, marker)]
        begun = output_dir / "metrics.csv" if place is None else marker
        process = start(output_dir, *overrides, faults=faults)
        with verdict() as words:
            while not begun.exists() and process.is_alive():
                time.sleep(0.01)
            if not process.is_alive():
                raise LostError(f"ended with code {process.exitcode}: {told(output_dir)[-500:]}")
            os.killpg(process.pid, signal.SIGTERM)
            sent_s = time.monotonic()
            process.join()
            exit_s = time.monotonic() - sent_s
            if exit_s > EXIT_LIMIT_S:
                raise LostError(f"took {exit_s:.0f} s to exit")
            text = told(output_dir)
            has_begun = (output_dir / "metrics.csv").exists()  # else there is nothing to save
            if has_begun and "resume=true goes on" not in text:
                raise LostError(f"did not say that it saved: {text[-500:]}")
            succeed(output_dir, *overrides)
            require_equal(whole, output_dir)
            words.append(f"; exit after {exit_s:.1f} s")
        yield f"SIGTERM in {name}", "".join(words)


def full_disk(folder: Path) -> Iterator[tuple[str, str]]:
    """A disk of some MiB that has no room for the third checkpoint."""
    whole = folder / "undisturbed"
    succeed(whole, "resume=true")
    with small_disk(folder / "disk") as disk, verdict() as words:
        output_dir, filler = disk / "run", disk / "filler"
        code = finish(output_dir, "resume=true", faults=[FullDisk(filler, iteration=7)])
        text = told(output_dir)
        expected = "(No space left on device); the last good checkpoint is of iteration 6"
        if code != 1 or expected not in text:
            raise LostError(f"ended with code {code}: {text[-500:]}")
        filler.unlink()
        succeed(output_dir, "resume=true")
        require_equal(whole, output_dir)
    yield "full disk at a checkpoint", words[0]


@contextmanager
def small_disk(disk: Path) -> Iterator[Path]:
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


# The disk is full for the first process, which alone writes.
OF_TWO = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from asrgan import cli
from asrgan.engine import launching
from fault_injection import FullDisk

def note(child, end=launching._end):
    end(child)
    Path("code").write_text(str(child.returncode))

launching._end = note
if "RANK" not in os.environ and {is_faulty}:
    FullDisk(Path("disk/filler"), iteration=7)()
cli.main()
"""


def full_disk_of_two(folder: Path) -> Iterator[tuple[str, str]]:
    """Two processes, and a disk that has no room for the third checkpoint."""
    settings = [s.replace("photographs", "../photographs") for s in SETTINGS]

    def run_two(output_dir: str, *, is_faulty: bool) -> tuple[int, str]:
        tests = str(Path(__file__).resolve().parent)
        (folder / "two.py").write_text(OF_TWO.format(tests=tests, is_faulty=is_faulty))
        command = [sys.executable, "two.py", "train", *settings, "devices=2", "resume=true"]
        done = subprocess.run(
            [*command, f"output_dir={output_dir}"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stdout

    with small_disk(folder / "disk") as disk, verdict() as words:
        code, text = run_two("whole", is_faulty=False)
        begun_s = time.monotonic()
        code, text = (code, text) if code else run_two("disk/run", is_faulty=True)
        lasted_s = time.monotonic() - begun_s
        expected = "(No space left on device); the last good checkpoint is of iteration 6"
        second = int((folder / "code").read_text())
        if code != 2 or second == 0 or expected not in text:
            raise LostError(f"ended with codes {code} and {second}: {text[-500:]}")
        (disk / "filler").unlink()
        resumed_code, text = run_two("disk/run", is_faulty=False)
        if resumed_code != 0:
            raise LostError(f"ended with code {resumed_code}: {text[-500:]}")
        require_equal(folder / "whole", disk / "run")
        words.append(f"; codes {code} and {second}, {lasted_s:.0f} s after the start")
    yield "full disk of the first of two processes", "".join(words)


def nonfinite(folder: Path, *, seed: int) -> Iterator[tuple[str, str]]:
    """A loss that is not a number ends the run, or its batch is left out."""
    with verdict() as words:
        code = finish(folder / "stop", "resume=true", faults=[poison])
        text = told(folder / "stop")
        if code != 1 or f"is no longer finite (nan) at iteration {BATCH_OF_NAN + 1}" not in text:
            raise LostError(f"ended with code {code}: {text[-500:]}")
        succeed(folder / "whole", "resume=true")
        succeed(folder / "stop", "resume=true")
        require_equal(folder / "whole", folder / "stop")
    yield "a loss that is not finite stops, and nothing of it was saved", words[0]

    overrides = ("on_nonfinite=skip", "resume=true")
    with verdict() as words:
        report = folder / "calls.json"
        succeed(
            folder / "skipping", *overrides, faults=[poison, Calls(kill_at=None, report=report)]
        )
        if _rows(folder / "skipping" / "metrics.csv")[-2]["train/skipped"] != "1":
            raise LostError("the skipped batch was not counted")
        count = json.loads(report.read_text())["count"]
        fault = Calls(kill_at=random.Random(seed).randint(count // 2, count), report=report)
        code = finish(folder / "killed", *overrides, faults=[poison, fault])
        if code != -signal.SIGKILL:
            raise LostError(f"was not killed, but ended with code {code}")
        succeed(folder / "killed", *overrides, faults=[poison])
        require_equal(folder / "skipping", folder / "killed")
    yield f"a batch is skipped, and the run killed {json.loads(report.read_text())}", words[0]


@contextmanager
def verdict() -> Iterator[list[str]]:
    """A list of words on a case: ``equal`` first, or what went wrong alone."""
    words: list[str] = ["equal"]
    try:
        yield words
    except LostError as error:
        words[:] = [f"LOST: {error}"]
    except Exception:
        words[:] = [f"LOST: {traceback.format_exc()}"]


def main() -> int:
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells what it purges
    # Semaphores of killed processes are nobody's to clean up but the tracker's.
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true", help="3 kills, the CSV file, and NaN")
    parser.add_argument("--only", help="a group of cases")
    arguments = parser.parse_args()
    PROCESSES.set_forkserver_preload(["asrgan.train", "skimage.data", "wandb"])
    failed = num_cases = 0
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        sources = {"coffee": data.coffee(), "rocket": data.rocket(), "astronaut": data.astronaut()}
        for source, picture in sources.items():
            write_image(Path("photographs/train") / f"{source}.png", picture[100:164, 200:272])
        for corner in (40, 120, 200):
            crop = data.chelsea()[100:140, corner : corner + 48]
            write_image(Path("photographs/Val") / f"{corner}.png", crop)
        number, loggers = arguments.kills, "[wandb,tensorboard]"
        if arguments.short:
            number, loggers = 3, "tensorboard"
        groups = [
            ("kills", lambda f: kills(f, number=number, seed=arguments.seed, loggers=loggers)),
            ("nonfinite", lambda f: nonfinite(f, seed=arguments.seed)),
        ]
        if not arguments.short:
            groups.append(("signals", signals))
            if os.geteuid() == 0:
                groups += [("full_disk", full_disk), ("full_disk_of_two", full_disk_of_two)]
            else:
                print("     full disks: left out, since only root can mount a small one")
        for group, cases in groups:
            if arguments.only not in (None, group):
                continue
            folder = Path(name) / group
            folder.mkdir()
            for case, words in cases(folder):
                num_cases += 1
                failed += words.startswith("LOST")
                print(f"{num_cases:3}  {case}: {words}", flush=True)
    print(f"{num_cases} cases, {num_cases - failed} equal to the undisturbed run, {failed} not.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
