"""Jobs on a cluster of Ray."""

import importlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from asrgan.errors import UserError
from asrgan.inference.jobs.folders import is_remote
from asrgan.inference.jobs.listing import Job
from asrgan.inference.jobs.local import LocalEngine
from asrgan.inference.jobs.results import Result
from asrgan.inference.jobs.worker import Worker
from asrgan.weights import find_weights

_NUM_LOST_TASKS = 2  # with their actors, until a task is given up
_NUM_ROUNDS = 2  # jobs that failed are tried once more


class RayEngine:
    """Does jobs in actors of Ray, each with a network of its own.

    Ray Data hands out the list in tasks of a few jobs, and takes rows back; pictures go from the
    actors to where they belong. So the cluster's memory is flat, and a picture that was done
    twice, since an actor died, is there once.

    Args:
        address: of a cluster; None: that of ``RAY_ADDRESS``, or a cluster of this machine alone.
        num_actors: None: one for each GPU, or else for each ``cpus_per_actor``.
        cpus_per_actor: threads of an actor.
        jobs_per_task: what is lost, and done again, if an actor dies.

    Raises:
        UserError: Ray is not installed, or a number is not positive.
    """

    def __init__(
        self,
        *,
        address: str | None,
        num_actors: int | None,
        cpus_per_actor: int,
        jobs_per_task: int,
    ) -> None:
        for name, value in {
            "num_actors": num_actors or 1,
            "cpus_per_actor": cpus_per_actor,
            "jobs_per_task": jobs_per_task,
        }.items():
            if value < 1:
                raise UserError(f"`ray.{name}` (={value}) must be at least 1.")
        self.address = address
        self.num_actors = num_actors
        self.cpus_per_actor = cpus_per_actor
        self.jobs_per_task = jobs_per_task

    def run(self, jobs: Sequence[Job], worker: Worker) -> Iterator[Result]:
        """Rows as they come.

        A job that failed is tried once more, alone, before its row tells.

        Raises:
            UserError: a disk is full, the network cannot be opened, or there is no such cluster.
        """
        ray = _import_ray()
        is_started = not ray.is_initialized()
        if is_started:
            self._start(ray)
        # Actors may have another working directory.
        jobs = [replace(job, source=_absolute(job.source)) for job in jobs]
        worker = replace(worker, output=_absolute(worker.output))
        try:
            yield from self._rounds(ray, jobs, worker)
        finally:
            if is_started:
                ray.shutdown()

    def _rounds(self, ray: Any, jobs: Sequence[Job], worker: Worker) -> Iterator[Result]:
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # after it has set its own
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # a task that is given up is no end of the others
        undone = {job.target: job for job in jobs}
        failed: dict[str, Result] = {}
        for number in range(_NUM_ROUNDS):
            if not undone:
                return
            # The second time each is alone: one may have taken its neighbours with it.
            jobs_per_task = self.jobs_per_task if number == 0 else 1
            for result in self._round(ray, list(undone.values()), worker, jobs_per_task):
                if result.error:
                    failed[result.output] = result
                elif undone.pop(result.output, None):  # not for the second time
                    yield result
        for target, job in undone.items():
            lost = Result(job.name, target, error="the process died that enlarged it")
            yield failed.get(target, lost)

    def _round(
        self, ray: Any, jobs: Sequence[Job], worker: Worker, jobs_per_task: int
    ) -> Iterator[Result]:
        resources = ray.cluster_resources()
        num_gpus = int(resources.get("GPU", 0)) if worker.device != "cpu" else 0
        num_actors = self.num_actors or num_gpus or int(resources["CPU"]) // self.cpus_per_actor
        if worker.memory == "auto" and not num_gpus:
            share = int(resources["memory"]) // max(1, num_actors)
            worker = replace(worker, memory=share)
        tasks = [
            {"jobs": json.dumps([asdict(job) for job in jobs[start : start + jobs_per_task]])}
            for start in range(0, len(jobs), jobs_per_task)
        ]
        file = find_weights(worker.recipe.weights)
        worker = replace(worker, recipe=replace(worker.recipe, weights=str(file)))
        weights = ray.put(file.read_bytes())
        rows = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            _Actor,
            fn_constructor_args=(worker, [weights], self.cpus_per_actor),
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(
                size=min(max(1, num_actors), len(tasks)),
                max_tasks_in_flight_per_actor=1 if jobs_per_task == 1 else None,
            ),
            # Half: actors that hold every CPU leave none for Ray Data's own tasks.
            num_cpus=self.cpus_per_actor / 2,
            num_gpus=min(1, num_gpus),
            max_task_retries=_NUM_LOST_TASKS,
        )
        for batch in rows.iter_batches(batch_size=None, prefetch_batches=0):
            for row in batch["row"]:
                content = json.loads(row)
                if "fatal" in content:
                    raise UserError(content["fatal"])
                yield Result(**content)

    def _start(self, ray: Any) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address is None and "RAY_ADDRESS" not in os.environ:
            options["include_dashboard"] = False
        try:
            ray.init(address=self.address, **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"`ray.address` (={self.address}): {reason}") from error


def _absolute(location: str) -> str:
    return location if is_remote(location) else str(Path(location).absolute())


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        importlib.import_module("ray.data")
    except ImportError as error:
        raise UserError("engine=ray needs Ray; pip install 'asrgan[ray]'.") from error
    return importlib.import_module("ray")


class _Actor:
    """Has a process of its own, and does one task after the other.

    Args:
        worker: how jobs are done.
        weights: what Ray keeps of the weights' file, which need not exist on this machine.
        num_threads: of torch.
    """

    def __init__(self, worker: Worker, weights: list[Any], num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._worker = replace(worker, weights=_import_ray().get(weights[0]))

    def __call__(self, task: dict[str, Any]) -> Iterator[dict[str, list[str]]]:
        """Rows of the task's jobs, as text: Arrow would have to guess the types of empty cells."""
        try:
            jobs = [Job(**job) for job in json.loads(task["jobs"][0])]
            for result in LocalEngine().run(jobs, self._worker):
                yield {"row": [json.dumps(asdict(result))]}
        except UserError as error:  # the end of all jobs
            yield {"row": [json.dumps({"fatal": str(error)})]}
