import math

import pytest
import torch
from torch import Tensor

from asrgan.losses import (
    AdversarialObjective,
    HingeLoss,
    LeastSquaresLoss,
    NonSaturatingLoss,
    RelativisticAverageLoss,
)

OBJECTIVES = [HingeLoss, LeastSquaresLoss, NonSaturatingLoss, RelativisticAverageLoss]
each_objective = pytest.mark.parametrize("objective_class", OBJECTIVES)

REAL = [2.0, -1.0]
FAKE = [0.5, -3.0, 1.0]


def logits(values: list[float]) -> Tensor:
    return torch.tensor(values).reshape(-1, 1).requires_grad_()


def cross_entropy_of_real(logit: float) -> float:
    return -math.log(1 / (1 + math.exp(-logit)))


def cross_entropy_of_fake(logit: float) -> float:
    return -math.log(1 - 1 / (1 + math.exp(-logit)))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


EXPECTED = {  # class -> generator's and discriminator's loss of REAL and FAKE
    HingeLoss: (0.5, (0 + 2) / 2 + (1.5 + 0 + 2) / 3),
    LeastSquaresLoss: (
        (0.25 + 16 + 0) / 3 / 2,
        (1 + 4) / 2 / 2 + (0.25 + 9 + 1) / 3 / 2,
    ),
    NonSaturatingLoss: (
        mean([cross_entropy_of_real(fake) for fake in FAKE]),
        mean([cross_entropy_of_real(real) for real in REAL])
        + mean([cross_entropy_of_fake(fake) for fake in FAKE]),
    ),
    RelativisticAverageLoss: (
        mean([cross_entropy_of_real(fake - mean(REAL)) for fake in FAKE])
        + mean([cross_entropy_of_fake(real - mean(FAKE)) for real in REAL]),
        mean([cross_entropy_of_real(real - mean(FAKE)) for real in REAL])
        + mean([cross_entropy_of_fake(fake - mean(REAL)) for fake in FAKE]),
    ),
}


@each_objective
def test_losses_equal_a_hand_calculation(objective_class: type[AdversarialObjective]):
    objective = objective_class(weight=7.0)
    generator_loss, discriminator_loss = EXPECTED[objective_class]
    assert objective.generator_loss(logits(REAL), logits(FAKE)).item() == pytest.approx(
        generator_loss
    )
    assert objective.discriminator_loss(logits(REAL), logits(FAKE)).item() == pytest.approx(
        discriminator_loss
    )


@pytest.mark.parametrize(
    ("objective_class", "real", "fake", "expected"),
    [
        (NonSaturatingLoss, 0.0, -100.0, (0.5, 0)),
        (HingeLoss, 100.0, 0.0, (1, 0.5)),
        (LeastSquaresLoss, 1.0, 0.0, (1, 0)),
        (LeastSquaresLoss, 1.5, -0.5, (1, 0)),
        (RelativisticAverageLoss, 7.0, 7.0, (0.5, 0.5)),
        (RelativisticAverageLoss, 107.0, 7.0, (1, 0)),
    ],
)
def test_probabilities_are_what_an_objective_reads_from_logits(
    objective_class: type[AdversarialObjective],
    real: float,
    fake: float,
    expected: tuple[float, float],
):
    objective = objective_class(weight=1)
    judged = objective.probabilities(logits([real]).bfloat16(), logits([fake, fake]).bfloat16())
    assert [p.mean().item() for p in judged] == pytest.approx(expected)
    assert [p.shape for p in judged] == [(1, 1), (2, 1)]


@each_objective
def test_the_weight_is_left_to_the_caller(objective_class: type[AdversarialObjective]):
    heavy, light = objective_class(weight=1e3), objective_class(weight=1e-3)
    assert heavy.weight == 1e3
    assert heavy.generator_loss(logits(REAL), logits(FAKE)) == light.generator_loss(
        logits(REAL), logits(FAKE)
    )


@each_objective
def test_the_generator_pulls_fake_logits_up(objective_class: type[AdversarialObjective]):
    fake = logits([-2.0, -0.5, 0.3])
    objective_class(weight=1.0).generator_loss(logits(REAL), fake).backward()
    assert fake.grad is not None
    assert (fake.grad < 0).all()


@each_objective
def test_the_discriminator_pulls_real_logits_up_and_fake_ones_down(
    objective_class: type[AdversarialObjective],
):
    real, fake = logits([0.2, -0.5]), logits([0.4, 0.9])
    objective_class(weight=1.0).discriminator_loss(real, fake).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()


@pytest.mark.parametrize(
    ("objective_class", "real", "fake", "optimum"),
    [
        (HingeLoss, 1.0, -1.0, 0.0),
        (LeastSquaresLoss, 1.0, 0.0, 0.0),
        # Where real and fake pictures are the same, nothing can be told: 2 log 2.
        (NonSaturatingLoss, None, None, 2 * math.log(2)),
        (RelativisticAverageLoss, None, None, 2 * math.log(2)),
    ],
)
def test_the_discriminator_reaches_the_known_optimum(
    objective_class: type[AdversarialObjective],
    real: float | None,
    fake: float | None,
    optimum: float,
):
    objective = objective_class(weight=1.0)
    if real is None or fake is None:
        same = torch.zeros(4, 1, requires_grad=True)
        real_logits = fake_logits = same
    else:
        real_logits, fake_logits = logits([real] * 3), logits([fake] * 3)
    loss = objective.discriminator_loss(real_logits, fake_logits)
    gradients = torch.autograd.grad(loss, {real_logits, fake_logits})
    assert loss.item() == pytest.approx(optimum)
    assert all(gradient.abs().max() < 1e-7 for gradient in gradients)


@each_objective
def test_extreme_logits_keep_loss_and_gradient_finite(
    objective_class: type[AdversarialObjective],
):
    real, fake = logits([-1e4, 1e4, 3e4]), logits([1e4, -1e4, -3e4])
    objective = objective_class(weight=1.0)
    loss = objective.discriminator_loss(real, fake) + objective.generator_loss(real, fake)
    loss.backward()
    assert loss.isfinite()
    assert real.grad is not None
    assert fake.grad is not None
    assert real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


@each_objective
def test_bfloat16_logits_are_computed_in_float32(objective_class: type[AdversarialObjective]):
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(64, 1, generator=generator).bfloat16()
    fake = torch.randn(64, 1, generator=generator).bfloat16()
    objective = objective_class(weight=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = (objective.generator_loss(real, fake), objective.discriminator_loss(real, fake))
    expected = (
        objective.generator_loss(real.float(), fake.float()),
        objective.discriminator_loss(real.float(), fake.float()),
    )
    assert losses == expected
    assert all(loss.dtype == torch.float32 for loss in losses)


@each_objective
def test_logits_per_pixel_give_the_same_loss_as_a_flat_batch(
    objective_class: type[AdversarialObjective],
):
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(2, 1, 5, 7, generator=generator)
    fake = torch.randn(2, 1, 5, 7, generator=generator)
    objective = objective_class(weight=1.0)
    per_pixel = objective.discriminator_loss(real, fake)
    flat = objective.discriminator_loss(real.reshape(-1, 1), fake.reshape(-1, 1))
    torch.testing.assert_close(per_pixel, flat)


@each_objective
def test_real_logits_are_needed_only_where_the_class_says_so(
    objective_class: type[AdversarialObjective],
):
    objective = objective_class(weight=1.0)
    if objective.needs_real:
        with pytest.raises(ValueError, match="needs `real_logits`"):
            objective.generator_loss(None, logits(FAKE))
    else:
        with_real = objective.generator_loss(logits(REAL), logits(FAKE))
        assert objective.generator_loss(None, logits(FAKE)) == with_real


def test_only_the_relativistic_generator_needs_real_logits():
    assert [one for one in OBJECTIVES if one.needs_real] == [RelativisticAverageLoss]
