"""Ringing: how far a picture swings beside the edges of the LR picture it was made from.

Profiles are drawn through SR, across the strong edges of LR. Where LR is level beside an edge, SR
should be, too: what it overshoots there, or swings back, beyond what LR itself does, is ringing.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from asrgan.imaging import luma, quantize
from asrgan.metrics.low_resolution import check_sizes
from asrgan.metrics.tiles import spans

_STRIP_ROWS = 64  # of LR
_MARGIN_PX = 8  # a profile and its gradient reach 7 px

# Lengths in px of LR, from the edge.
_REACH_PX = 4
_LEVEL_FROM_PX = 2  # a reduced step has swung out by then
_WIDTH_PX = 5  # along the edge
_PARTS, _SAMPLES_PER_PART = 3, 4  # along the edge
_MINIMUM_GRADIENT = 8.0  # grey levels / px
_MINIMUM_HEIGHT = 30.0  # grey levels between the two sides
_LEVEL_RANGE = 0.12  # of the edge's height; what varies by more is no level side


def ringing(sr_image: Tensor, lr_image: Tensor, *, scale: int) -> Tensor:
    """How far SR swings beside strong edges, beyond what LR does, in percent of the edges' height.

    An edge is a maximum of LR's gradient across it (Scharr, above 8 grey levels per px) with more
    than 30 levels of Y between its two sides. A side counts where LR is level 2 to 4 px away from
    the edge, over 5 px along it: its range is below 12 % of the edge's height. There SR's profile
    across the edge is taken three times, as the mean of a third of these 5 px, and only what all
    three show counts, since ringing runs along an edge and texture does not. Overshoot (beyond the
    level side) and undershoot (back from it, 2 to 4 px away) are added, each less LR's own.

    Set5 and Set14 have 0.7 after bicubic enlargement, 1.0 in the ground truth, 1.5 after Lanczos,
    2.0 and 3.6 after unsharp masks of 50 and 100 %.

    Args:
        sr_image: (N, 3, scale * h, scale * w) in [0, 1]; rounded to 8 bits first.
        lr_image: (N, 3, h, w), same range.
        scale: integer factor between the two.

    Returns:
        (N,) in float64: the mean over all sides that count, 0 where there is none.

    Raises:
        ValueError: the sizes do not fit together.
    """
    check_sizes(sr_image, lr_image, scale)
    values: list[Tensor] = []
    for sr, lr in zip(sr_image.split(1), lr_image.split(1), strict=True):
        swings = torch.cat([sides.swing for sides in _level_sides(sr, lr, scale)]).double()
        values.append(100 * swings.sum() / max(len(swings), 1))
    return torch.stack(values)


def ringing_map(sr_image: Tensor, lr_image: Tensor, *, scale: int) -> Tensor:
    """Where SR swings beside edges; arguments and errors as those of `ringing`.

    Returns:
        (N, h, w) at LR's size, percent of the edge's height: up to 2 px from each edge that of the
        worse of its sides that count, 0 elsewhere.
    """
    check_sizes(sr_image, lr_image, scale)
    swings = torch.zeros(lr_image[:, 0].shape, device=lr_image.device)
    for of_image, sr, lr in zip(swings, sr_image.split(1), lr_image.split(1), strict=True):
        for sides in _level_sides(sr, lr, scale):
            places = sides.row * lr.shape[-1] + sides.column
            of_image.view(-1).scatter_reduce_(0, places, 100 * sides.swing, reduce="amax")
    return F.max_pool2d(swings, 5, stride=1, padding=2)


class _Sides(NamedTuple):
    """Sides of edges that are level in LR: the edge's px, SR's swing by the edge's height."""

    row: Tensor
    column: Tensor
    swing: Tensor


def _level_sides(sr_image: Tensor, lr_image: Tensor, scale: int) -> Iterator[_Sides]:
    """Of one picture, (1, 3, H, W), strip by strip."""
    for span in spans(lr_image.shape[-2], keep_px=_STRIP_ROWS, margin_px=_MARGIN_PX):
        lr = 255 * luma(quantize(lr_image[..., span.read, :]))
        sr = 255 * luma(quantize(sr_image[..., span.start * scale : span.stop * scale, :]))
        places, normals = _edges(lr)
        row = places[:, 0] + span.start
        is_kept = (row >= span.keep_start) & (row < span.keep_stop)
        places, normals = places[is_kept], normals[is_kept]
        sides = [
            _side(lr, sr, scale, places, normals, towards_bright=is_bright)
            for is_bright in (True, False)
        ]
        height = sides[0].level - sides[1].level
        for side in sides:
            is_level = (height > _MINIMUM_HEIGHT) & (side.range < _LEVEL_RANGE * height)
            row, column = places[is_level].long().T
            yield _Sides(row + span.start, column, side.swing[is_level] / height[is_level])


def _edges(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Places (E, 2) of edges in (1, 1, h, w), and unit vectors towards their bright side (E, 2)."""
    kernel = levels.new_tensor([[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]) / 32  # Scharr
    padded = F.pad(levels, (1, 1, 1, 1), mode="replicate")
    gradient = F.conv2d(padded, torch.stack([kernel.T, kernel])[:, None])  # down, right
    magnitude = gradient.norm(dim=1, keepdim=True)
    places = (magnitude[0, 0] > _MINIMUM_GRADIENT).nonzero()
    border = math.ceil(math.hypot(_REACH_PX, _WIDTH_PX / 2))
    ends = places.new_tensor(levels.shape[-2:]) - border
    places = places[((places >= border) & (places < ends)).all(dim=1)]
    normals = gradient[0, :, places[:, 0], places[:, 1]].T
    normals = normals / normals.norm(dim=1, keepdim=True)
    here, before, behind = (
        _sample(magnitude, places + step * normals, scale=1) for step in (0, -1, 1)
    )
    is_ridge = (here >= before) & (here > behind)
    return places[is_ridge].float(), normals[is_ridge]


class _Side(NamedTuple):
    level: Tensor  # (E,) grey levels, of LR
    range: Tensor
    swing: Tensor


def _side(
    lr: Tensor,
    sr: Tensor,
    scale: int,
    places: Tensor,
    normals: Tensor,
    *,
    towards_bright: bool,
) -> _Side:
    """One side of each edge; pictures are (1, 1, h, w) in grey levels."""
    outwards = 1 if towards_bright else -1  # also the sign of what lies beyond the level
    tangents = torch.stack([-normals[:, 1], normals[:, 0]], dim=1)
    along = torch.linspace(-_WIDTH_PX / 2, _WIDTH_PX / 2, _PARTS * _SAMPLES_PER_PART)

    def profile(picture: Tensor, distances: Tensor, *, scale: int) -> Tensor:
        """(E, distances, along)."""
        across = outwards * distances.to(lr)[:, None, None] * normals[:, None, None]
        beside = along.to(lr)[:, None] * tangents[:, None, None]
        return _sample(picture, places[:, None, None] + across + beside, scale=scale)

    steps_lr = torch.arange(2 * _REACH_PX + 1) / 2
    steps_sr = torch.arange(scale * _REACH_PX + 1) / scale
    profile_lr = profile(lr, steps_lr, scale=1)
    level_area = profile_lr[:, steps_lr >= _LEVEL_FROM_PX].flatten(1)
    level = level_area.mean(dim=1)
    beyond_lr = outwards * (profile_lr.mean(dim=2) - level[:, None])
    parts = profile(sr, steps_sr, scale=scale).unflatten(2, (_PARTS, -1)).mean(dim=3)
    beyond_sr = outwards * (parts - level[:, None, None])
    overshoot = beyond_sr.amin(dim=2).amax(dim=1) - beyond_lr.amax(dim=1).clamp(min=0)
    undershoot = (-beyond_sr[:, steps_sr >= _LEVEL_FROM_PX]).amin(dim=2).amax(dim=1) - (
        -beyond_lr[:, steps_lr >= _LEVEL_FROM_PX]
    ).amax(dim=1).clamp(min=0)
    return _Side(
        level,
        level_area.amax(dim=1) - level_area.amin(dim=1),
        overshoot.clamp(min=0) + undershoot.clamp(min=0),
    )


def _sample(picture: Tensor, places: Tensor, *, scale: int) -> Tensor:
    """Bilinear values of (1, 1, h, w) at (..., 2), given as row and column of LR's px."""
    size = places.new_tensor(picture.shape[-2:])
    # To [-1, 1] from the outer edge of the first px to that of the last; x comes first.
    grid = (((places + 0.5) * scale * 2) / size - 1).flip(-1)
    values = F.grid_sample(picture, grid.reshape(1, 1, -1, 2), align_corners=False)
    return values.reshape(places.shape[:-1])
