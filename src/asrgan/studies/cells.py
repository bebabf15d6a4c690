"""One cell of a study, from whatever state it is in to the end."""

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from asrgan.errors import SAVED_CODES
from asrgan.files import file_digest, remove_unfinished
from asrgan.studies.folder import (
    EVALUATED_FILES,
    TRAINED_FILES,
    Attempt,
    CellFolder,
    CellPlan,
    CellState,
    Step,
)
from asrgan.subprocesses import start_bound

ASRGAN = (sys.executable, "-m", "asrgan")
_POLL_S = 0.2
_HEARTBEAT_S = 10.0  # hours are known as finely as this after a kill
_FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGKILL)
# Of a run that saved its state when it was asked to stop, or was killed before it could.
_INTERRUPTED = (*SAVED_CODES, *(-number for number in _FROM_OUTSIDE))


@dataclass(frozen=True, kw_only=True)
class Share:
    """What of the machine a cell may use.

    Attributes:
        cores: empty: all, and as many threads as torch likes.
        gpus: as ``CUDA_VISIBLE_DEVICES`` names them; None: as they are.
    """

    cores: Sequence[int] = ()
    gpus: Sequence[str] | None = None

    def environment(self, *, num_processes: int) -> dict[str, str]:
        """Variables for a command of ``num_processes`` processes.

        A smaller number of threads in ``OMP_NUM_THREADS`` is kept.
        """
        variables: dict[str, str] = {}
        if self.cores:
            threads = max(1, len(self.cores) // num_processes)
            asked = os.environ.get("OMP_NUM_THREADS", "")
            variables["OMP_NUM_THREADS"] = str(
                min(threads, int(asked)) if asked.isdecimal() else threads
            )
        if self.gpus is not None:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return variables


def run_cell(
    cell: CellFolder,
    *,
    share: Share = Share(),
    stop: threading.Event | None = None,
    program: Sequence[str] = ASRGAN,
) -> None:
    """Trains and evaluates as the cell's plan says, each in a fresh process; writes its state.

    What is done is not done again, and what was interrupted goes on from its last checkpoint. A
    cell that another process works on is left to it. A failure is noted, not raised.

    Args:
        cell: with its plan written.
        share: of the machine.
        stop: once set, the process is asked to save and end.
        program: the command ``asrgan``.
    """
    if not cell.lock.acquire():
        return
    try:
        if cell.is_finished():
            return
        plan = cell.plan()
        assert plan is not None
        # From here on the tables may be half written, or a new training's.
        state = replace(cell.state(), failure=None, evaluated=None, evaluation=None)
        for folder in (cell.folder, cell.folder / "evaluation"):
            remove_unfinished(folder)
        stop = stop or threading.Event()
        steps = _Steps(cell, plan, share=share, stop=stop, program=program)
        if plan.train and state.trained is None:
            state = steps.run("train", [*plan.train, "resume=true"], state)
            if not steps.is_done:
                return
            state = replace(state, trained=_digests(cell.folder, TRAINED_FILES))
            cell.write_state(state)
        if stop.is_set():
            return
        state = steps.run("evaluate", plan.evaluate, state)
        if steps.is_done:
            evaluated = _digests(cell.folder, EVALUATED_FILES)
            cell.write_state(replace(state, evaluated=evaluated, evaluation=plan.evaluation))
    finally:
        cell.lock.release()


class _Steps:
    """Runs the commands of a cell and keeps its attempts.

    Attributes:
        is_done: whether the last one ended without a fault.
    """

    def __init__(
        self,
        cell: CellFolder,
        plan: CellPlan,
        *,
        share: Share,
        stop: threading.Event,
        program: Sequence[str],
    ) -> None:
        self.is_done = False
        self._cell = cell
        self._share = share
        self._stop = stop
        self._program = program
        self._num_trainers = plan.num_devices

    def run(self, step: Step, words: Sequence[str], state: CellState) -> CellState:
        """Runs one command to its end, whatever that is."""
        log_path = self._cell.folder / f"{step}.log"
        log_start = log_path.stat().st_size if log_path.exists() else 0
        start_s = time.monotonic()
        attempt = Attempt(
            step=step,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            host=platform.node(),
        )

        def note(*, exit_code: int | None = None, failure: str | None = None) -> CellState:
            seconds = round(time.monotonic() - start_s, 1)
            last = replace(attempt, seconds=seconds, exit_code=exit_code)
            noted = replace(state, attempts=[*state.attempts, last], failure=failure)
            self._cell.write_state(noted)
            return noted

        note()
        process = start_bound(
            [*self._program, step, *words],
            log=log_path,
            environment=self._share.environment(
                num_processes=self._num_trainers if step == "train" else 1
            ),
            cores=self._share.cores,
            lock=self._cell.lock,
        )
        try:
            code = self._wait(process, note)
        except BaseException:
            process.terminate()
            raise
        self.is_done = code == 0
        failure = (
            None if self.is_done or code in _INTERRUPTED else _reason(log_path, log_start, code)
        )
        return note(exit_code=code, failure=failure)

    def _wait(self, process: subprocess.Popen[bytes], note: Callable[[], object]) -> int:
        is_asked_to_stop = False
        noted_s = time.monotonic()
        while (code := process.poll()) is None:
            if is_asked_to_stop:
                time.sleep(_POLL_S)
            elif self._stop.wait(_POLL_S):
                process.terminate()
                is_asked_to_stop = True
            if time.monotonic() - noted_s > _HEARTBEAT_S:
                note()
                noted_s = time.monotonic()
        return code


def _reason(log_path: Path, start: int, code: int) -> str:
    """What the command said last; its own one line, if it ended in one."""
    with log_path.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    own = [line.removeprefix("asrgan: ") for line in lines if line.startswith("asrgan: ")]
    if own:
        return own[-1]
    end = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"{lines[-1]} ({end}; see {log_path})" if lines else f"{end}; see {log_path}"


def _digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    return {name: file_digest(folder / name) for name in names}
