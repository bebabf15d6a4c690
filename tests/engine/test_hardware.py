import pytest
import torch

from asrgan.engine import best_precision, check_devices, gan_strategy, hardware
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
