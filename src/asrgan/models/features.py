"""Frozen feature networks for perceptual losses: VGG-19, and a narrow one distilled from it."""

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.downloads import fetch_weights
from asrgan.errors import UserError
from asrgan.models.files import read_pickle
from asrgan.models.recomputing import runner

# Convolutions of each stage, and their features: Simonyan & Zisserman 2014, table 1, column E.
_STAGES = (2, 2, 4, 4, 4)
_WIDTHS = (64, 128, 256, 512, 512)
# Where the convolutions stand in torchvision's `features`.
_TORCHVISION_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

_Padding = Literal["zeros", "reflect"]


class VGG19Features(nn.Module):
    """Feature maps of VGG-19 trained on ImageNet.

    Layers are ``conv1_1`` ... ``conv5_4`` (before the activation) and ``relu1_1`` ... ``relu5_4``
    (after it). ``relu5_4`` is SRGAN's VGG54, ``conv5_4`` is ESRGAN's.

    Args:
        weights: a state dict of torchvision's ``vgg19``; None is torchvision's ImageNet file, from
            its cache, else from the network; ``untrained`` is of random numbers, to measure time
            and memory.

    Attributes:
        recomputes: whether the backward pass is left the stages' inputs alone; see ``recomputed``.

    Raises:
        UserError: the file is missing, cannot be downloaded, is damaged or holds something else.

    Source: Simonyan & Zisserman 2014, table 1, column E.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, *, weights: str | Path | None) -> None:
        super().__init__()
        names = _convolution_names(_STAGES)
        numbers = zip(names, _TORCHVISION_NUMBERS, strict=True)
        path = Path(weights) if weights else _imagenet_weights()
        published = _untrained() if weights == "untrained" else read_pickle(path)
        self.convolutions = _convolutions(
            {name: f"features.{number}" for name, number in numbers},
            published,
            padding_mode="zeros",
            path=path,
        )
        self.layers = _layers(names)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(_IMAGENET_DEVIATION).view(3, 1, 1), persistent=False
        )
        self.recomputes = False
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Feature maps of some layers; nothing behind the deepest is computed.

        Args:
            image: (N, 3, H, W) in [0, 1].
            layers: their names.

        Returns:
            One map per layer.

        Raises:
            UserError: a layer is unknown, or the image too small for it.
        """
        normalized = (image - self.mean) / self.deviation
        return _extract(self.convolutions, normalized, layers, recomputes=self.recomputes)


class DistilledVGG19Features(nn.Module):
    """Feature maps of VGG-19 distilled to a quarter of its channels, for CPUs.

    Layers are ``conv1_1`` ... ``conv5_1`` (before the activation) and ``relu1_1`` ... ``relu5_1``
    (after it). 16 times fewer weights than VGG-19, reflection padding, its own input map.

    Args:
        weights: ``vgg19_small16x`` of the authors, ``conv0`` ... ``conv51`` under ``model``.

    Attributes:
        recomputes: as ``VGG19Features``'s.

    Raises:
        UserError: the file is missing, damaged or holds something else.

    Source: Wang et al. 2020, "Collaborative Distillation for Ultra-Resolution Universal Style
        Transfer" (CVPR).
    """

    def __init__(self, *, weights: str | Path) -> None:
        super().__init__()
        path = Path(weights)
        published = read_pickle(path).get("model", {})
        names = _convolution_names((*_STAGES[:4], 1))
        self.input = _convolution("conv0", published, num_in=3, padding_mode="zeros", path=path)
        self.convolutions = _convolutions(
            {name: name.replace("_", "") for name in names},
            published,
            padding_mode="reflect",
            path=path,
        )
        self.layers = _layers(names)
        self.recomputes = False
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """As ``VGG19Features.forward``."""
        features = self.input(image)
        return _extract(self.convolutions, features, layers, recomputes=self.recomputes)


def _imagenet_weights() -> Path:
    # Here, since it takes seconds and 160 MiB, and whoever uses a generator needs none of it.
    from torchvision.models import VGG19_Weights

    return fetch_weights(VGG19_Weights.IMAGENET1K_V1.url, purpose="The perceptual loss")


def _untrained() -> dict[str, Tensor]:
    widths = [width for width, count in zip(_WIDTHS, _STAGES, strict=True) for _ in range(count)]
    published: dict[str, Tensor] = {}
    for number, num_in, width in zip(_TORCHVISION_NUMBERS, [3, *widths], widths, strict=False):
        deviation = (2 / (9 * num_in)) ** 0.5  # keeps the features' size: He et al. 2015, eq. 10
        published[f"features.{number}.weight"] = deviation * torch.randn(width, num_in, 3, 3)
        published[f"features.{number}.bias"] = torch.zeros(width)
    return published


def _extract(
    convolutions: nn.ModuleDict,
    features: Tensor,
    layers: Collection[str],
    *,
    recomputes: bool,
) -> dict[str, Tensor]:
    known = _layers(list(convolutions))
    if unknown := sorted(set(layers) - set(known)):
        raise UserError(f"The feature layer `{unknown[0]}` is unknown; known: {', '.join(known)}.")
    run = runner(recomputes=recomputes)
    maps: dict[str, Tensor] = {}
    for stage in _by_stage(convolutions):
        if maps.keys() == set(layers):
            break
        first = next(iter(stage))
        if first != "conv1_1":
            # Pooling leaves at least one pixel, and reflection needs a second one.
            is_reflected = stage[first].padding_mode == "reflect"
            if min(features.shape[-2:]) < (4 if is_reflected else 2):
                raise UserError(
                    f"The image is too small for the feature layer `{first}`; use a larger crop or "
                    f"earlier layers."
                )
            features = F.max_pool2d(features, 2)
        wanted = set(layers) - maps.keys()
        features, found = run(stage, features, call=partial(_through_stage, layers=wanted))
        maps |= found
    return maps


def _by_stage(convolutions: nn.ModuleDict) -> Iterator[nn.ModuleDict]:
    for _, items in groupby(convolutions.items(), key=lambda item: item[0].partition("_")[0]):
        yield nn.ModuleDict(dict(items))


def _through_stage(
    stage: nn.Module, features: Tensor, *, layers: Collection[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The stage's last map, and those that are wanted; nothing behind the deepest is computed."""
    maps: dict[str, Tensor] = {}
    for name, convolution in stage.named_children():
        before = convolution(features)
        features = F.relu(before, inplace=name not in layers)
        both = {name: before, name.replace("conv", "relu"): features}
        maps |= {layer: both[layer] for layer in both if layer in layers}
        if maps.keys() == layers:
            break
    return features, maps


def _convolution_names(stages: Collection[int]) -> list[str]:
    return [
        f"conv{stage}_{number}"
        for stage, count in enumerate(stages, start=1)
        for number in range(1, count + 1)
    ]


def _layers(names: Collection[str]) -> tuple[str, ...]:
    return tuple(layer for name in names for layer in (name, name.replace("conv", "relu")))


def _convolutions(
    published_names: Mapping[str, str],
    published: Mapping[str, Tensor],
    *,
    padding_mode: _Padding,
    path: Path,
) -> nn.ModuleDict:
    """A chain of convolutions that starts from a picture."""
    convolutions = nn.ModuleDict()
    num_in = 3
    for name, published_name in published_names.items():
        convolution = _convolution(
            published_name, published, num_in=num_in, padding_mode=padding_mode, path=path
        )
        convolutions[name] = convolution
        num_in = convolution.out_channels
    return convolutions


def _convolution(
    name: str, published: Mapping[str, Tensor], *, num_in: int, padding_mode: _Padding, path: Path
) -> nn.Conv2d:
    """A convolution that keeps the size, with the weights of a file."""
    weight, bias = published.get(f"{name}.weight"), published.get(f"{name}.bias")
    if weight is None or bias is None:
        raise UserError(f"`{path}` has no `{name}.weight` and `.bias`; it is of another network.")
    if weight.ndim != 4 or weight.shape[1] != num_in or bias.shape != weight.shape[:1]:
        raise UserError(
            f"`{path}` holds a `{name}` of shape {tuple(weight.shape)}; it is of another network."
        )
    num_out, _, size, _ = weight.shape
    with torch.device("meta"):
        convolution = nn.Conv2d(num_in, num_out, size, padding=size // 2, padding_mode=padding_mode)
    convolution.load_state_dict({"weight": weight, "bias": bias}, assign=True)
    return convolution
