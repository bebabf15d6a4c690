"""LPIPS, DISTS and feature distance: how different two pictures look, judged by a network.

A large picture goes through the network in tiles. They are read with margins as wide as the network
sees, so the features that count, and with them the values, are those of the whole picture.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.functional.image.dists import DISTSNetwork
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

from asrgan.downloads import WeightsUnavailableError, fetch_weights
from asrgan.errors import UserError
from asrgan.imaging import quantize
from asrgan.metrics.tiles import Mean, Span, spans

NETWORK_MINIMUM_PX = 32  # AlexNet's last feature map vanishes below 31 px

_TILE_PX = 768
_TILE_MARGIN_PX = 112  # the deepest features see 105 px at most; a multiple of their stride
_COARSEST_STRIDE = 16

_LPIPS_BACKBONES: dict[str, tuple[Any, Sequence[int]]] = {  # weights; stride of each stage's map
    "alex": (AlexNet_Weights.DEFAULT, (4, 8, 16, 16, 16)),
    "vgg": (VGG16_Weights.DEFAULT, (1, 2, 4, 8, 16)),
    "squeeze": (SqueezeNet1_1_Weights.DEFAULT, (2, 4, 8, 16, 16, 16, 16)),
}
_VGG19_STRIDES = {"relu1_2": 1, "relu2_2": 2, "relu3_4": 4, "relu4_4": 8, "relu5_1": 16}
_DISTS_STRIDES = (1, 1, 2, 4, 8, 16)
_C1 = _C2 = 1e-6  # of DISTS, eq. 4


class _Comparison(nn.Module):
    """A distance of pairs, computed in float32 also inside of a training run's autocast."""

    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        """The distance of each pair.

        Args:
            sr_image: (N, 3, H, W) in [0, 1], each side at least 32 px; rounded to 8 bits first.
            hr_image: ground truth, same shape and range.

        Returns:
            (N,) in float64.

        Raises:
            UserError: the pictures are too small for the networks.
        """
        height, width = hr_image.shape[-2:]
        if min(height, width) < NETWORK_MINIMUM_PX:
            raise UserError(
                f"{type(self).__name__} needs images of at least {NETWORK_MINIMUM_PX} px each way, "
                f"got {width}x{height}; leave the image out."
            )
        with torch.no_grad(), torch.autocast(hr_image.device.type, enabled=False):
            return self._compare(sr_image, hr_image)

    def _compare(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        raise NotImplementedError


class LPIPS(_Comparison):
    """Learned perceptual image patch similarity, version 0.1; 0 is equal, lower is better.

    The linear heads come with torchmetrics, the backbone's ImageNet weights from torchvision's
    cache (``$TORCH_HOME/hub/checkpoints``), where they are downloaded to when they are missing.

    Args:
        network: the backbone: "alex", the one of most tables, "vgg" or "squeeze".

    Raises:
        UserError: no such network.
        WeightsUnavailableError: the weights can be neither read nor downloaded; the message names
            the file's path and the address.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
    Metric", eq. 1.
    """

    def __init__(self, *, network: str) -> None:
        super().__init__()
        if network not in _LPIPS_BACKBONES:
            raise UserError(
                f"`network` (={network!r}) of LPIPS must be one of {', '.join(_LPIPS_BACKBONES)}."
            )
        weights, self._strides = _LPIPS_BACKBONES[network]
        name: Any = network
        lpips = _open("LPIPS", weights, lambda: LearnedPerceptualImagePatchSimilarity(name)).net
        self._normalize = lpips.scaling_layer
        self._stages = nn.ModuleList(
            lpips.net.slices if network == "squeeze" else lpips.net.children()
        )
        self._heads = nn.ModuleList(head.model[-1] for head in lpips.lins)  # leaves dropout out

    def _compare(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        means = [Mean() for _ in self._stages]
        for stage, x, y in _kept_features(self._features, self._strides, sr_image, hr_image):
            means[stage].add(self._heads[stage]((_unit(x) - _unit(y)).square()))
        return torch.cat([mean.value for mean in means], dim=1).sum(dim=1)

    def _features(self, image: Tensor) -> Iterator[Tensor]:
        features = self._normalize(2 * image - 1)
        for stage in self._stages:
            features = stage(features)
            yield features


class FeatureDistance(_Comparison):
    """Distance of the features that a network has of both pictures; 0 is equal, lower is better.

    It is LPIPS with all of its learned weights 1 (there "uncalibrated"), for where only another
    network's weights are at hand. Values of two networks do not compare. A generator whose
    perceptual loss was of the same network is favoured.

    Args:
        network: takes pictures (N, 3, H, W) in [0, 1] and layer names, and returns feature maps
            (N, C, h, w) by name.
        strides: the layers whose maps count, and the px from one value of a map to the next; by
            default those of ``asrgan.models.VGG19Features``, to ``relu5_1``.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
    Metric", eq. 1 and section 3.
    """

    def __init__(self, *, network: nn.Module, strides: Mapping[str, int] = _VGG19_STRIDES) -> None:
        super().__init__()
        self._network = network
        self._strides = strides

    def _compare(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        means = [Mean() for _ in self._strides]
        strides = tuple(self._strides.values())
        for stage, x, y in _kept_features(self._features, strides, sr_image, hr_image):
            means[stage].add((_unit(x) - _unit(y)).square().sum(dim=1, keepdim=True))
        return torch.cat([mean.value for mean in means], dim=1).sum(dim=1)

    def _features(self, image: Tensor) -> Iterator[Tensor]:
        features = self._network(image, tuple(self._strides))
        return (features[layer] for layer in self._strides)


class DISTS(_Comparison):
    """Deep image structure and texture similarity; 0 is equal, lower is better.

    It compares means and covariances of VGG-16's features over the whole picture, in its own size:
    the authors' numbers are of pictures reduced to 256 px. The weights of the features come with
    torchmetrics, VGG-16's from torchvision's cache, as those of `LPIPS`.

    Raises:
        WeightsUnavailableError: as `LPIPS`.

    Source: Ding et al. 2020, "Image Quality Assessment: Unifying Structure and Texture Similarity",
    eq. 4-6.
    """

    def __init__(self) -> None:
        super().__init__()
        self._network = _open("DISTS", VGG16_Weights.DEFAULT, DISTSNetwork)

    def _compare(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        moments = [_Moments() for _ in _DISTS_STRIDES]
        for stage, x, y in _kept_features(self._features, _DISTS_STRIDES, sr_image, hr_image):
            moments[stage].add(x, y)
        textures, structures = (
            torch.cat(parts, dim=1)
            for parts in zip(*(of_map.similarities() for of_map in moments), strict=True)
        )
        texture_weights, structure_weights = (
            weights.double().flatten() for weights in (self._network.alpha, self._network.beta)
        )
        similarity = (texture_weights * textures + structure_weights * structures).sum(dim=1)
        return 1 - similarity / (texture_weights.sum() + structure_weights.sum())

    def _features(self, image: Tensor) -> Iterator[Tensor]:
        network = self._network
        yield image  # the first map is the picture itself
        features = (image - network.mean) / network.std
        for number in range(1, len(_DISTS_STRIDES)):
            features = getattr(network, f"stage{number}")(features)
            yield features


class _Moments:
    """Means, variances and covariance of two maps, each channel over all pieces."""

    def __init__(self) -> None:
        self._x, self._y, self._xx, self._yy, self._xy = (Mean() for _ in range(5))

    def add(self, x: Tensor, y: Tensor) -> None:
        """Adds a piece, (N, C, h, w) twice."""
        self._x.add(x)
        self._y.add(y)
        self._xx.add(x * x)
        self._yy.add(y * y)
        self._xy.add(x * y)

    def similarities(self) -> tuple[Tensor, Tensor]:
        """Of the texture, by the means, and of the structure, by the covariance; (N, C) each."""
        product, power = self._x.value * self._y.value, self._x.value**2 + self._y.value**2
        covariance = self._xy.value - product
        variances = self._xx.value + self._yy.value - power
        return (2 * product + _C1) / (power + _C1), (2 * covariance + _C2) / (variances + _C2)


def _open(name: str, weights: Any, build: Callable[[], Any]) -> Any:
    """Builds a metric of torchmetrics, whose backbone reads its weights from torchvision's cache.

    Raises:
        WeightsUnavailableError: the weights can be neither read nor downloaded.
    """
    path = fetch_weights(weights.url, purpose=name)
    try:
        torch.load(path, map_location="cpu", weights_only=True)  # torch.hub would run any code
        with torch.random.fork_rng(devices=[]):  # all is drawn at random before it is read
            return build()
    except Exception as error:  # damaged files raise anything
        raise WeightsUnavailableError(
            f"{name} cannot read {path} ({type(error).__name__}); delete the file, then it is"
            " downloaded again."
        ) from error


def _kept_features(
    features: Callable[[Tensor], Iterable[Tensor]],
    strides: Sequence[int],
    sr_image: Tensor,
    hr_image: Tensor,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Features of both pictures, each place once: (number of the stage, SR's, HR's)."""
    height, width = hr_image.shape[-2:]
    for rows, columns in product(_tile_spans(height), _tile_spans(width)):
        x, y = (quantize(image[..., rows.read, columns.read]) for image in (sr_image, hr_image))
        maps = zip(strides, features(x), features(y), strict=True)
        for number, (stride, x_map, y_map) in enumerate(maps):
            kept = (..., rows.kept(stride), columns.kept(stride))
            if x_map[kept].numel():  # the last tile may be narrower than a stride
                yield number, x_map[kept], y_map[kept]


def _tile_spans(length: int) -> Iterator[Span]:
    """As few tiles as possible, about equally long."""
    number = -(-length // _TILE_PX)
    keep_px = -(-length // (number * _COARSEST_STRIDE)) * _COARSEST_STRIDE
    return spans(length, keep_px=keep_px, margin_px=_TILE_MARGIN_PX)


def _unit(features: Tensor) -> Tensor:
    """Each position's features with a norm of 1."""
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-8).sqrt()
