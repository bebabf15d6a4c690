import math

import pytest
import torch

from asrgan.losses import CharbonnierLoss, ContentLoss, L1Loss, L2Loss

SR = torch.tensor([0.1, 0.5, 1.2]).reshape(1, 3, 1, 1)
HR = torch.tensor([0.2, 0.2, 1.0]).reshape(1, 3, 1, 1)

L1 = L1Loss(weight=5.0)
L2 = L2Loss(weight=5.0)
CHARBONNIER = CharbonnierLoss(weight=5.0, epsilon=0.1)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (L1, (0.1 + 0.3 + 0.2) / 3),
        (L2, (0.01 + 0.09 + 0.04) / 3),
        (CHARBONNIER, (math.sqrt(0.02) + math.sqrt(0.10) + math.sqrt(0.05)) / 3),
    ],
)
def test_a_pixel_loss_equals_a_hand_calculation_without_its_weight(
    loss: ContentLoss, expected: float
):
    assert loss(SR, HR).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [L1, L2, CHARBONNIER])
def test_a_pixel_loss_of_bfloat16_pictures_is_computed_in_float32(loss: ContentLoss):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(SR.bfloat16(), HR)
    assert value.dtype == torch.float32
    assert value == loss(SR.bfloat16().float(), HR)


def test_charbonnier_is_smooth_where_pictures_are_equal_and_l1_far_from_there():
    loss = CharbonnierLoss(weight=1.0, epsilon=1e-3)
    sr_image = torch.zeros(1, 3, 1, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(sr_image, torch.zeros(1, 3, 1, 1)), sr_image)
    assert gradient.tolist() == torch.zeros(1, 3, 1, 1).tolist()
    far = loss(torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1))
    assert far.item() == pytest.approx(1.0, abs=1e-6)
