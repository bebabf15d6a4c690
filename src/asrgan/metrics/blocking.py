"""Blocks of JPEG that a picture has inherited from the LR picture it was made from."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from asrgan.imaging import luma
from asrgan.metrics.low_resolution import reduce_area

_BLOCK_PX = 8  # of LR
_NEIGHBOURS = 3  # on each side; no second line of the grid is among them
_BLOCKS_AROUND = 5  # each way, of a px of the map
_MAXIMUM_STEP = 4.0  # grey levels; else a few edges of the scene would decide

BLOCKINESS_MINIMUM_PX = 2 * _BLOCK_PX  # of LR


def blockiness(sr_image: Tensor, *, scale: int) -> Tensor:
    """How far steps on the grid of LR's JPEG blocks rise above the steps beside them, grey levels.

    SR is reduced by area to LR's size, where blocks have 8 px. A step is the difference of two
    neighbouring px of Y; what counts of it is its excess over the three steps on each side, 4
    levels at most. Blockiness is the mean over the lines of the strongest of the eight possible
    grids minus that of the second strongest, so that blocks may begin anywhere; the mean of both
    directions.

    Set5 and Set14 have 0.03 in the ground truth (at most 0.10); enlarged bicubically after JPEG of
    quality 75, 50, 30 and 10 they have 0.13, 0.27, 0.46 and 1.10.

    Args:
        sr_image: (N, 3, H, W) in [0, 1]; rounded to 8 bits first.
        scale: factor by which LR was enlarged; divides H and W.

    Returns:
        (N,) in float64, at least 0; nan where LR has less than 16 px each way.

    Source: the comparison is that of Wu and Yuen 1997, "A generalized block-edge impairment metric
    for video coding"; maximum, limit and search are this project's.
    """
    levels = 255 * luma(reduce_area(sr_image, scale=scale))
    if min(levels.shape[-2:]) < BLOCKINESS_MINIMUM_PX:
        return levels.new_full((len(levels),), math.nan, dtype=torch.float64)
    strengths = [_grids(_excess(picture)).topk(2).values for picture in (levels, levels.mT)]
    return torch.stack([best - second for best, second in (s.T for s in strengths)]).mean(dim=0)


def blockiness_map(sr_image: Tensor, *, scale: int) -> Tensor:
    """Where blocks are seen: the excess on the strongest grid over that beside it, around each px.

    Args:
        sr_image: as `blockiness`.
        scale: as `blockiness`.

    Returns:
        (N, h, w) at LR's size, grey levels, means over 5x5 blocks, at least 0.
    """
    levels = 255 * luma(reduce_area(sr_image, scale=scale))
    horizontal, vertical = (_around(_excess(picture)) for picture in (levels, levels.mT))
    return ((horizontal + vertical.mT) / 2).clamp(min=0)


def _excess(levels: Tensor) -> Tensor:
    """(N, 1, h, w) -> by how much each step to the right exceeds those beside it, (N, h, w - 1)."""
    steps = levels.squeeze(1).diff(dim=-1).abs()
    padded = F.pad(steps, (_NEIGHBOURS, _NEIGHBOURS), mode="replicate")
    beside = F.max_pool1d(padded, _NEIGHBOURS, stride=1)
    before, after = beside[..., : steps.shape[-1]], beside[..., _NEIGHBOURS + 1 :]
    return (steps - torch.maximum(before, after)).clamp(0, _MAXIMUM_STEP)


def _grids(excess: Tensor) -> Tensor:
    """The mean over the lines of each possible grid, by its first step, (N, 8)."""
    missing = -excess.shape[-1] % _BLOCK_PX
    lines = F.pad(excess.double().mean(dim=1), (0, missing), value=math.nan)
    return lines.unflatten(-1, (-1, _BLOCK_PX)).nanmean(dim=1)


def _around(excess: Tensor) -> Tensor:
    """(N, h, w - 1) -> mean on the strongest grid minus that on the others, (N, h, w)."""
    positions = torch.arange(excess.shape[-1], device=excess.device) % _BLOCK_PX
    is_on_grid = positions == _grids(excess).argmax(dim=1)[:, None]
    weights = torch.where(is_on_grid, _BLOCK_PX, -_BLOCK_PX / (_BLOCK_PX - 1))
    size_px = _BLOCKS_AROUND * _BLOCK_PX  # whole blocks, so that the weights cancel
    means = F.avg_pool2d(
        F.pad(excess * weights[:, None], (0, 1)), size_px, 1, size_px // 2, count_include_pad=False
    )
    return means[:, : excess.shape[-2], :-1]
