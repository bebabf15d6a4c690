import os
import re
from collections.abc import Iterator

import pytest
from pytorch_lightning.utilities import rank_zero_only

from asrgan.engine import Launch, find_launch
from asrgan.engine.watch import _require_agreement  # pyright: ignore[reportPrivateUsage]
from asrgan.errors import UserError

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (*NAMES, "MASTER_PORT", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.setenv(name, "")  # so that what a test leaves is undone
        monkeypatch.delenv(name)
    yield
    rank_zero_only.rank = 0  # pyright: ignore[reportFunctionMemberAccess]


def find(devices: int = 1, num_nodes: int = 1, launcher: str = "auto") -> Launch:
    return find_launch(devices=devices, num_nodes=num_nodes, launcher=launcher)


def test_a_process_alone_starts_nothing():
    launch = find()
    assert launch == Launch(1, 1, rank=0, has_started=True)
    with launch.started() as children:
        assert children == {}


def test_the_numbers_of_a_launcher_need_not_be_repeated(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    expected = Launch(devices=4, num_nodes=2, rank=5, has_started=True)
    assert find() == find(4, 2) == expected
    assert rank_zero_only.rank == 5  # pyright: ignore[reportFunctionMemberAccess]
    with pytest.raises(UserError, match=r"`devices` \(=8\) .* has started: devices=4 num_nodes=2"):
        find(devices=8)


def test_a_task_of_slurm_knows_its_place(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "SLURM_STEP_NUM_TASKS": "8",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "gpu[07-08]",
        "SLURM_PROCID": "6",
        "SLURM_LOCALID": "2",
        "SLURM_NODEID": "1",
        "SLURM_JOB_ID": "1234567",
    }.items():
        monkeypatch.setenv(name, value)
    assert find(launcher="srun") == Launch(4, 2, rank=6, has_started=True)
    assert (os.environ["NODE_RANK"], os.environ["MASTER_ADDR"]) == ("1", "gpu07")


def test_a_second_machine_counts_on_from_the_first(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"`num_nodes` \(=2\): each machine has to be told NODE"):
        find(devices=4, num_nodes=2)
    for name, value in {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert find(devices=4, num_nodes=2) == Launch(4, 2, rank=4, has_started=False)


def test_srun_is_required_where_it_was_asked_for():
    with pytest.raises(UserError, match=r"`trainer.launcher` \(=srun\) needs a task of SLURM"):
        find(launcher="srun")


@pytest.mark.parametrize(
    ("name", "other"), [("version of torch", "2.9"), ("code", "def"), ("seed", 2)]
)
def test_processes_with_other_code_or_configuration_are_refused(name: str, other: object):
    first = {"version of torch": "2.15", "code": "abc", "seed": 1}
    _require_agreement([first, dict(first)])
    message = re.escape(f"`{name}` is {other} for rank 2 and {first[name]} for rank 0")
    with pytest.raises(UserError, match=message):
        _require_agreement([first, dict(first), first | {name: other}])
