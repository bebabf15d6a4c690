import os
from typing import Any

import pytest
from torch import distributed

from asrgan.engine import Processes, join_processes

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
OF_NODES = ("LOCAL_WORLD_SIZE", "NODE_RANK")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *OF_NODES, "SLURM_STEP_NUM_TASKS"):
        monkeypatch.setenv(name, "")  # so that what a test leaves is undone
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("alone")
def test_a_process_alone_owns_everything():
    with join_processes() as processes:
        assert processes == Processes(rank=0, local_rank=0, count=1)
        assert processes.is_first
        assert all(processes.owns(number) for number in range(5))
        assert processes.gather("rows") == ["rows"]
        assert processes.from_first("folder") == "folder"


def test_each_piece_of_work_is_exactly_one_process_s():
    several = [Processes(rank=rank, count=3) for rank in range(3)]
    for number in range(10):
        assert sum(processes.owns(number) for processes in several) == 1


@pytest.mark.usefixtures("alone")
def test_a_launcher_that_starts_one_process_needs_no_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with join_processes() as processes:
        assert processes.count == 1


@pytest.mark.usefixtures("alone")
def test_what_srun_says_is_translated(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NUM_NODES": "4",
        "SLURM_NODEID": "2",
        "SLURM_STEP_NODELIST": "gpu[07-09,12]",
        "SLURM_PROCID": "5",
        "SLURM_LOCALID": "1",
        "SLURM_JOB_ID": "1234567",
    }.items():
        monkeypatch.setenv(name, value)
    calls: list[Any] = []
    monkeypatch.setattr(distributed, "init_process_group", calls.append)
    monkeypatch.setattr(distributed, "get_rank", lambda: int(os.environ["RANK"]))
    monkeypatch.setattr(distributed, "new_group", lambda **_: "group")
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: calls.append("end"))
    with join_processes() as processes:
        assert (processes.rank, processes.local_rank, processes.count) == (5, 1, 8)
        assert [os.environ[name] for name in VARIABLES] == ["5", "8", "1", "gpu07", "19567"]
        assert [os.environ[name] for name in OF_NODES] == ["2", "2"]
    assert calls == ["gloo", "end"]


@pytest.mark.usefixtures("alone")
def test_a_batch_script_with_several_tasks_but_without_srun_is_one_process(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with join_processes() as processes:
        assert processes.count == 1
