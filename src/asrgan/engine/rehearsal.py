"""Training steps on tensors without content, to find what they will hold in memory."""

import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from asrgan.engine.super_resolution import Batch, SuperResolution
from asrgan.losses import PerceptualLoss


class Rehearsal(SuperResolution):
    """The training of networks whose tensors have a shape, and no content.

    It computes nothing, so every machine can rehearse any batch. The networks are of no use
    afterwards.

    Args:
        precision: of the training, by Lightning's name.
        arguments: of ``SuperResolution``.
    """

    def __init__(self, *, precision: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._precision = precision
        dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
        self._autocast = torch.autocast("cpu", dtype, enabled=precision.endswith("-mixed"))
        self._fakes = FakeTensorMode()
        self._storages = _Storages()
        for network in list(self._networks()):
            for module in network.modules():
                self._empty(module)
        with self._fakes, self._storages:
            self._steps = [_Step(self, optimizer) for optimizer in self.configure_optimizers()[0]]

    def peak_bytes(self, *, crop_size_px: int, batch_size: int) -> int:
        """The most that the tensors of an iteration hold at a time, networks included.

        Args:
            crop_size_px: of HR.
            batch_size: crops per device.
        """
        size, accumulate = crop_size_px // self.generator.scale, self.optimization.accumulate
        with self._fakes, self._storages, self._autocast:
            lr_image = self._pictures(batch_size, size)
            hr_image = self._pictures(batch_size, self.generator.scale * size)
            batch = Batch(lr_image, hr_image)
            # Optimizers get their state; then a batch starts a sum of gradients, and one ends it.
            for self.iteration in (accumulate - 1, 0, accumulate - 1):
                self._storages.forget_peak()
                self.training_step(batch, 0)
        return self._storages.peak_bytes

    def _networks(self) -> Iterator[nn.Module]:
        yield self
        for loss in self.content_losses.values():
            if isinstance(loss, PerceptualLoss):
                yield loss.network
                with self._autocast:
                    used = loss.network_for("cpu")  # made from weights with content
                if used is not loss.network:
                    yield used

    def _empty(self, module: nn.Module) -> None:
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(
                    self._without_content(parameter.data), requires_grad=parameter.requires_grad
                )
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = self._without_content(buffer)

    def _without_content(self, tensor: Tensor) -> Tensor:
        fake = self._fakes.from_tensor(tensor)
        self._storages.add(fake)
        return fake

    def _pictures(self, number: int, size_px: int) -> Tensor:
        shape = (number, 3, size_px, size_px)
        return torch.empty(shape, memory_format=self._memory_format)

    # Where a trainer would act

    @property
    def trainer(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - none is ever set
        """What is asked of one."""
        return SimpleNamespace(precision_plugin=None, precision=self._precision, world_size=1)

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """G's, then D's."""
        del use_pl_optimizer
        return self._steps

    def lr_schedulers(self) -> None:
        """None: they hold nothing."""

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Without scaling."""
        loss.backward(*args, **kwargs)

    def _report(self, num_images: int) -> None:
        del num_images
        self._means.reset()


class _Step:
    """An optimizer that lets its module see the gradients first, as Lightning's does."""

    def __init__(self, module: SuperResolution, optimizer: Optimizer) -> None:
        self._module = module
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups

    def step(self) -> None:
        self._module.on_before_optimizer_step(self.optimizer)
        self.optimizer.step()

    def zero_grad(self, *, set_to_none: bool) -> None:
        self.optimizer.zero_grad(set_to_none=set_to_none)


class _Storages(TorchDispatchMode):
    """Counts the bytes of all storages that live."""

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._sizes: dict[int, int] = {}

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # pyright: ignore[reportPrivateUsage]
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live_bytes += storage.nbytes()
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
            weakref.finalize(storage, self._remove, key).atexit = False

    def forget_peak(self) -> None:
        self.peak_bytes = self.live_bytes

    def _remove(self, key: int) -> None:
        self.live_bytes -= self._sizes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor):
            return 1.0  # a slope, on a CPU; any number will do
        result = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.add, result)
        return result
