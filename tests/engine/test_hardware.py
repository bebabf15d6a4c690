import os

import pytest
import torch

from asrgan.engine import (
    best_precision,
    check_compile_mode,
    check_devices,
    gan_strategy,
    hardware,
    num_loader_workers,
    share_threads,
)
from asrgan.errors import UserError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("accelerator", ["auto", "gpu"])
def test_more_gpus_than_there_are_are_refused(accelerator: str):
    check_devices(accelerator=accelerator, devices=2)
    with pytest.raises(UserError, match=r"`devices` \(=3\) must be at most 2, the number of GPUs"):
        check_devices(accelerator=accelerator, devices=3)
    check_devices(accelerator="cpu", devices=3)  # processes


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_a_precision_that_the_hardware_lacks_is_refused(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, accelerator: str
):
    monkeypatch.setattr(hardware, "computes_bfloat16", lambda _: False)
    if accelerator == "auto":
        request.getfixturevalue("two_gpus")
    assert best_precision("auto", accelerator=accelerator) == "32-true"
    device, way_out = ("GPU", "16-mixed") if accelerator == "auto" else ("CPU", "auto")
    message = rf"\(=bf16-mixed\): this {device} does not .* try trainer.precision={way_out} or"
    with pytest.raises(UserError, match=message):
        best_precision("bf16-mixed", accelerator=accelerator)


def test_several_processes_need_a_strategy_for_gans():
    assert gan_strategy("auto", devices=1, num_nodes=1) == "auto"
    assert gan_strategy("auto", devices=1, num_nodes=2) == "ddp_find_unused_parameters_true"
    assert gan_strategy("fsdp", devices=2, num_nodes=1) == "fsdp"


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_STEP_NUM_TASKS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


@pytest.mark.usefixtures("two_gpus", "sixteen_cores")
def test_loader_workers_are_sized_to_the_share_of_a_process(monkeypatch: pytest.MonkeyPatch):
    def workers(accelerator: str, devices: int) -> int:
        return num_loader_workers("auto", accelerator=accelerator, devices=devices)

    assert [workers("gpu", devices) for devices in (1, 2, 4, 8, 16)] == [8, 7, 3, 1, 1]
    assert [workers("cpu", devices) for devices in (1, 8, 16, 32)] == [2, 2, 1, 1]
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert [workers("gpu", devices) for devices in (1, 2, 8)] == [5, 2, 1]  # of one task for all
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")  # a task for each, whatever their number
    assert workers("gpu", 8) == 5
    assert num_loader_workers(0, accelerator="gpu", devices=1) == 0
    with pytest.raises(UserError, match=r"`data.num_workers` \(=-1\) must be auto or a whole"):
        num_loader_workers(-1, accelerator="gpu", devices=1)


@pytest.mark.usefixtures("sixteen_cores")
def test_processes_of_a_machine_share_its_cores_unless_they_are_told_how(
    monkeypatch: pytest.MonkeyPatch,
):
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    share_threads(1)
    share_threads(4)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    share_threads(4)
    assert chosen == [4]


def test_what_torch_cannot_compile_is_refused():
    check_compile_mode(None, recomputes=True)
    check_compile_mode("reduce-overhead", recomputes=False)
    with pytest.raises(UserError, match=r"`trainer.compile` \(=fast\) must be null or one of: def"):
        check_compile_mode("fast", recomputes=False)
    with pytest.raises(UserError, match=r"\(=default\) cannot trace what trainer.recompute=true"):
        check_compile_mode("default", recomputes=True)
