"""NIQE: how unlike a natural photograph a picture is; nothing is compared with it.

Statistics of locally normalized luma in blocks of 96x96 px, at full and half size, are compared
with those of pristine photographs. The numbers are those of the authors' MATLAB code.
"""

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from asrgan.downloads import WeightsUnavailableError, fetch_weights
from asrgan.errors import UserError
from asrgan.imaging import luma, quantize
from asrgan.metrics.filters import gaussian_taps, weigh
from asrgan.metrics.tiles import spans

BLOCK_PX = 96
_NUM_FEATURES = 36
_MARGIN_PX = (
    16  # a px of the half-size map sees 10 px beyond itself; even, so that the halves align
)
_HALF_WINDOW_PX = 3
_WINDOW_SIGMA_PX = 7 / 6
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # the neighbours of which products are taken

_MODEL_ARRAYS = ("mu_pris_param", "cov_pris_param")
_MODEL_URL = (
    "https://raw.githubusercontent.com/XPixelGroup/BasicSR/master/basicsr/metrics/"
    "niqe_pris_params.npz"
)
_MODEL_SHA256 = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"


class PristineModel(NamedTuple):
    """The features of pristine photographs: mean (36,) and covariance (36, 36), float64."""

    mean: Tensor
    covariance: Tensor


def open_pristine_model(path: str | Path | None) -> PristineModel:
    """Reads the authors' model of pristine photographs, in BasicSR's file.

    Args:
        path: ``niqe_pris_params.npz``; None: torch's cache, into which it is downloaded if it is
            not there yet.

    Raises:
        UserError: the file given cannot be read or holds something else.
        WeightsUnavailableError: the file can be neither read from the cache nor downloaded.
    """
    file = fetch_weights(_MODEL_URL, purpose="NIQE", sha256=_MODEL_SHA256) if path is None else path
    try:
        with np.load(file, allow_pickle=False) as arrays:
            mean, covariance = (torch.from_numpy(arrays[name]).double() for name in _MODEL_ARRAYS)
        return PristineModel(
            mean.reshape(_NUM_FEATURES), covariance.reshape(_NUM_FEATURES, _NUM_FEATURES)
        )
    except Exception as error:  # damaged files raise anything
        if path is None:
            raise WeightsUnavailableError(
                f"NIQE cannot read {file} ({type(error).__name__}); delete the file, then it is"
                " downloaded again."
            ) from error
        raise UserError(
            f"`niqe` (={path}) is no file of NIQE's pristine model ({type(error).__name__}); give"
            f" the one of {_MODEL_URL}."
        ) from error


def niqe(image: Tensor, *, model: PristineModel) -> Tensor:
    """Natural image quality evaluator of each picture; lower is better, good photographs have 2-5.

    Y (BT.601, 16-235) is rounded to 8 bits, as MATLAB's. What whole blocks leave over at the right
    and at the bottom does not count.

    Args:
        image: (N, 3, H, W) in [0, 1]; rounded to 8 bits first.
        model: see `open_pristine_model`.

    Returns:
        (N,) in float64, nan for less than two blocks of 96x96 px that are not flat.

    Source: Mittal, Soundararajan and Bovik 2013, "Making a 'Completely Blind' Image Quality
    Analyzer", eq. 1-10.
    """
    features = _features(image)
    model = PristineModel(*(part.to(features.device) for part in model))
    return torch.stack([_distance(of_image, model) for of_image in features])


def _distance(features: Tensor, model: PristineModel) -> Tensor:
    """(number of blocks, 36) -> how far they are from the pristine model, eq. 10."""
    whole = features[~features.isnan().any(dim=1)]
    if len(whole) < 2:
        return features.new_tensor(math.nan)
    difference = model.mean - features.nanmean(dim=0)
    covariance = (model.covariance + whole.T.cov()) / 2
    return (difference @ torch.linalg.pinv(covariance, hermitian=True) @ difference).sqrt()


def _features(image: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, number of blocks, 36); a row of blocks is in memory at a time."""
    height, width = (side // BLOCK_PX * BLOCK_PX for side in image.shape[-2:])
    if not height or not width:
        return image.new_zeros(len(image), 0, _NUM_FEATURES, dtype=torch.float64)
    rows: list[Tensor] = []
    for span in spans(height, keep_px=BLOCK_PX, margin_px=_MARGIN_PX):
        strip = luma(quantize(image[..., span.read, :width]).double()).mul(255).round()
        scales = [
            _block_features(_normalize(picture)[..., span.kept(stride), :], BLOCK_PX // stride)
            for picture, stride in ((strip, 1), (_halve(strip), 2))
        ]
        rows.append(torch.cat(scales, dim=-1))
    return torch.cat(rows, dim=1)


def _normalize(image: Tensor) -> Tensor:
    """Mean-subtracted, contrast-normalized coefficients, (N, 1, H, W) -> same, eq. 1-3."""
    mean = _blur(image).float().double()  # without the last digits, flat areas become 0 exactly
    deviation = (_blur(image.square()) - mean.square()).abs().sqrt()
    return (image - mean) / (deviation + 1)


def _block_features(coefficients: Tensor, size_px: int) -> Tensor:
    """(N, 1, size, B * size) -> 18 features of each of its blocks, (N, B, 18)."""
    blocks = coefficients.unflatten(-1, (-1, size_px)).permute(0, 3, 1, 2, 4).squeeze(2)
    alpha, left, right = _fit(blocks.flatten(-2))
    features = [alpha, (left + right) / 2]
    for shift in _SHIFTS:
        products = blocks * blocks.roll(shift, dims=(-2, -1))
        alpha, left, right = _fit(products.flatten(-2))
        mean = (right - left) * (torch.lgamma(2 / alpha) - torch.lgamma(1 / alpha)).exp()
        features += [alpha, mean, left, right]
    return torch.stack(features, dim=-1)


def _fit(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Asymmetric generalized Gaussians, (..., n) -> shape, left and right scale, eq. 4-7.

    The scales are nan where one side has no value. The authors' code then takes the smallest shape.
    """
    squares = values.square()
    left, right = (
        (torch.where(side, squares, 0).sum(dim=-1) / side.sum(dim=-1)).sqrt()
        for side in (values < 0, values > 0)
    )
    ratio = left / right
    moments = values.abs().mean(dim=-1).square() / squares.mean(dim=-1)
    moments = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1).square()
    shapes, moments_of_shapes = _shapes()
    nearest = (moments[..., None].cpu() - moments_of_shapes).abs().argmin(dim=-1)
    alpha = shapes[nearest].to(values.device)
    alpha = torch.where(moments.isnan(), shapes[0], alpha)
    scale = ((torch.lgamma(1 / alpha) - torch.lgamma(3 / alpha)) / 2).exp()
    return alpha, left * scale, right * scale


@cache
def _shapes() -> tuple[Tensor, Tensor]:
    """The shapes that are tried, and the ratio of moments that each would have."""
    shapes = torch.arange(200, 10001, dtype=torch.float64) / 1000
    inverse = 1 / shapes
    logarithm = 2 * torch.lgamma(2 * inverse) - torch.lgamma(inverse) - torch.lgamma(3 * inverse)
    return shapes, logarithm.exp()


def _blur(image: Tensor) -> Tensor:
    """Gaussian mean in 7x7, edge px continued."""
    padded = F.pad(image, (_HALF_WINDOW_PX,) * 4, mode="replicate")
    return weigh(padded, gaussian_taps(radius_px=_HALF_WINDOW_PX, sigma_px=_WINDOW_SIGMA_PX))


def _halve(image: Tensor) -> Tensor:
    """MATLAB's ``imresize(image, 0.5)`` without rounding: antialiased bicubic, edges mirrored."""
    distances = [0.25 * i for i in (-7, -5, -3, -1, 1, 3, 5, 7)]
    reach = 3
    for dim in (-2, -1):
        ends = image.narrow(dim, 0, reach), image.narrow(dim, image.shape[dim] - reach, reach)
        image = torch.cat([ends[0].flip(dim), image, ends[1].flip(dim)], dim=dim)
    return weigh(image, [_cubic(abs(distance)) / 2 for distance in distances], stride=2)


def _cubic(distance: float) -> float:
    """Keys 1981, eq. 15, of a distance in [0, 2]."""
    if distance <= 1:
        return 1.5 * distance**3 - 2.5 * distance**2 + 1
    return -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
