"""LPIPS: how different two pictures look, judged by a network."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights

from asrgan.downloads import WeightsUnavailableError, fetch_weights
from asrgan.errors import UserError

_BACKBONES = {
    "alex": AlexNet_Weights.DEFAULT,
    "vgg": VGG16_Weights.DEFAULT,
    "squeeze": SqueezeNet1_1_Weights.DEFAULT,
}


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, version 0.1; 0 is equal, lower is better.

    The linear heads come with torchmetrics, the backbone's ImageNet weights from torchvision's
    cache (``$TORCH_HOME/hub/checkpoints``), where they are downloaded to when they are missing.

    Args:
        network: the backbone; "alex" is the one of most tables.

    Raises:
        UserError: no such network.
        WeightsUnavailableError: the weights can be neither read nor downloaded; the message names
            the file's path and the address.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual
    Metric", eq. 1.
    """

    minimum_size_px: ClassVar[int] = 32
    """Shortest side; AlexNet's last feature map vanishes below 31 px."""

    def __init__(self, *, network: str) -> None:
        super().__init__()
        if network not in _BACKBONES:
            raise UserError(
                f"`network` (={network!r}) of LPIPS must be one of {', '.join(_BACKBONES)}."
            )
        self.network_name = network
        path = fetch_weights(_BACKBONES[network].url, purpose="LPIPS")
        try:
            torch.load(path, map_location="cpu", weights_only=True)  # torch.hub would run any code
            metric = LearnedPerceptualImagePatchSimilarity(cast("Any", network), normalize=True)
        except Exception as error:  # damaged files raise anything
            raise WeightsUnavailableError(
                f"LPIPS cannot read {path} ({type(error).__name__}); delete the file, then it is"
                " downloaded again."
            ) from error
        self._network = metric.net  # the metric around it returns means only, not values per image

    @torch.no_grad()
    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        """The distance of each pair.

        Args:
            sr_image: (N, 3, H, W) in [0, 1], each side at least 32 px.
            hr_image: ground truth, same shape and range.

        Returns:
            (N,).

        Raises:
            UserError: the pictures are too small for the networks.
        """
        height, width = hr_image.shape[-2:]
        if min(height, width) < self.minimum_size_px:
            raise UserError(
                f"LPIPS needs images of at least {self.minimum_size_px} px each way, "
                f"got {width}x{height}; leave the image out."
            )
        with torch.autocast(hr_image.device.type, enabled=False):  # in training as in evaluation
            return self._network(sr_image.float(), hr_image.float(), normalize=True).flatten()
