"""One cluster, of two actors on this machine."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrgan.errors import UserError
from asrgan.inference.jobs import Job, RayEngine, Recipe, Worker, find_jobs, folder_at
from asrgan.pictures import Picture, read_picture, write_picture

ray: Any = pytest.importorskip("ray", reason="Ray is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    rng = np.random.default_rng(0)
    for number in range(20):
        depth = np.uint16 if number == 12 else np.uint8
        noise = rng.integers(0, np.iinfo(depth).max, (40, 40, 3), dtype=depth)
        write_picture(tmp_path / "in" / f"{number:02}.png", Picture(noise))
    output = folder_at(str(tmp_path / "out"))
    return find_jobs(str(tmp_path / "in"), output, Recipe(""), column="path")


@pytest.fixture
def worker(
    tiny_weights: Callable[[int], Path], publish: Callable[[str, Path], Path], tmp_path: Path
) -> Worker:
    publish("toy", tiny_weights(2))  # here; the actors know nothing of it
    recipe = Recipe("toy")
    return Worker(recipe, recipe_id="id", output=f"{tmp_path}/out", memory=None, device="cpu")


def engine(**values: Any) -> RayEngine:
    defaults: dict[str, Any] = {"num_actors": 2, "cpus_per_actor": 1, "jobs_per_task": 2}
    return RayEngine(address=None, **defaults | values)


def as_kind(kind: type[Worker], worker: Worker) -> Worker:
    return kind(**{field.name: getattr(worker, field.name) for field in fields(worker)})


def test_every_picture_is_there_once_though_an_actor_is_killed(
    jobs: list[Job], worker: Worker, tmp_path: Path
):
    class Mortal(Worker):  # inside, so that Ray sends its code along
        def read(self, job: Job) -> Any:
            if job.name == "05.png":
                with suppress(FileExistsError):
                    (tmp_path / "killed").touch(exist_ok=False)
                    os.kill(os.getpid(), signal.SIGKILL)
            return super().read(job)

    Path(jobs[7].source).write_bytes(b"no picture")
    rows = list(engine().run(jobs, as_kind(Mortal, worker)))
    assert (tmp_path / "killed").exists()
    assert sorted(row.output for row in rows) == [job.target for job in jobs]
    assert [row.input for row in rows if row.error] == ["07.png"]
    assert "cannot be read: not a known image format" in rows[-1].error  # after a second try
    for row in rows[:-1]:
        picture = read_picture(tmp_path / "out" / row.output)
        assert (picture.height, picture.width) == (80, 80)
        assert picture.bits == (16 if row.input == "12.png" else 8)


def test_a_picture_that_no_actor_survives_is_a_row(
    jobs: list[Job], worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    class Deadly(Worker):
        def read(self, job: Job) -> Any:
            if job.name == "02.png":
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(job)

    monkeypatch.setattr("asrgan.inference.jobs.cluster._NUM_LOST_TASKS", 0)
    rows = {row.input: row.error for row in engine().run(jobs[:4], as_kind(Deadly, worker))}
    lost = "the process died that enlarged it"
    assert rows == {"00.png": "", "01.png": "", "02.png": lost, "03.png": ""}


def test_a_network_that_cannot_be_opened_is_the_end(jobs: list[Job], worker: Worker):
    worker = replace(worker, recipe=replace(worker.recipe, precision="float33"))
    with pytest.raises(UserError, match=r"`precision` \(=float33\)"):
        list(engine(num_actors=1).run(jobs, worker))


def test_numbers_have_to_be_positive():
    with pytest.raises(UserError, match=r"`ray\.cpus_per_actor` \(=0\) must be at least 1"):
        engine(cpus_per_actor=0)


def test_paths_may_be_relative(
    jobs: list[Job], worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The cluster was started in another folder."""
    monkeypatch.chdir(tmp_path)
    job = replace(jobs[0], source="in/00.png")
    (row,) = engine().run([job], replace(worker, output="out"))
    assert not row.error
    assert (tmp_path / "out" / "00.png").is_file()
