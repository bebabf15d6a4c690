"""Kills a study with -9 at random moments; its tables must be those of an undisturbed one.

    python benchmarks/study_kills.py FOLDER NAME [key=value ...] [-- key=value ...]

Runs the study NAME twice, into two folders below FOLDER: once undisturbed, and once with five
kills, each of the process of `asrgan study run` or of one of its trainings and evaluations.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

NUM_KILLS = 5
SEED = 1


def main() -> None:
    """Runs both, and says whether the tables are equal."""
    folder, words = Path(sys.argv[1]).absolute(), sys.argv[2:]
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    start_s = time.monotonic()
    if code := start(words, undisturbed).wait():
        sys.exit(f"the undisturbed study ended with exit code {code}")
    whole_s = time.monotonic() - start_s
    print(f"undisturbed: {whole_s:.0f} s", flush=True)
    dice = random.Random(SEED)
    for number in range(1, NUM_KILLS + 1):
        study = start(words, killed)
        wait_s = dice.uniform(0.04, 0.16) * whole_s  # what is done stays done
        with suppress(subprocess.TimeoutExpired):
            study.wait(wait_s)
            sys.exit(f"finished before kill {number}; take a longer study")
        commands = commands_of(killed)
        victim = dice.choice([study.pid, *commands])
        os.kill(victim, signal.SIGKILL)
        what = commands.get(victim, "asrgan study run")
        print(f"kill {number}, after {wait_s:.0f} s: {what}", flush=True)
        study.kill()
        study.wait()
    print(f"last start: exit code {start(words, killed).wait()}")
    for name in ("per_image.csv", "summary.csv"):
        is_equal = (undisturbed / name).read_bytes() == (killed / name).read_bytes()
        print(f"{name}: {'equal to the last digit' if is_equal else 'DIFFERENT'}")


def start(words: list[str], output_dir: Path) -> subprocess.Popen[bytes]:
    """Starts `asrgan study run`."""
    place = words.index("--") if "--" in words else len(words)
    given = [*words[:place], f"output_dir={output_dir}", *words[place:]]
    command = [sys.executable, "-m", "asrgan", "study", "run", *given]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def commands_of(output_dir: Path) -> dict[int, str]:
    """The trainings and evaluations that run in a study's folder: process -> what it does."""
    commands: dict[int, str] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().decode().split("\0")
            cells = [word for word in words if word.startswith(f"output_dir={output_dir}/")]
            if cells and words[2] == "asrgan":
                commands[int(process.name)] = f"{words[3]} {cells[0].removeprefix('output_dir=')}"
    return commands


if __name__ == "__main__":
    main()
