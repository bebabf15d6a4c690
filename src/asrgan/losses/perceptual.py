"""A loss that compares pictures by what a frozen network sees in them."""

import copy
from collections.abc import Callable, Sequence
from typing import Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asrgan.errors import UserError
from asrgan.losses.content import ContentLoss

_DISTANCES = {"l1": F.l1_loss, "l2": F.mse_loss}


class PerceptualLoss(ContentLoss):
    """Weighted distance between feature maps of both pictures, averaged over each map's values.

    The network is used, not trained: it stands outside of the module tree, so that no checkpoint,
    optimizer or replica holds it, but follows this module to its device and precision.

    Args:
        network: frozen; takes pictures (N, 3, H, W) in [0, 1] and layer names, and returns feature
            maps (N, C, h, w) by name.
        weight: factor of this loss in the generator's total.
        layers: whose features are compared.
        factors: of their distances, one for each layer; None: 1 for each.
        feature_scale: multiplies the features before they are compared; Ledig et al. take 1/12.75.
        distance: "l2" as Ledig et al. 2017, "l1" as Wang et al. 2018 (ESRGAN).

    Raises:
        UserError: ``layers`` is empty or names one twice, ``factors`` are not as many, or
            ``distance`` is neither of the two.

    Source: Ledig et al. 2017, eq. 5 and section 3.2.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        weight: float,
        layers: Sequence[str],
        factors: Sequence[float] | None,
        feature_scale: float,
        distance: Literal["l1", "l2"],
    ) -> None:
        super().__init__(weight=weight)
        if isinstance(layers, str) or not layers or len(set(layers)) < len(layers):
            raise UserError(
                f"`layers` (={layers}) of the perceptual loss must be a list of different layers;"
                " try [conv5_4]."
            )
        if factors is not None and len(factors) != len(layers):
            raise UserError(
                f"`factors` (={factors}) of the perceptual loss must be one for each of its layers"
                f" ({', '.join(layers)})."
            )
        if distance not in _DISTANCES:
            raise UserError(
                f"`distance` (={distance!r}) of the perceptual loss must be 'l1' or 'l2'."
            )
        self.layers = dict(zip(layers, factors or [1.0] * len(layers), strict=True))
        self.feature_scale = feature_scale
        self._distance = _DISTANCES[distance]
        self._outside_the_tree = (network,)  # a plain attribute would register it as a submodule
        self._autocast_network: tuple[nn.Module, ...] = ()

    @property
    def network(self) -> nn.Module:
        """The frozen network."""
        return self._outside_the_tree[0]

    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        """The weighted sum over the layers; see `ContentLoss.forward`."""
        network = self.network_for(sr_image.device.type)
        with torch.no_grad():
            hr_features = network(hr_image, self.layers)
        sr_features = network(sr_image, self.layers)
        distances = [
            factor
            * self._distance(
                self.feature_scale * sr_features[layer].float(),
                self.feature_scale * hr_features[layer].float(),
            )
            for layer, factor in self.layers.items()
        ]
        return torch.stack(distances).sum()

    def network_for(self, device_type: str) -> nn.Module:
        """The network, with the weights that autocast would make of its own at each pass."""
        if not torch.is_autocast_enabled(device_type):
            return self.network
        if not self._autocast_network:
            network = copy.deepcopy(self.network)
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.to(torch.get_autocast_dtype(device_type))
            self._autocast_network = (network,)
        return self._autocast_network[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # The only hook that `.to()` of a surrounding module reaches.
        self._autocast_network = ()
        self.network._apply(fn, recurse)  # pyright: ignore[reportPrivateUsage]
        return super()._apply(fn, recurse)
