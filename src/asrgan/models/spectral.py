"""Spectral normalization as a parametrization that survives mixed precision."""

from collections.abc import Collection, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
# From a random start this comes within 3 % of the largest singular value of a fresh convolution,
# whose spectrum is as flat as they get.
_LOG_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """Divides a weight by its largest singular value.

    The value is exact at the start, and whenever a plain weight is assigned (``layer.weight =
    tensor``); from there one power iteration per read in training mode, and none in eval mode,
    follows the weight. All in float32 whatever the autocast: bf16 would leave two digits.

    Args:
        weight: the weight to be normalized; its shape and device are used.
        dim: the dimension of the output channels.

    Source: Miyato et al. 2018, section 2 and algorithm 1.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, *, dim: int) -> None:
        super().__init__()
        self.dim = dim
        num_rows, num_columns = _as_matrix(weight, dim=dim).shape
        self.register_buffer("u", weight.new_zeros(num_rows, dtype=torch.float32))
        self.register_buffer("v", weight.new_zeros(num_columns, dtype=torch.float32))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with a largest singular value of 1, same shape and dtype."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = _as_matrix(weight, dim=self.dim)
            if self.training:
                self._store(*_power_iteration(matrix, self.v, num_iterations=1))
            # Copies: the buffers change in place before a second read's backward pass.
            sigma = self.u.clone() @ (matrix @ self.v.clone())
        return weight / sigma.clamp_min(torch.finfo(sigma.dtype).tiny)

    @torch.no_grad()
    def right_inverse(self, weight: Tensor) -> Tensor:
        """Takes any weight as the one to be normalized, and finds its singular vectors."""
        matrix = _as_matrix(weight, dim=self.dim)
        # Eigenvectors of the small square, in ascending order: far cheaper than the decomposition.
        u = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1]
        self._store(u, F.normalize(matrix.T @ u, dim=0))
        return weight.clone()  # else an assigned tensor would change with every step

    def _store(self, u: Tensor, v: Tensor) -> None:
        self.u.copy_(u)
        self.v.copy_(v)


def apply_spectral_norm(module: nn.Module, *, skip: Collection[str] = ()) -> None:
    """Puts spectral norm on every convolution and dense layer of a network, in place.

    Args:
        module: the network.
        skip: qualified names of layers which keep their plain weights.
    """
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _LAYERS)}
    for name, layer in layers.items():
        if name not in skip:
            norm = SpectralNorm(layer.weight, dim=_output_dim(layer))
            # unsafe: without a trial read, which would fail on "meta" tensors.
            parametrize.register_parametrization(layer, "weight", norm, unsafe=True)


def fold_spectral_norm(module: nn.Module) -> None:
    """Replaces every normalized weight by its plain value in eval mode, in place."""
    with _frozen_estimates(module):
        for layer in list(module.modules()):
            if isinstance(layer, _LAYERS) and parametrize.is_parametrized(layer, "weight"):
                # Not `remove_parametrizations`: copies of a layer share the class which it empties,
                # so that folding a copy would break the network it was made from.
                weight = layer.weight.detach().clone()
                del layer.parametrizations
                layer.__class__ = type(layer).__bases__[0]
                layer.weight = nn.Parameter(weight)


@torch.no_grad()
def largest_singular_value(module: nn.Module) -> float:
    """Largest singular value among the weights of a network, as its layers apply them.

    About 1 under spectral norm. Estimated for logs, from below, by a few power iterations: exact
    values of SRGAN's discriminator would cost a third of its training step. Changes nothing.

    Args:
        module: a network with at least one convolution or dense layer.
    """
    values: list[Tensor] = []
    with _frozen_estimates(module):
        for layer in module.modules():
            if isinstance(layer, _LAYERS):
                matrix = _as_matrix(layer.weight, dim=_output_dim(layer))
                # The same start each time, without touching the global random state.
                generator = torch.Generator().manual_seed(0)
                start = torch.randn(matrix.shape[1], generator=generator).to(matrix.device)
                u, v = _power_iteration(matrix, start, num_iterations=_LOG_ITERATIONS)
                values.append(u @ (matrix @ v))
    return torch.stack(values).max().item()


@torch.no_grad()
def exact_singular_value(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """Largest singular value of a layer's plain weight."""
    return torch.linalg.svdvals(_as_matrix(layer.weight, dim=_output_dim(layer)))[0].item()


@torch.no_grad()
def _power_iteration(matrix: Tensor, v: Tensor, *, num_iterations: int) -> tuple[Tensor, Tensor]:
    """Left and right singular vector of the largest singular value, improved from ``v``."""
    u = v
    for _ in range(num_iterations):
        u = F.normalize(matrix @ v, dim=0)
        v = F.normalize(matrix.T @ u, dim=0)
    return u, v


def _as_matrix(weight: Tensor, *, dim: int) -> Tensor:
    """Output channels by everything else, float32."""
    return weight.transpose(0, dim).flatten(1).float()


def _output_dim(layer: nn.Module) -> int:
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0


@contextmanager
def _frozen_estimates(module: nn.Module) -> Generator[None]:
    """Reads within this context make no power iteration."""
    norms = [m for m in module.modules() if isinstance(m, SpectralNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
