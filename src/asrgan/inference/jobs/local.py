"""Jobs on this machine."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from asrgan.errors import InterruptedRunError
from asrgan.inference.jobs.listing import Job
from asrgan.inference.jobs.results import Result
from asrgan.inference.jobs.worker import Worker


def run_here(jobs: Sequence[Job], worker: Worker, *, num_writers: int) -> Iterator[Result]:
    """Rows in the order of the jobs.

    While one picture is in the network, which has this thread, the next is read and the ones before
    are written. So few pictures are in memory, however many jobs there are.

    Args:
        jobs: at least one.
        worker: does them.
        num_writers: pictures that are written at a time.

    Raises:
        UnwritableFolderError: the disk is full; nothing half-written is left.
    """
    writing: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(num_writers) as writers:
        reading = reader.submit(worker.read, jobs[0])
        try:
            for following in (*jobs[1:], None):
                work = reading.result()
                if following is not None:
                    reading = reader.submit(worker.read, following)
                worker.enlarge(work)
                if len(writing) == num_writers:
                    yield writing.popleft().result()
                writing.append(writers.submit(worker.write, work))
        except (KeyboardInterrupt, InterruptedRunError):
            while writing:  # what has been computed is not lost
                yield writing.popleft().result()
            raise
        while writing:
            yield writing.popleft().result()
