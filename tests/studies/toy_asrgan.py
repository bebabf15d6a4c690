"""Stands in for `asrgan`: counts to max_iterations, and scores what it has counted to.

Like the real one it keeps a checkpoint, goes on from it, saves when it is asked to stop, and ends
with one line and an exit code where something is wrong. Unlike it, it writes down each step, and
does not work where somebody else does.
"""

import fcntl
import hashlib
import os
import signal
import sys
import time
from pathlib import Path

settings: dict[str, str] = {}
folder = Path()


def write(name: str, text: str) -> None:
    (folder / f".{name}").write_text(text, encoding="utf-8")
    (folder / f".{name}").replace(folder / name)


def append(name: str, text: str) -> None:
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def train() -> None:
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        asked.append(number)
        append("signals.txt", str(number))

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGUSR1, ask)
    work_place = (folder / "work_place").open("w")
    fcntl.flock(work_place, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error if it is taken
    checkpoint = folder / "checkpoint.txt"
    begun = checkpoint.read_text(encoding="utf-8") if checkpoint.exists() else "0 start"
    iteration, state = int(begun.split()[0]), begun.split()[1]
    append("starts.txt", f"{iteration} {os.environ.get('OMP_NUM_THREADS', '')}")
    while iteration < int(settings["max_iterations"]):
        time.sleep(float(settings.get("step_s", 0)))
        while Path(settings.get("hold", "/nowhere")).exists():
            time.sleep(0.01)
        iteration += 1
        state = hashlib.sha256(f"{state} {settings['seed']}".encode()).hexdigest()[:8]
        append("steps.txt", str(iteration))
        if iteration == int(settings.get("diverge_at", -1)):
            sys.exit("asrgan: `loss` is no longer finite (nan) at iteration 3.")
        if iteration == int(settings.get("crash_at", -1)):
            raise ZeroDivisionError("a bug")
        if iteration == int(settings.get("killed_at", -1)) and begun == "0 start":
            os.kill(os.getpid(), signal.SIGKILL)
        if iteration == int(settings.get("preempted_at", -1)) and begun == "0 start":
            os.kill(os.getpid(), signal.SIGUSR1)
        if iteration % 2 == 0 or asked:
            write("checkpoint.txt", f"{iteration} {state}")
        if asked:
            sys.exit(75 if signal.SIGUSR1 in asked else 130)
    write("generator.safetensors", state)
    write("metrics.csv", f"iteration,val/Set5/psnr_y_db\n{iteration},20.5\n")
    write("config.yaml", "")


def evaluate() -> None:
    model, _, file = settings["models"].strip("[]").partition(":")
    score = int(Path(file).read_text(encoding="utf-8"), base=16) / 2**32
    append("evaluations.txt", model)
    write("per_image.csv", f"model,benchmark,image,psnr_y_db\n{model},Set5,a,{score}\n")
    if score < float(settings.get("require", 0)):
        sys.exit(f"asrgan: psnr_y_db is {score}.")


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    settings |= (word.split("=", maxsplit=1) for word in words)
    folder = Path(settings["output_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    {"train": train, "evaluate": evaluate}[verb]()
