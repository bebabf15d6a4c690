import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import albumentations
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from asrgan.data import Benchmark, BicubicDegradation, PhotographData
from asrgan.engine import Batch, Optimization, Schedule, SuperResolution
from asrgan.errors import DivergedError, UserError
from asrgan.imaging import read_image, to_tensor, write_image
from asrgan.losses import (
    AdversarialObjective,
    L1Loss,
    NonSaturatingLoss,
    PerceptualLoss,
    RelativisticAverageLoss,
)
from asrgan.metrics import Protocol, psnr_y
from asrgan.models import SRGANGenerator, UNetDiscriminator, VGGDiscriminator
from small_networks import small_generator

Parameters = dict[str, Tensor]


def make_generator(**changes: Any) -> SRGANGenerator:
    torch.manual_seed(0)
    return small_generator(**({"num_blocks": 1} | changes))


def make_discriminator(**changes: Any) -> VGGDiscriminator:
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "num_features": 8,
        "norm": "batch",
        "spectral_norm": False,
        "attention": [],
        "pool_size": 2,
        "attention_resize": "transposed",
    }
    return VGGDiscriminator(**(settings | changes))


def make_optimization(**changes: Any) -> Optimization:
    settings: dict[str, Any] = {
        "generator": partial(torch.optim.Adam, lr=1e-3),
        "discriminator": partial(torch.optim.Adam, lr=1e-3),
        "generator_schedule": None,
        "discriminator_schedule": None,
        "gradient_clip_norm": None,
        "accumulate": 1,
        "discriminator_steps": 1,
        "average_decay": 0.9,
    }
    return Optimization(**(settings | changes))


def make_module(
    module_class: type[SuperResolution] = SuperResolution, **changes: Any
) -> SuperResolution:
    settings: dict[str, Any] = {
        "generator": make_generator(),
        "discriminator": make_discriminator(),
        "content_losses": {"pixel": L1Loss(weight=1.0)},
        "adversarial_loss": NonSaturatingLoss(weight=1e-2),
        "degradation": BicubicDegradation(scale=4),
        "optimization": make_optimization(),
        "validation_names": [],
        "protocol": Protocol(scale=4, metrics=["psnr_y_db"]),
        "log_every": 1,
        "on_nonfinite": "stop",
        "nonfinite_limit": 2,
        "channels_last": False,
    }
    return module_class(**(settings | changes))


@pytest.fixture
def fit(photographs: Path, tmp_path: Path) -> Callable[..., pl.Trainer]:
    def fit(
        module: SuperResolution,
        *,
        iterations: int,
        batch_size: int = 2,
        callbacks: tuple[Callback, ...] = (),
        precision: str = "32-true",
        validation: Sequence[Path] = (photographs / "Val",),
    ) -> pl.Trainer:
        data = PhotographData(
            train=photographs / "train",
            validation=validation if module.validation_names else None,
            scale=4,
            crop_size_px=32,
            batch_size=batch_size,
            num_workers=0,
            seed=1,
            max_iterations=iterations,
            cache_mib=64,
            shuffle_shards=1,
            stream_cache_dir=tmp_path / "cache",
            stream_cache_mib=1,
            augmentation=[albumentations.HorizontalFlip(p=0.5)],
            validation_crop_size_px=None,
            validation_limit=None,
        )
        schedule = Schedule(
            validate_every=1 if module.validation_names else None, max_iterations=iterations
        )
        trainer = pl.Trainer(
            accelerator="cpu",
            precision=precision,
            max_epochs=1,
            callbacks=[schedule, *callbacks],
            check_val_every_n_epoch=None,
            val_check_interval=Schedule.NEVER,
            num_sanity_val_steps=0,
            limit_val_batches=None if module.validation_names else 0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, data)
        return trainer

    return fit


pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*overridden `on_after_batch_transfer`"),
    pytest.mark.filterwarnings("ignore:.*GPU available but not used"),
]


def parameters_of(network: nn.Module) -> Parameters:
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def changed(before: Parameters, network: nn.Module) -> set[str]:
    return {n for n, p in network.named_parameters() if not torch.equal(before[n], p)}


class StepWatcher(SuperResolution):
    """Notes what each of the two steps changes."""

    @property
    def last_bias_moves(self) -> bool:
        # Relativistic losses see differences of logits only: D's last bias cancels out.
        return not self.adversarial_loss.needs_real

    def _step_generator(
        self, sr_image: Tensor, hr_image: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        before_g, before_d = parameters_of(self.generator), parameters_of(self.discriminator)
        logits = super()._step_generator(sr_image, hr_image)
        assert changed(before_g, self.generator) == set(before_g)
        assert not changed(before_d, self.discriminator)
        assert all(p.grad is None for p in self.discriminator.parameters())
        assert all(p.requires_grad for p in self.discriminator.parameters())
        return logits

    def _step_discriminator(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        before_g, before_d = parameters_of(self.generator), parameters_of(self.discriminator)
        super()._step_discriminator(real_logits, fake_logits)
        without = set() if self.last_bias_moves else {"dense.4.bias"}
        assert changed(before_d, self.discriminator) >= set(before_d) - without
        assert not changed(before_g, self.generator)
        assert all(p.grad is None for p in self.generator.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adversarial_loss": RelativisticAverageLoss(weight=1e-2)},
        {"optimization": make_optimization(gradient_clip_norm=0.1)},
    ],
    ids=["non-saturating", "relativistic", "clipped"],
)
def test_each_step_changes_every_parameter_of_its_own_network_and_none_of_the_other(
    fit: Callable[..., pl.Trainer], changes: Mapping[str, Any]
):
    fit(make_module(StepWatcher, **changes), iterations=2)


class BatchKeeper(Callback):
    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, batch_index: int
    ) -> None:
        self.batches.append(batch)


@pytest.mark.parametrize("objective", [NonSaturatingLoss, RelativisticAverageLoss])
def test_the_steps_are_those_of_a_plain_loop(
    fit: Callable[..., pl.Trainer], objective: type[AdversarialObjective]
):
    sgd = partial(torch.optim.SGD, lr=0.1)
    adversarial = objective(weight=0.5)
    module = make_module(
        generator=make_generator(norm="none"),
        discriminator=make_discriminator(norm="none"),
        adversarial_loss=adversarial,
        optimization=make_optimization(generator=sgd, discriminator=sgd),
    )
    generator, discriminator = copy.deepcopy([module.generator, module.discriminator])
    keeper = BatchKeeper()
    fit(module, iterations=3, callbacks=(keeper,))

    g_step, d_step = sgd(generator.parameters()), sgd(discriminator.parameters())
    for lr_image, hr_image in keeper.batches:
        sr_image = generator(lr_image)
        fooling = adversarial.generator_loss(discriminator(hr_image), discriminator(sr_image))
        g_step.zero_grad()
        ((sr_image - hr_image).abs().mean() + 0.5 * fooling).backward()
        g_step.step()
        d_step.zero_grad()
        telling = adversarial.discriminator_loss(
            discriminator(hr_image), discriminator(sr_image.detach())
        )
        telling.backward()
        d_step.step()
    assert len(keeper.batches) == 3
    for ours, plain in ((module.generator, generator), (module.discriminator, discriminator)):
        for mine, expected in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


def test_compiled_networks_take_the_same_steps(
    fit: Callable[..., pl.Trainer], monkeypatch: pytest.MonkeyPatch
):
    plain_compile = torch.compile
    monkeypatch.setattr(  # traces as for a GPU, whole; generates no code
        torch,
        "compile",
        lambda call, mode: plain_compile(call, backend="aot_eager", fullgraph=mode == "default"),
    )
    modules: list[SuperResolution] = []
    for is_compiled in (False, True):
        sgd = partial(torch.optim.SGD, lr=0.1)
        module = make_module(
            generator=make_generator(attention=[{"after": "trunk"}]),
            discriminator=make_discriminator(spectral_norm=True),
            optimization=make_optimization(generator=sgd, discriminator=sgd),
        )
        if is_compiled:
            module.compile_networks("default")
        fit(module, iterations=2)
        modules.append(module)
    plain, compiled = (module.state_dict() for module in modules)
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


def test_a_spectrally_normalized_attention_gan_trains_every_parameter_but_those_behind_gamma(
    fit: Callable[..., pl.Trainer],
):
    module = make_module(
        generator=make_generator(spectral_norm=True, attention=[{"after": "trunk"}]),
        discriminator=make_discriminator(
            norm="none", spectral_norm=True, attention=[{"after": "stage3"}]
        ),
    )
    before = parameters_of(module.generator), parameters_of(module.discriminator)
    fit(module, iterations=2)  # gamma moves from 0 in the first, what is behind it in the second
    assert changed(before[0], module.generator) == set(before[0])
    assert changed(before[1], module.discriminator) == set(before[1])


def test_the_unet_discriminator_trains(fit: Callable[..., pl.Trainer]):
    unet = UNetDiscriminator(
        num_features=8, spectral_norm=True, attention=[], pool_size=2, attention_resize="nearest"
    )
    before = parameters_of(unet)
    fit(make_module(discriminator=unet), iterations=1)
    assert changed(before, unet) == set(before)


def test_the_optimizers_hold_each_trained_parameter_once():
    module = make_module()
    optimizers, schedules = module.configure_optimizers()
    held = [
        {id(p) for group in optimizer.param_groups for p in group["params"]}
        for optimizer in optimizers
    ]
    assert held[0] == {id(p) for p in module.generator.parameters()}
    assert held[1] == {id(p) for p in module.discriminator.parameters()}
    assert not held[0] & held[1]
    assert schedules == []


class FrozenFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3).requires_grad_(False)

    def forward(self, image: Tensor, layers: Any) -> dict[str, Tensor]:
        return {layer: self.layer(image) for layer in layers}


def test_a_frozen_network_is_in_no_optimizer_and_no_checkpoint(
    fit: Callable[..., pl.Trainer], tmp_path: Path
):
    features = FrozenFeatures()
    frozen = parameters_of(features)
    perceptual = PerceptualLoss(
        features, weight=1.0, layers=["conv"], factors=None, feature_scale=1.0, distance="l2"
    )
    module = make_module(content_losses={"pixel": L1Loss(weight=1.0), "perceptual": perceptual})
    trainer = fit(module, iterations=1)
    assert not changed(frozen, features)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    state = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    parts = {name.split(".")[0] for name in state}
    assert parts == {"generator", "discriminator", "averaged_generator"}


def test_iterations_count_batches_while_lightning_counts_the_steps_of_both_networks(
    fit: Callable[..., pl.Trainer],
):
    module = make_module()
    trainer = fit(module, iterations=3)
    assert module.iteration == 3
    assert trainer.global_step == 6


class Averages(Callback):
    """Recomputes the average by hand, from the weights after each iteration."""

    def __init__(self, decays: Sequence[float]) -> None:
        self.decays = iter(decays)
        self.expected: Parameters = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.expected = parameters_of(pl_module.generator)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        decay = next(self.decays)
        for name, p in pl_module.generator.named_parameters():
            self.expected[name] = decay * self.expected[name] + (1 - decay) * p.detach()


def test_the_degradation_gets_the_sample_numbers_of_its_crops(fit: Callable[..., pl.Trainer]):
    seen: list[list[int]] = []

    class Recorder(BicubicDegradation):
        def forward(self, hr_image: Tensor, *, sample_numbers: Sequence[int]) -> Tensor:
            seen.append(list(sample_numbers))
            return super().forward(hr_image, sample_numbers=sample_numbers)

    fit(make_module(degradation=Recorder(scale=4)), iterations=3)
    assert seen == [[0, 1], [2, 3], [4, 5]]


def test_the_average_follows_the_generator_from_the_first_iteration_on(
    fit: Callable[..., pl.Trainer],
):
    module = make_module(generator=make_generator(spectral_norm=True))
    averages = Averages(decays=[1 / 10, 2 / 11, 3 / 12, 4 / 13])  # on their way to 0.9
    fit(module, iterations=4, callbacks=(averages,))
    for name, parameter in module.averaged_generator.named_parameters():
        torch.testing.assert_close(parameter, averages.expected[name])


def sgd_run(fit: Callable[..., pl.Trainer], *, batch_size: int, accumulate: int) -> Parameters:
    sgd = partial(torch.optim.SGD, lr=0.1)
    module = make_module(
        generator=make_generator(norm="none"),
        discriminator=make_discriminator(norm="none"),
        optimization=make_optimization(generator=sgd, discriminator=sgd, accumulate=accumulate),
    )
    fit(module, iterations=2 * accumulate, batch_size=batch_size)
    return parameters_of(module.generator) | {
        f"d.{n}": p for n, p in parameters_of(module.discriminator).items()
    }


def test_two_accumulated_batches_step_like_one_of_twice_the_size(
    fit: Callable[..., pl.Trainer],
):
    whole = sgd_run(fit, batch_size=4, accumulate=1)
    halves = sgd_run(fit, batch_size=2, accumulate=2)
    torch.testing.assert_close(halves, whole, rtol=1e-4, atol=1e-6)


class Changes(Callback):
    """Which network each iteration changed."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, bool]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        self.g, self.d = parameters_of(pl_module.generator), parameters_of(pl_module.discriminator)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        in_d = bool(changed(self.d, pl_module.discriminator))
        self.seen.append((bool(changed(self.g, pl_module.generator)), in_d))


def test_the_generator_steps_once_in_so_many_discriminator_steps(
    fit: Callable[..., pl.Trainer],
):
    changes = Changes()
    module = make_module(optimization=make_optimization(discriminator_steps=3))
    fit(module, iterations=4, callbacks=(changes,))
    assert changes.seen == [(True, True), (False, True), (False, True), (True, True)]


def test_schedules_count_iterations_whatever_is_accumulated(fit: Callable[..., pl.Trainer]):
    schedule = partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[4], gamma=0.1)
    optimization = make_optimization(generator_schedule=schedule, accumulate=2)
    module = make_module(optimization=optimization)
    rates: list[float] = []

    class Rates(Callback):
        def on_train_batch_end(self, *args: object) -> None:
            rates.append(module._optimizers[0].param_groups[0]["lr"])

    fit(module, iterations=6, callbacks=(Rates(),))
    assert rates == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4])


def test_clipping_bounds_the_step_of_each_network(fit: Callable[..., pl.Trainer]):
    sgd = partial(torch.optim.SGD, lr=1.0)
    module = make_module(
        optimization=make_optimization(generator=sgd, discriminator=sgd, gradient_clip_norm=1e-3)
    )
    before = parameters_of(module.generator), parameters_of(module.discriminator)
    fit(module, iterations=1)
    for earlier, network in zip(before, (module.generator, module.discriminator), strict=True):
        squares = [(p.detach() - earlier[n]).square().sum() for n, p in network.named_parameters()]
        assert torch.stack(squares).sum().sqrt() == pytest.approx(1e-3, rel=1e-2)


def test_bfloat16_keeps_float32_weights_and_comes_near_float32(fit: Callable[..., pl.Trainer]):
    networks = []
    for precision in ("32-true", "bf16-mixed"):
        module = make_module(
            generator=make_generator(spectral_norm=True, attention=[{"after": "trunk"}]),
            optimization=make_optimization(generator=partial(torch.optim.SGD, lr=0.1)),
        )
        fit(module, iterations=2, precision=precision)
        networks.append(module.generator)
    for exact, short in zip(*(n.parameters() for n in networks), strict=True):
        assert short.dtype == torch.float32
        torch.testing.assert_close(short, exact, rtol=0.1, atol=0.02)


class BrokenLoss(L1Loss):
    """Not a number from the third call on."""

    calls = 0

    def forward(self, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        self.calls += 1
        value = super().forward(sr_image, hr_image)
        return value * float("nan") if self.calls > 2 else value


def test_a_loss_that_is_not_finite_stops_the_run_with_its_name_and_iteration(
    fit: Callable[..., pl.Trainer],
):
    module = make_module(content_losses={"pixel": BrokenLoss(weight=1.0)}, log_every=100)
    with pytest.raises(DivergedError, match=r"`train/loss_g/pixel` .* \(nan\) at iteration 3"):
        fit(module, iterations=5)


class BrokenAt(NonSaturatingLoss):
    """One of its losses, or its slope, is not finite in some of its calls."""

    def __init__(self, broken: str, *, calls: Sequence[int]) -> None:
        super().__init__(weight=1e-2)
        self.broken, self.calls, self.called = broken, calls, 0

    def generator_loss(self, real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
        self.called += 1
        loss = super().generator_loss(real_logits, fake_logits)
        return self._break("generator", loss)

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        return self._break("discriminator", super().discriminator_loss(real_logits, fake_logits))

    def _break(self, network: str, loss: Tensor) -> Tensor:
        if self.called not in self.calls:
            return loss
        if self.broken == f"slope of {network}":
            return loss + (loss - loss).sqrt()
        return loss * float("inf") if self.broken == network else loss


class States(Callback):
    """Everything that training changes, after each iteration."""

    def __init__(self) -> None:
        self.after: list[dict[str, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        state = {name: tensor.clone() for name, tensor in pl_module.state_dict().items()}
        for number, optimizer in enumerate(trainer.optimizers):
            for index, moments in optimizer.state_dict()["state"].items():
                state |= {f"{number}.{index}.{k}": v.clone() for k, v in moments.items()}
        self.after.append(state)

    def changed(self, iteration: int) -> set[str]:
        before, after = self.after[iteration - 2], self.after[iteration - 1]
        return {name for name in after if not torch.equal(after[name], before[name])}


@pytest.mark.parametrize("broken", ["generator", "slope of generator"])
def test_a_batch_without_a_finite_loss_of_the_generator_is_skipped_without_a_trace(
    fit: Callable[..., pl.Trainer], caplog: pytest.LogCaptureFixture, broken: str
):
    states = States()
    generator = make_generator(spectral_norm=True)
    adversarial_loss = BrokenAt(broken, calls=[3])
    module = make_module(
        generator=generator, adversarial_loss=adversarial_loss, on_nonfinite="skip"
    )
    fit(module, iterations=4, callbacks=(states,))
    assert states.changed(3) == set()
    assert {"generator.blocks.0.norm1.running_mean", "0.0.step", "1.0.step"} <= states.changed(4)
    assert module.num_skipped == 1
    name = "loss_g/total" if broken == "generator" else "gradient_norm/generator"
    assert f"`train/{name}` is not finite at iteration 3: the batch is skipped." in caplog.text
    assert module.iteration == 4


@pytest.mark.parametrize("broken", ["discriminator", "slope of discriminator"])
def test_a_loss_of_the_discriminator_that_is_not_finite_leaves_the_generators_step(
    fit: Callable[..., pl.Trainer], broken: str
):
    states = States()
    adversarial_loss = BrokenAt(broken, calls=[2])
    fit(
        make_module(adversarial_loss=adversarial_loss, on_nonfinite="skip"),
        iterations=3,
        callbacks=(states,),
    )
    parts = {name.split(".")[0] for name in states.changed(2)}
    assert {"generator", "averaged_generator", "0"} <= parts
    assert "1" not in parts  # D's moments
    in_d = {name for name in states.changed(2) if name.startswith("discriminator")}
    assert all("running" in n or "num_batches" in n for n in in_d)  # of the generator's own step
    assert {name.split(".")[0] for name in states.changed(3)} >= {"discriminator", "1"}


@pytest.mark.parametrize("call", [3, 4])
def test_a_skipped_batch_takes_the_gradients_along_that_wait_for_its_step(
    fit: Callable[..., pl.Trainer], call: int
):
    states = States()
    module = make_module(
        adversarial_loss=BrokenAt("generator", calls=[call]),
        optimization=make_optimization(accumulate=2),
        on_nonfinite="skip",
    )
    fit(module, iterations=6, callbacks=(states,))
    stepped = {"0.0.step", "1.0.step"} <= states.changed(4)
    assert stepped == (call == 3)  # of batch 4 alone
    assert {"0.0.step", "1.0.step"} <= states.changed(6)


def test_more_skipped_batches_than_allowed_end_the_run(fit: Callable[..., pl.Trainer]):
    module = make_module(
        adversarial_loss=BrokenAt("generator", calls=range(2, 9)), on_nonfinite="skip"
    )
    with pytest.raises(
        DivergedError,
        match=r"`train/loss_g/total` was not finite at iteration 4, and .* \(=2\) iterations",
    ):
        fit(module, iterations=8)


def test_validation_scores_are_those_of_the_protocol(
    fit: Callable[..., pl.Trainer], photographs: Path
):
    module = make_module(validation_names=["Val"])
    fit(module, iterations=1)
    protocol = Protocol(scale=4, metrics=["psnr_y_db"])
    expected = []
    with torch.no_grad():
        for _, lr_image, hr_image in Benchmark(photographs / "Val", scale=4):
            sr_image = module.averaged_generator.eval()(lr_image[None])
            (scores,) = protocol(sr_image, hr_image=hr_image[None], lr_image=lr_image[None])
            expected.append(scores["psnr_y_db"])
    assert module.validation_scores["psnr_y_db"] == pytest.approx(sum(expected) / 2, abs=1e-4)
    assert module.validation_scores["content_loss"] > 0


def test_a_black_picture_that_is_exact_hides_neither_the_others_nor_another_benchmark(
    fit: Callable[..., pl.Trainer], photographs: Path, tmp_path: Path
):
    folders = [tmp_path / "Dark", tmp_path / "Mixed"]
    for folder in folders:
        write_image(folder / "black.png", np.zeros((48, 48, 3), np.uint8))
    shutil.copy(photographs / "Val" / "left.png", folders[1])
    generator = make_generator()
    torch.nn.init.constant_(generator.tail.bias, -9)  # black everywhere, so exact where HR is
    module = make_module(generator=generator, validation_names=["Dark", "Mixed"])
    fit(module, iterations=1, validation=folders)
    hr_image = to_tensor(read_image(folders[1] / "left.png"))[None]
    expected = psnr_y(torch.zeros_like(hr_image), hr_image, border=4).item()
    assert module.validation_scores["psnr_y_db"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"discriminator": None}, "`discriminator` and `loss.adversarial` go together"),
        ({"adversarial_loss": None}, "`discriminator` and `loss.adversarial` go together"),
        (
            {"discriminator": None, "adversarial_loss": None, "content_losses": {}},
            "`loss` must name at least one loss",
        ),
        ({"on_nonfinite": "ignore"}, r"`on_nonfinite` \(=ignore\) must be stop or skip"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes: Mapping[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        make_module(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 0}, r"`optimizer.accumulate` \(=0\) must be at least 1"),
        ({"discriminator_steps": 0}, r"`optimizer.discriminator_steps` \(=0\)"),
        ({"average_decay": 1.0}, r"`optimizer.average_decay` \(=1.0\) must be in \[0, 1\)"),
    ],
)
def test_an_optimization_out_of_range_is_refused(changes: Mapping[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        make_optimization(**changes)


def test_means_are_taken_up_where_the_step_will_add_to_them():
    """The module is moved to its device after the checkpoint is read."""
    module = make_module()
    module._means.add("train/gradient_norm/generator", torch.ones(()))
    checkpoint: dict[str, Any] = {"loops": {}}
    module.on_save_checkpoint(checkpoint)
    device = torch.device("meta")
    module._trainer = cast("Any", SimpleNamespace(strategy=SimpleNamespace(root_device=device)))
    module.on_load_checkpoint(checkpoint)
    assert [total.device for total, _ in module._means.state().values()] == [device]
