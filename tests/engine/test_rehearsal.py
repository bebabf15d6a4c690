"""Forecast memory against what torch's allocator reports of steps that are really made."""

from contextlib import nullcontext
from functools import partial
from itertools import accumulate
from typing import Any

import pytest
from omegaconf import OmegaConf
from torch import nn
from torch.profiler import ProfilerActivity, profile

from asrgan.building import build_module
from asrgan.configuration import compose
from asrgan.engine import Rehearsal
from asrgan.metrics import Protocol

OVERRIDES = (
    "experiment=asrgan_x4",
    "size=small",
    "loss/perceptual=vgg19",
    "loss.perceptual.network.weights=untrained",
    "loss.perceptual.layers=[relu3_4]",
    "generator.num_blocks=2",
    "data.train=null",
    "data.validation=null",
)


class Performance(Rehearsal):
    """The same steps, with content."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._fakes: Any = nullcontext()

    def _empty(self, module: nn.Module) -> None:
        pass

    def allocated_bytes(self, **arguments: Any) -> int:
        held = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for network in self._networks()
            for tensor in (*network.parameters(), *network.buffers())
        }
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.peak_bytes(**arguments)
        events = profiler.profiler.kineto_results.events()
        changes = [event.nbytes() for event in events if event.name() == "[memory]"]
        return sum(held.values()) + max(accumulate(changes))


def build(module_class: Any, *overrides: str, precision: str = "bf16-mixed") -> Any:
    config = OmegaConf.create(compose("train", [*OVERRIDES, *overrides]))
    return build_module(
        config,
        module_class=partial(module_class, precision=precision),
        validation_names=[],
        protocol=Protocol(scale=4, metrics=["psnr_y_db"]),
        has_weights=False,
    )


@pytest.mark.parametrize(
    ("overrides", "precision"),
    [
        ((), "bf16-mixed"),
        (("trainer.recompute=true",), "bf16-mixed"),
        (("on_nonfinite=skip",), "bf16-mixed"),
        (("optimizer.accumulate=2", "discriminator=unet"), "32-true"),
    ],
    ids=["plain", "recomputed", "skipping", "accumulated"],
)
def test_a_forecast_is_what_the_steps_allocate(overrides: tuple[str, ...], precision: str):
    arguments = {"crop_size_px": 128, "batch_size": 2}
    forecast = build(Rehearsal, *overrides, precision=precision).peak_bytes(**arguments)
    performance = build(Performance, *overrides, precision=precision)
    allocated = performance.allocated_bytes(**arguments)
    assert forecast == pytest.approx(allocated, rel=0.2)


def test_a_recomputing_training_needs_less_and_a_larger_batch_more():
    plain, recomputing = (
        build(Rehearsal, f"trainer.recompute={recompute}") for recompute in (False, True)
    )
    two, four, eight = (plain.peak_bytes(crop_size_px=512, batch_size=n) for n in (2, 4, 8))
    assert eight - four == pytest.approx(2 * (four - two), rel=0.05)
    assert recomputing.peak_bytes(crop_size_px=512, batch_size=8) < 0.7 * eight
