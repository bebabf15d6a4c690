"""What a training iteration computes, counted in its steps on tensors without content."""

from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from asrgan.building import build_rehearsal
from asrgan.configuration import compose
from asrgan.engine import Rehearsal


def rehearsal(overrides: Sequence[str]) -> Rehearsal:
    """The training that `asrgan train` would run, without data."""
    config = compose("train", [*overrides, "data.train=null", "data.validation=null"])
    return build_rehearsal(OmegaConf.create(config), precision="bf16-mixed")


def num_operations(training: Rehearsal, *, crop_size_px: int, batch_size: int) -> float:
    """Of one iteration; a multiplication with its addition counts as two."""
    with _Operations() as operations:
        training.peak_bytes(crop_size_px=crop_size_px, batch_size=batch_size)
    return operations.count / 3  # it makes three iterations


class _Operations(TorchDispatchMode):
    """Counts as torch's FlopCounterMode, whose names of modules stand `autograd.grad` not."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.count += formula(*args, **(kwargs or {}), out_val=result)
        return result
