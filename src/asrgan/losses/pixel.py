"""Losses that compare pictures value by value."""

import torch.nn.functional as F
from torch import Tensor

from asrgan.losses.content import ContentLoss


class L1Loss(ContentLoss):
    """Mean absolute error, in units of [0, 1]. Source: Zhao et al. 2017, section III-A."""

    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        """The mean over all values; see `ContentLoss.forward`."""
        return F.l1_loss(sr_image.float(), hr_image.float())


class L2Loss(ContentLoss):
    """Mean squared error, in squared units of [0, 1]. Source: Ledig et al. 2017, eq. 4."""

    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        """The mean over all values; see `ContentLoss.forward`."""
        return F.mse_loss(sr_image.float(), hr_image.float())


class CharbonnierLoss(ContentLoss):
    """L1 with a rounded tip: the mean of sqrt(d^2 + epsilon^2). Source: Lai et al. 2017, eq. 2.

    Args:
        weight: factor of this loss in the generator's total.
        epsilon: where the square turns into the absolute value, in units of [0, 1]; the paper
            takes 1e-3. It is also the loss of equal pictures.
    """

    def __init__(self, *, weight: float, epsilon: float) -> None:
        super().__init__(weight=weight)
        self.epsilon = epsilon

    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        """The mean over all values; see `ContentLoss.forward`."""
        difference = sr_image.float() - hr_image.float()
        return (difference.square() + self.epsilon**2).sqrt().mean()
