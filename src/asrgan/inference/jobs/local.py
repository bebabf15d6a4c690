"""Jobs on this machine."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from asrgan.inference.jobs.listing import Job
from asrgan.inference.jobs.results import Result
from asrgan.inference.jobs.worker import Worker

_NUM_WRITERS = {"cpu": 1, "cuda": 8}  # a GPU enlarges faster than one thread encodes


class LocalEngine:
    """Does jobs in this process.

    Args:
        num_writers: pictures that are encoded at a time; None: 1, beside a GPU 8.
    """

    def __init__(self, *, num_writers: int | None = None) -> None:
        self.num_writers = num_writers

    def run(self, jobs: Sequence[Job], worker: Worker) -> Iterator[Result]:
        """Rows in the order of the jobs.

        While one picture is in the network, which has this thread, the next is read and those
        before are written. So few pictures are in memory, however many jobs there are.

        Raises:
            UnwritableFolderError: the disk is full; nothing half-written is left.
        """
        num_writers = self.num_writers or _NUM_WRITERS[worker.upscaler.device.type]
        writing: deque[Future[Result]] = deque()
        upcoming = deque(jobs)
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(num_writers) as writers:
            try:
                reading = reader.submit(worker.read, upcoming.popleft()) if upcoming else None
                while reading is not None:
                    work = reading.result()
                    reading = reader.submit(worker.read, upcoming.popleft()) if upcoming else None
                    worker.enlarge(work)
                    if len(writing) == num_writers:
                        yield _first(writing)
                    writing.append(writers.submit(worker.write, work))
                while writing:
                    yield _first(writing)
            except KeyboardInterrupt:
                while writing:  # what has been computed is not lost
                    yield _first(writing)
                raise


def _first(writing: deque[Future[Result]]) -> Result:
    result = writing[0].result()
    writing.popleft()  # only now: an interruption of the wait would lose it
    return result
