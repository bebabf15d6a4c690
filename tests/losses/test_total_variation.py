import pytest
import torch

from asrgan.losses import TotalVariationLoss


def test_total_variation_equals_a_hand_calculation():
    image = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.5, 0.0]]).expand(2, 3, 2, 3)
    down = (1.0 + 0.0 + 0.5) / 3
    right = (0.5 + 0.0 + 0.5 + 0.5) / 4
    loss = TotalVariationLoss(weight=3.0)
    assert loss(image, torch.rand(2, 3, 2, 3)).item() == pytest.approx(down + right)


def test_total_variation_sees_neither_offsets_nor_the_ground_truth():
    loss = TotalVariationLoss(weight=1.0)
    image = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(image, image), loss(image + 0.25, torch.zeros_like(image)))
    assert loss(torch.full((1, 3, 8, 9), 0.7), image) == 0


def test_total_variation_of_bfloat16_pictures_is_computed_in_float32():
    image = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(0)).bfloat16()
    loss = TotalVariationLoss(weight=1.0)
    assert loss(image, image) == loss(image.float(), image.float())
