"""What the networks minimise: content losses of pictures, adversarial objectives of logits."""

from asrgan.losses.adversarial import (
    AdversarialObjective,
    HingeLoss,
    LeastSquaresLoss,
    NonSaturatingLoss,
    RelativisticAverageLoss,
)
from asrgan.losses.content import ContentLoss
from asrgan.losses.perceptual import PerceptualLoss
from asrgan.losses.pixel import CharbonnierLoss, L1Loss, L2Loss
from asrgan.losses.total_variation import TotalVariationLoss

__all__ = [
    "AdversarialObjective",
    "CharbonnierLoss",
    "ContentLoss",
    "HingeLoss",
    "L1Loss",
    "L2Loss",
    "LeastSquaresLoss",
    "NonSaturatingLoss",
    "PerceptualLoss",
    "RelativisticAverageLoss",
    "TotalVariationLoss",
]
