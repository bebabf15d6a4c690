import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from asrgan.data import Crops, IterationBatches, Photographs
from asrgan.errors import UserError
from asrgan.imaging import write_image

NUM_PHOTOGRAPHS = 5
CROP_SIZE_PX = 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Noise of different sizes: every crop of it, however turned, is different."""
    generator = np.random.default_rng(0)
    for number in range(NUM_PHOTOGRAPHS):
        image = generator.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        write_image(tmp_path / f"{number}.png", image)
    return tmp_path


def crops_of(folder: Path, *, seed: int = 1, cache_mib: float = 1) -> Crops:
    photographs = Photographs(folder, minimum_size_px=CROP_SIZE_PX, cache_mib=cache_mib)
    augmentation = [
        albumentations.HorizontalFlip(p=0.5),
        albumentations.RandomRotate90(p=1),
        albumentations.RandomBrightnessContrast(p=0.5),
    ]
    return Crops(photographs, crop_size_px=CROP_SIZE_PX, seed=seed, augmentation=augmentation)


def batches_of(crops: Crops, *, num_workers: int, first: int = 0, last: int = 6) -> list[Tensor]:
    sampler = IterationBatches(
        first_iteration=first, last_iteration=last, batch_size=4, rank=0, world_size=1
    )
    return list(DataLoader(crops, batch_sampler=sampler, num_workers=num_workers))


def test_a_crop_depends_only_on_seed_and_number(folder: Path) -> None:
    crops = crops_of(folder)
    forwards = [crops[number] for number in range(30)]
    backwards = [crops[number] for number in reversed(range(30))][::-1]
    fresh = crops_of(folder, cache_mib=0)
    for number in range(30):
        assert torch.equal(forwards[number], backwards[number])
        assert torch.equal(forwards[number], fresh[number])
    assert len({crop.numpy().tobytes() for crop in forwards}) == 30
    other_seed = crops_of(folder, seed=2)
    assert not any(torch.equal(forwards[number], other_seed[number]) for number in range(30))


# Three workers may be more than there are cores: on purpose.
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes:UserWarning")
@pytest.mark.parametrize("num_workers", [2, 3])
@pytest.mark.parametrize("cache_mib", [0, 1])
def test_any_number_of_workers_makes_the_same_batches(
    num_workers: int, cache_mib: float, folder: Path
) -> None:
    expected = batches_of(crops_of(folder), num_workers=0)
    torch.manual_seed(num_workers)  # what workers derive their own seeds from
    batches = batches_of(crops_of(folder, cache_mib=cache_mib), num_workers=num_workers)
    assert len(batches) == len(expected) == 6
    for batch, other in zip(batches, expected, strict=True):
        assert batch.shape == (4, 3, CROP_SIZE_PX, CROP_SIZE_PX)
        assert batch.dtype == torch.uint8
        assert torch.equal(batch, other)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_restart_in_the_middle_goes_on_with_the_same_batches(
    num_workers: int, folder: Path
) -> None:
    whole = batches_of(crops_of(folder), num_workers=0)
    resumed = batches_of(crops_of(folder), num_workers=num_workers, first=3)
    assert torch.equal(torch.stack(resumed), torch.stack(whole[3:]))


def test_each_pass_takes_every_photograph_once_in_a_new_order(tmp_path: Path) -> None:
    for level in range(NUM_PHOTOGRAPHS):
        write_image(tmp_path / f"{level}.png", np.full((8, 8, 3), level, np.uint8))
    photographs = Photographs(tmp_path, minimum_size_px=8, cache_mib=1)
    crops = Crops(photographs, crop_size_px=8, seed=1)
    numbers = range(8 * NUM_PHOTOGRAPHS)
    levels = torch.tensor([int(crops[number][0, 0, 0]) for number in numbers])
    passes = levels.reshape(8, NUM_PHOTOGRAPHS)
    assert (passes.sort(dim=1).values == torch.arange(NUM_PHOTOGRAPHS)).all()
    assert len({tuple(order) for order in passes.tolist()}) > 1


def test_an_unaugmented_crop_is_a_window_of_its_photograph(folder: Path) -> None:
    photographs = Photographs(folder, minimum_size_px=CROP_SIZE_PX, cache_mib=1)
    crops = Crops(photographs, crop_size_px=CROP_SIZE_PX, seed=1)
    windows = {
        image[top : top + CROP_SIZE_PX, left : left + CROP_SIZE_PX].tobytes()
        for image in map(photographs.read, range(NUM_PHOTOGRAPHS))
        for top in range(image.shape[0] - CROP_SIZE_PX + 1)
        for left in range(image.shape[1] - CROP_SIZE_PX + 1)
    }
    for number in range(20):
        assert crops[number].permute(1, 2, 0).numpy().tobytes() in windows


def test_transforms_draw_independently_of_each_other(tmp_path: Path) -> None:
    corner = np.arange(4, dtype=np.uint8).reshape(2, 2, 1).repeat(3, axis=-1)
    write_image(tmp_path / "corner.png", corner)
    crops = Crops(
        Photographs(tmp_path, minimum_size_px=2, cache_mib=1),
        crop_size_px=2,
        seed=1,
        augmentation=[albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)],
    )
    counts = Counter(crops[number][0].numpy().tobytes() for number in range(800))
    assert len(counts) == 4
    # 200 expected with a standard deviation of 12; the seed is fixed.
    assert 150 < min(counts.values()) <= max(counts.values()) < 250


@pytest.mark.parametrize(
    ("transform", "result"),
    [
        (albumentations.ToFloat(p=0.1), r"float32 \(8, 8, 3\)"),
        (albumentations.Resize(4, 4), r"uint8 \(4, 4, 3\)"),
        (albumentations.RandomCrop(8, 4, p=0.1), r"uint8 \(8, 4, 3\)"),
    ],
    ids=["float", "smaller", "narrower"],
)
def test_an_augmentation_that_changes_size_or_type_is_refused(
    folder: Path, transform: albumentations.BasicTransform, result: str
) -> None:
    photographs = Photographs(folder, minimum_size_px=8, cache_mib=1)
    with pytest.raises(UserError, match=rf"which makes uint8 \(8, 8, 3\) into {result}; leave"):
        Crops(photographs, crop_size_px=8, seed=1, augmentation=[transform])


def test_all_workers_together_report_a_damaged_photograph_once(folder: Path) -> None:
    damaged = folder / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:-500])
    crops = crops_of(folder, cache_mib=0)
    handler = logging.FileHandler(folder / "log")
    logger = logging.getLogger("asrgan.data.photographs")
    logger.addHandler(handler)
    try:
        batches_of(crops, num_workers=2)  # nearly five passes
    finally:
        logger.removeHandler(handler)
        handler.close()
    (line,) = (folder / "log").read_text().splitlines()
    assert "3.png cannot be read" in line


def test_photographs_in_memory_survive_their_crops(folder: Path) -> None:
    photographs = Photographs(folder, minimum_size_px=20, cache_mib=1)
    before = [photographs.read(index).copy() for index in range(NUM_PHOTOGRAPHS)]
    augmentation = [albumentations.ColorJitter(p=1), albumentations.GaussNoise(p=1)]
    crops = Crops(photographs, crop_size_px=20, seed=1, augmentation=augmentation)
    for number in range(20):
        crops[number].zero_()
    for index, image in enumerate(before):
        np.testing.assert_array_equal(photographs.read(index), image)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_what_all_devices_see_does_not_depend_on_their_number(world_size: int) -> None:
    ranks = [
        IterationBatches(
            first_iteration=2,
            last_iteration=5,
            batch_size=8 // world_size,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    assert all(len(batches) == 3 for batches in ranks)
    for iteration, batches in enumerate(zip(*ranks, strict=True), start=2):
        together = [number for batch in batches for number in batch]
        assert together == list(range(8 * iteration, 8 * iteration + 8))


def test_importing_the_data_package_asks_no_network() -> None:
    program = (
        "import urllib.request\n"
        "def refuse(*_, **__): raise SystemExit('asked the network')\n"
        "urllib.request.urlopen = refuse\n"
        "urllib.request.OpenerDirector.open = refuse\n"
        "import asrgan.data\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=120)
