"""Training crops, each a function of seed and sample number alone."""

import copy
import os
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from asrgan.data.sources import ImageSource
from asrgan.errors import UserError

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for newer versions
import albumentations

# First number after the seed: independent streams of random numbers.
_ORDER_STREAM, _CROP_STREAM = 0, 1


class Crops(Dataset[Tensor]):
    """An endless row of augmented HR crops.

    In each pass over the images every one gives one crop, in a new order. The same seed and number
    give the same crop, whichever process asks for it, in whichever order.

    Args:
        source: of the images that crops are taken from.
        crop_size_px: height and width of a crop, in HR pixels.
        seed: another seed gives other crops.
        augmentation: albumentations' transforms of the crop, which keep its size and type.

    Raises:
        UserError: an augmentation that does not.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        crop_size_px: int,
        seed: int,
        augmentation: Sequence[albumentations.BasicTransform] = (),
    ) -> None:
        for transform in augmentation:
            _check_keeps(transform, crop_size_px)
        self._source = source
        self._seed = seed
        random_crop = albumentations.RandomCrop(height=crop_size_px, width=crop_size_px)
        self._transform = albumentations.Compose([random_crop, *augmentation])
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, np.int64)

    def __getitem__(self, sample_number: int) -> Tensor:
        """The crop of a sample number (0, 1, 2 ... without end), uint8 (3, crop, crop)."""
        epoch, place = divmod(sample_number, len(self._source))
        if epoch != self._epoch:
            generator = np.random.default_rng((self._seed, _ORDER_STREAM, epoch))
            self._epoch, self._order = epoch, self._source.order(generator)
        image = self._source.read(int(self._order[place]))
        # Compose.set_random_seed would give every transform the same numbers: flips would
        # come together. One shared generator makes them independent.
        generator = np.random.default_rng((self._seed, _CROP_STREAM, sample_number))
        self._transform.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        crop = self._transform(image=image)["image"]
        return torch.from_numpy(crop.transpose(2, 0, 1).copy())


def _check_keeps(transform: albumentations.BasicTransform, crop_size_px: int) -> None:
    always = copy.deepcopy(transform)
    always.p = 1.0
    crop = np.zeros((crop_size_px, crop_size_px, 3), np.uint8)
    made = always(image=crop)["image"]
    if (made.shape, made.dtype) != (crop.shape, crop.dtype):
        raise UserError(
            f"`data.augmentation` has {type(transform).__name__}, which makes uint8 {crop.shape}"
            f" into {made.dtype} {made.shape}; leave out what changes size or type."
        )


def sample_numbers(*, iteration: int, batch_size: int, rank: int, world_size: int) -> range:
    """The sample numbers of one batch; see `IterationBatches` for the arguments."""
    first = (iteration * world_size + rank) * batch_size
    return range(first, first + batch_size)


class IterationBatches(Sampler[list[int]]):
    """The sample numbers of each iteration's batch on one of several devices.

    Iteration i takes the numbers i*B*W ... (i+1)*B*W - 1 for batch size B and world size W, so
    what all devices see together depends on B*W alone, and a resumed run goes on in the row.

    Args:
        first_iteration: number of the first batch.
        last_iteration: number after the last batch.
        batch_size: per device.
        rank: which device.
        world_size: how many devices.
    """

    def __init__(
        self,
        *,
        first_iteration: int,
        last_iteration: int,
        batch_size: int,
        rank: int,
        world_size: int,
    ) -> None:
        self._iterations = range(first_iteration, last_iteration)
        self._batch_size = batch_size
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[list[int]]:
        for iteration in self._iterations:
            numbers = sample_numbers(
                iteration=iteration,
                batch_size=self._batch_size,
                rank=self._rank,
                world_size=self._world_size,
            )
            yield list(numbers)

    def __len__(self) -> int:
        return len(self._iterations)
