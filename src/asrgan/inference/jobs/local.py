"""Jobs on this machine."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from asrgan.inference.jobs.listing import Job
from asrgan.inference.jobs.results import Result
from asrgan.inference.jobs.worker import CrowdedError, Work, Worker

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
        before are written: few pictures are in memory, however many jobs there are. One that does
        not fit into it beside the others waits until it is alone.

        Raises:
            UnwritableFolderError: the disk is full; nothing half-written is left.
        """
        num_writers = self.num_writers or _NUM_WRITERS[worker.upscaler.device.type]
        upcoming = deque(jobs)
        written: deque[tuple[Work, Future[Result]]] = deque()
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(num_writers) as writers:

            def read_next() -> Future[Work] | None:
                return reader.submit(worker.read, upcoming[0]) if upcoming else None

            reading = read_next()
            try:
                while reading is not None:
                    work = reading.result()
                    upcoming.popleft()
                    while written and written[0][1].done():
                        yield _first(written)
                    beside = sum(worker.writing_bytes(earlier) for earlier, _ in written)
                    beside += worker.reading_bytes(upcoming[0]) if upcoming else 0
                    reading = read_next()
                    try:
                        worker.enlarge(work, caller_bytes=beside)
                    except CrowdedError:
                        while written:
                            yield _first(written)
                        if reading is not None:
                            reading.result()
                            reading = None  # read again when there is room
                        worker.enlarge(work)
                        reading = read_next()
                    if len(written) == num_writers:
                        yield _first(written)
                    written.append((work, writers.submit(worker.write, work)))
                while written:
                    yield _first(written)
            except KeyboardInterrupt:
                while written:  # what has been computed is not lost
                    yield _first(written)
                raise


def _first(written: deque[tuple[Work, Future[Result]]]) -> Result:
    result = written[0][1].result()
    written.popleft()  # only now: an interruption of the wait would lose it
    return result
