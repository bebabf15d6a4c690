"""Many cells on one machine, a few at a time."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import torch

from asrgan.errors import InterruptedRunError
from asrgan.studies.cells import Share
from asrgan.studies.folder import CellFolder, StudyFolder

T = TypeVar("T")
Work = Callable[[CellFolder, Share, threading.Event], None]

log = logging.getLogger(__name__)

_POLL_S = 1.0


class Agenda:
    """Which cells can be started, each once.

    Args:
        study: with its plans written.
        retry: start failed cells, too.
    """

    def __init__(self, study: StudyFolder, *, retry: bool) -> None:
        self._open = {cell.folder: cell for cell in study.cells()}
        self._study = study
        self._retry = retry

    def take(self) -> CellFolder | None:
        """The next cell that can be started; it is not given twice. None: there is none now."""
        for folder, cell in list(self._open.items()):
            status = cell.status()
            if status == "finished" or (status == "failed" and not self._retry):
                del self._open[folder]
            elif status != "running" and self._may_start(cell):
                return self._open.pop(folder)
        return None

    def take_all(self) -> list[CellFolder]:
        """All that can be started side by side now."""
        return list(iter(self.take, None))

    def is_waiting_for_others(self) -> bool:
        """Whether cells are in the hands of processes of an earlier start."""
        return any(cell.status() == "running" for cell in self._open.values())

    def _may_start(self, cell: CellFolder) -> bool:
        plan = cell.plan()
        assert plan is not None
        return plan.start is None or self._study.cell(plan.start).status() == "finished"


def shares(jobs: int, *, cores: Sequence[int], gpus: Sequence[str]) -> list[Share]:
    """Divides a machine among jobs that run side by side.

    Cores are divided evenly, in blocks; a job that runs alone has them all. GPUs are divided evenly
    where there is one for each job, else jobs share them in turn.

    Args:
        jobs: how many.
        cores: those this process may use.
        gpus: as ``CUDA_VISIBLE_DEVICES`` names them.
    """
    return [
        Share(
            cores=[] if jobs == 1 else _part(cores, index, jobs),
            gpus=_part(gpus, index, jobs) if gpus else None,
        )
        for index in range(jobs)
    ]


def _part(items: Sequence[T], index: int, parts: int) -> Sequence[T]:
    if len(items) < parts:
        return [items[index % len(items)]]
    return items[index * len(items) // parts : (index + 1) * len(items) // parts]


def run_locally(agenda: Agenda, work: Work, *, jobs: int | None, num_devices: int) -> bool:
    """Works on cells, some at a time, until none can be started or a signal asks to stop.

    A first Ctrl-C or SIGTERM lets what runs save its state and end; a second one ends at once.

    Args:
        agenda: gives the cells.
        work: brings one to its end, with its share of the machine, or until the event is set.
        jobs: cells side by side; None: as many as there are GPUs for, or one.
        num_devices: that a cell needs.

    Returns:
        Whether it was asked to stop.
    """
    gpus = _visible_gpus()
    jobs = jobs or max(1, len(gpus) // num_devices)
    stop = threading.Event()
    with _asked_by_signals(stop):
        _work_on(agenda, work, shares(jobs, cores=sorted(os.sched_getaffinity(0)), gpus=gpus), stop)
    return stop.is_set()


def _work_on(agenda: Agenda, work: Work, free: list[Share], stop: threading.Event) -> None:
    running: dict[Future[None], Share] = {}
    with ThreadPoolExecutor(len(free)) as threads:
        while True:
            while free and not stop.is_set() and (cell := agenda.take()) is not None:
                share = free.pop(0)
                running[threads.submit(work, cell, share, stop)] = share
            if running:
                for future in wait(running, _POLL_S, FIRST_COMPLETED).done:
                    free.append(running.pop(future))
                    future.result()
            elif not stop.is_set() and agenda.is_waiting_for_others():
                stop.wait(_POLL_S)
            else:
                return


@contextmanager
def _asked_by_signals(stop: threading.Event) -> Generator[None]:
    def ask(number: int, frame: FrameType | None) -> None:
        del number, frame
        if stop.is_set():
            os._exit(InterruptedRunError.exit_code)  # what runs ends with this process
        log.info("Stopping: what runs saves its state. Once more stops at once.")
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    earlier = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _visible_gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    return [str(number) for number in range(torch.cuda.device_count())]
