"""The exponential moving average of a network's weights."""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def start_average(network: Network) -> Network:
    """A frozen copy of a network, where its average starts."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, *, decay: float) -> None:
    """Moves an average by one step towards the trained network.

    Only parameters are averaged. Buffers are copied: batch norm's statistics are moving averages
    already, and spectral norm's vectors must keep their unit length (an average of them is
    shorter, the singular value comes out too small, and the network explodes).

    Args:
        average: from ``start_average``; changed in place.
        network: the trained network.
        decay: weight of the old average, in [0, 1); 0 copies.

    Source: Karras et al. 2018 (Progressive Growing of GANs), section A.1.
    """
    for averaged, parameter in zip(average.parameters(), network.parameters(), strict=True):
        averaged.lerp_(parameter, 1 - decay)
    for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)
