"""The exponential moving average of a network's weights."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Network = TypeVar("Network", bound=nn.Module)


def start_average(network: Network) -> Network:
    """A frozen copy of a network, where its average starts."""
    return copy.deepcopy(network).requires_grad_(False)


def warmed_up(decay: float, *, steps: int) -> float:
    """The decay for a step: smaller at first, for an average that soon forgets where it started.

    Args:
        decay: of all later steps, in [0, 1).
        steps: that the average has made before.

    Source: TensorFlow's ``ExponentialMovingAverage``, ``num_updates``.
    """
    return min(decay, (1 + steps) / (10 + steps))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, *, decay: float) -> None:
    """Moves an average by one step towards the trained network.

    Parameters are averaged, and batch norm's running mean and variance with them: those of the
    trained network are of its last few batches, and of its weights instead of the average's.
    Every other buffer is copied: spectral norm's vectors must keep their unit length (an average
    of them is shorter, the singular value comes out too small, and the network explodes).

    Args:
        average: from ``start_average``; changed in place.
        network: the trained network.
        decay: weight of the old average, in [0, 1); 0 copies.

    Source: Karras et al. 2018 (Progressive Growing of GANs), section A.1.
    """
    averaged, trained = _averaged_tensors(average), _averaged_tensors(network)
    get_ema_multi_avg_fn(decay)(averaged, trained, 0)
    is_averaged = {id(tensor) for tensor in averaged}
    for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
        if id(kept) not in is_averaged:
            kept.copy_(buffer)


def _averaged_tensors(network: nn.Module) -> list[Tensor]:
    tensors: list[Tensor] = list(network.parameters())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
            statistics = (module.running_mean, module.running_var)
            tensors += [tensor for tensor in statistics if tensor is not None]
    return tensors
