"""A trained generator without its norms: the same function, fewer operations."""

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from asrgan.models.generator import SRGANGenerator
from asrgan.models.spectral import fold_spectral_norm


@torch.no_grad()
def fold_norms(generator: SRGANGenerator) -> SRGANGenerator:
    """The same function in eval mode, from convolutions alone: batch and spectral norm folded in.

    Computed in float64 and rounded once, so that the pictures differ by float32 rounding only.

    Args:
        generator: stays as it is.

    Returns:
        A new generator on the same device, float32, in eval mode; its ``architecture`` says
        ``norm: none`` and ``spectral_norm: False``.
    """
    folded = copy.deepcopy(generator).eval()
    fold_spectral_norm(folded)
    folded.double()
    for block in folded.blocks:
        _fold_batch_norm(block, "conv1", "norm1")
        _fold_batch_norm(block, "conv2", "norm2")
    _fold_batch_norm(folded.trunk, "0", "1")
    folded.architecture = generator.architecture | {
        "norm": "none",
        "spectral_norm": False,
        "spectral_norm_output": False,
    }
    return folded.float()


def _fold_batch_norm(parent: nn.Module, conv_name: str, norm_name: str) -> None:
    """Lets a convolution do what the norm behind it does, where that is a batch norm."""
    norm = parent.get_submodule(norm_name)
    if isinstance(norm, nn.BatchNorm2d):
        conv = cast("nn.Conv2d", parent.get_submodule(conv_name))
        setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
        setattr(parent, norm_name, nn.Identity())
