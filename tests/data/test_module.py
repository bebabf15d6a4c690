import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import albumentations
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from asrgan.data import BenchmarkImage, PhotographData, module
from asrgan.errors import UserError
from asrgan.imaging import write_image


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., PhotographData]:
    """Data from five photographs, with whatever differs from a common setting."""
    generator = np.random.default_rng(0)
    for folder, count in [("train", 5), ("ValA", 3), ("ValB", 2)]:
        for number in range(count):
            image = generator.integers(0, 256, (24, 20, 3), dtype=np.uint8)
            write_image(tmp_path / folder / f"{number}.png", image)

    def make(**changes: object) -> PhotographData:
        settings = {
            "train": tmp_path / "train",
            "validation": [tmp_path / "ValA", str(tmp_path / "ValB")],
            "scale": 4,
            "crop_size_px": 8,
            "batch_size": 2,
            "num_workers": 0,
            "seed": 1,
            "max_iterations": 6,
            "cache_mib": 1,
            "shuffle_shards": 1,
            "stream_cache_dir": tmp_path / "cache",
            "stream_cache_mib": 1,
            "augmentation": [albumentations.HorizontalFlip(p=0.5)],
            "validation_crop_size_px": None,
            "validation_limit": None,
        }
        return PhotographData(**(settings | changes))

    return make


def attach(data: PhotographData, *, iteration: int = 0, rank: int = 0, world_size: int = 1) -> None:
    """Stands in for the trainer of one of several devices."""
    data.trainer = SimpleNamespace(
        lightning_module=SimpleNamespace(iteration=iteration),
        global_rank=rank,
        world_size=world_size,
    )
    data.setup("fit")


class Recorder(LightningModule):
    """Keeps the batches that a trainer hands to it."""

    def __init__(self) -> None:
        super().__init__()
        self.iteration = 0
        self.automatic_optimization = False
        self.training_batches: list[Tensor] = []
        self.validation_batches: list[tuple[int, BenchmarkImage]] = []

    def configure_optimizers(self) -> None:
        return None

    def training_step(self, batch: Tensor, batch_index: int) -> None:
        assert batch_index == self.iteration
        self.training_batches.append(batch)
        self.iteration += 1

    def validation_step(self, batch: BenchmarkImage, _: int, dataloader_idx: int) -> None:
        self.validation_batches.append((dataloader_idx, batch))


# No workers and no optimizer: on purpose. Lightning calls a function that torch has deprecated.
@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*`LightningModule.configure_optimizers` returned `None`",
    "ignore:.*`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning",
)
def test_a_trainer_gets_every_batch_and_every_validation_image_once(
    make_data: Callable[..., PhotographData], tmp_path: Path
) -> None:
    recorder, data = Recorder(), make_data()
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        max_epochs=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(recorder, datamodule=data)
    assert len(recorder.training_batches) == 6
    for batch in recorder.training_batches:
        assert batch.shape == (2, 3, 8, 8)
        assert batch.dtype == torch.uint8
    seen = [
        (data.validation_names[index], image.name) for index, image in recorder.validation_batches
    ]
    assert seen == [("ValA", "0"), ("ValA", "1"), ("ValA", "2"), ("ValB", "0"), ("ValB", "1")]
    for _, image in recorder.validation_batches:
        assert isinstance(image, BenchmarkImage)
        assert image.lr_image.shape == (1, 3, 6, 5)
        assert image.hr_image.shape == (1, 3, 24, 20)


def test_training_goes_on_at_the_iteration_of_the_module(
    make_data: Callable[..., PhotographData],
) -> None:
    whole, resumed = make_data(), make_data()
    attach(whole)
    attach(resumed, iteration=4)
    batches = list(whole.train_dataloader())
    assert len(batches) == 6
    assert torch.equal(torch.stack(list(resumed.train_dataloader())), torch.stack(batches[4:]))


@pytest.mark.parametrize(
    ("world_size", "iteration", "num_workers"), [(2, 0, 0), (4, 3, 0), (2, 4, 1)]
)
def test_devices_share_the_batches_of_one_also_after_a_restart(
    make_data: Callable[..., PhotographData], world_size: int, iteration: int, num_workers: int
) -> None:
    alone = make_data(batch_size=4)
    attach(alone, iteration=iteration)
    shares = [make_data(batch_size=4, num_workers=num_workers) for _ in range(world_size)]
    for rank, share in enumerate(shares):
        attach(share, iteration=iteration, rank=rank, world_size=world_size)
    loaders = [share.train_dataloader() for share in shares]
    for batch, *parts in zip(alone.train_dataloader(), *loaders, strict=True):
        assert torch.equal(batch, torch.cat(parts))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_each_validation_image_counts_once_and_all_devices_see_equally_many(
    world_size: int, make_data: Callable[..., PhotographData]
) -> None:
    seen: list[tuple[str, str]] = []
    for rank in range(world_size):
        data = make_data()
        attach(data, rank=rank, world_size=world_size)
        for name, loader in zip(data.validation_names, data.val_dataloader(), strict=True):
            number = data.validation_names.index(name)
            images = [image.name for image in loader]
            assert len(images) == -(-{"ValA": 3, "ValB": 2}[name] // world_size)
            seen += [
                (name, image)
                for batch, image in enumerate(images)
                if not data.is_repeated(loader=number, batch=batch)
            ]
    assert sorted(seen) == [*(("ValA", name) for name in "012"), *(("ValB", name) for name in "01")]


def test_validation_can_be_a_few_crops_of_one_folder(
    make_data: Callable[..., PhotographData], tmp_path: Path
) -> None:
    data = make_data(validation=tmp_path / "ValA", validation_crop_size_px=16, validation_limit=2)
    attach(data)
    (loader,) = data.val_dataloader()
    assert [tuple(image.hr_image.shape) for image in loader] == [(1, 3, 16, 16)] * 2


def test_there_may_be_no_validation(make_data: Callable[..., PhotographData]) -> None:
    data = make_data(validation=None)
    attach(data)
    assert data.validation_names == []
    assert data.val_dataloader() == []


def test_validating_alone_needs_no_photographs_to_train_on(
    make_data: Callable[..., PhotographData],
) -> None:
    data = make_data(train=None)
    data.setup("validate")
    with pytest.raises(UserError, match=r"`data\.train` must name .*; try data\.train=FOLDER\.$"):
        data.setup("fit")


def show_process_state(image: NDArray[np.uint8], **_: object) -> NDArray[np.uint8]:
    ignores_interrupt = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return np.full_like(image, 10 * ignores_interrupt + cv2.getNumThreads())


def test_workers_leave_interrupts_to_the_trainer_and_use_one_thread(
    make_data: Callable[..., PhotographData],
) -> None:
    augmentation = [albumentations.Lambda(image=show_process_state, p=1)]
    data = make_data(num_workers=1, augmentation=augmentation)
    attach(data)
    assert (next(iter(data.train_dataloader())) == 11).all()


def test_a_signal_to_all_processes_while_workers_start_leaves_them_at_work(
    make_data: Callable[..., PhotographData], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = module._start_worker  # pyright: ignore[reportPrivateUsage]

    def start_late(worker: int) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        start(worker)

    monkeypatch.setattr(module, "_start_worker", start_late)
    data = make_data(num_workers=1)
    attach(data)
    assert len(list(data.train_dataloader())) == 6
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT}


@pytest.mark.parametrize(
    ("crop_size_px", "nearest"), [(98, 96), (95, 96), (2, 4), (0, 4), (-96, 4)]
)
def test_a_crop_must_be_a_multiple_of_the_scale(
    crop_size_px: int, nearest: int, make_data: Callable[..., PhotographData]
) -> None:
    rule = rf"`crop_size_px` \(={crop_size_px}\) must be .* `scale` \(=4\); try {nearest}\.$"
    with pytest.raises(UserError, match=rule):
        make_data(crop_size_px=crop_size_px)


def test_an_empty_batch_is_refused(make_data: Callable[..., PhotographData]) -> None:
    with pytest.raises(UserError, match=r"`batch_size` \(=0\) must be at least 1"):
        make_data(batch_size=0)


def test_two_benchmarks_of_one_name_are_refused(
    make_data: Callable[..., PhotographData], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"two folders of `data\.validation` are named ValA"):
        make_data(validation=[tmp_path / "ValA", tmp_path / "other" / "ValA"])


def test_a_damaged_picture_of_validation_is_told_before_the_first_batch(
    make_data: Callable[..., PhotographData], tmp_path: Path
) -> None:
    path = tmp_path / "ValA" / "1.png"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"1\.png cannot be read"):
        make_data().setup("validate")


@pytest.mark.parametrize(
    ("train", "validation"),
    [("train", "train"), (".", "ValA"), ("ValA", "."), ("link", "ValA")],
)
def test_nothing_is_trained_on_what_it_is_judged_by(
    make_data: Callable[..., PhotographData], tmp_path: Path, train: str, validation: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "ValA")
    data = make_data(train=tmp_path / train, validation=tmp_path / validation)
    with pytest.raises(UserError, match=r"must lie outside of each other, or it is trained on"):
        data.setup("fit")


def test_a_crop_larger_than_the_photographs_is_refused(
    make_data: Callable[..., PhotographData],
) -> None:
    with pytest.raises(UserError, match=r"`crop_size_px` \(=32\) must not exceed .* 20 px"):
        make_data(crop_size_px=32).setup("fit")
