"""Adversarial objectives: what generator and discriminator make of the discriminator's logits.

Real pictures should get high logits, fake ones low. Logits have any shape, (N, 1) or per pixel
(N, 1, H, W); every mean runs over all of them. Computed in float32.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor


class AdversarialObjective(ABC):
    """The two losses of one adversarial game.

    Args:
        weight: factor of ``generator_loss`` in the generator's total; ``discriminator_loss`` stands
            alone and has none.
    """

    needs_real: ClassVar[bool] = False
    """Whether ``generator_loss`` looks at the real logits, which cost a pass of the network."""

    def __init__(self, *, weight: float) -> None:
        self.weight = weight

    @abstractmethod
    def generator_loss(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """The generator's loss before its weight, low when fakes pass as real.

        Args:
            real_logits: of ground truth, detached or not; may be None unless ``needs_real``.
            fake_logits: of the generator's pictures; the gradient goes through them.

        Returns:
            A float32 scalar.
        """

    @abstractmethod
    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The discriminator's loss, low when real and fake are told apart.

        Args:
            real_logits: of ground truth.
            fake_logits: of the generator's pictures, detached from the generator.

        Returns:
            A float32 scalar.
        """

    def probabilities(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        """How likely the discriminator holds each for real, as this objective reads its logits.

        Returns:
            Of the real and of the fake ones, float32 in [0, 1], of their shapes.
        """
        return real_logits.float().sigmoid(), fake_logits.float().sigmoid()


class NonSaturatingLoss(AdversarialObjective):
    """Cross entropy; the generator maximises log D instead of minimising log (1 - D).

    Source: Goodfellow et al. 2014, eq. 1 and the remark after it; Ledig et al. 2017, eq. 6.
    """

    def generator_loss(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:  # noqa: ARG002
        """The mean of -log sigmoid(fake)."""
        return F.softplus(-fake_logits.float()).mean()

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The mean of -log sigmoid(real) plus that of -log sigmoid(-fake)."""
        return F.softplus(-real_logits.float()).mean() + F.softplus(fake_logits.float()).mean()


class HingeLoss(AdversarialObjective):
    """Logits beyond the margins -1 and 1 no longer teach the discriminator.

    Source: Zhang et al. 2018 (SAGAN), eq. 4.
    """

    def generator_loss(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:  # noqa: ARG002
        """The mean of -fake."""
        return -fake_logits.float().mean()

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The mean of max(0, 1 - real) plus that of max(0, 1 + fake)."""
        return F.relu(1 - real_logits.float()).mean() + F.relu(1 + fake_logits.float()).mean()


class LeastSquaresLoss(AdversarialObjective):
    """Squared distance of the logits to 1 for real and 0 for fake.

    Source: Mao et al. 2017 (LSGAN), eq. 9.
    """

    def generator_loss(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:  # noqa: ARG002
        """Half the mean of (fake - 1)^2."""
        return (fake_logits.float() - 1).square().mean() / 2

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """Half the mean of (real - 1)^2 plus half that of fake^2."""
        real_loss = (real_logits.float() - 1).square().mean()
        return (real_loss + fake_logits.float().square().mean()) / 2

    def probabilities(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        """The logits themselves, whose targets are 1 and 0."""
        return real_logits.float().clamp(0, 1), fake_logits.float().clamp(0, 1)


class RelativisticAverageLoss(AdversarialObjective):
    """Cross entropy of each logit relative to the mean of the other side's.

    The mean is that of this process's batch. BasicSR halves both losses; the paper does not, and
    neither does this class. Source: Wang et al. 2018 (ESRGAN), eq. 1 and 2.
    """

    needs_real = True

    def generator_loss(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        """The mean of -log sigmoid(fake - E[real]) plus that of -log sigmoid(E[fake] - real).

        Raises:
            ValueError: the real logits are missing.
        """
        if real_logits is None:
            raise ValueError("the relativistic generator loss needs `real_logits`, got None.")
        return self.discriminator_loss(fake_logits, real_logits)  # the same game with sides swapped

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """The mean of -log sigmoid(real - E[fake]) plus that of -log sigmoid(E[real] - fake)."""
        real, fake = real_logits.float(), fake_logits.float()
        return F.softplus(fake.mean() - real).mean() + F.softplus(fake - real.mean()).mean()

    def probabilities(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Of being more real than the mean of the other side."""
        real, fake = real_logits.float(), fake_logits.float()
        return (real - fake.mean()).sigmoid(), (fake - real.mean()).sigmoid()
