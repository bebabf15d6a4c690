"""Training crops and validation benchmarks as a LightningDataModule."""

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import albumentations
import cv2
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from asrgan.data.benchmark import Benchmark, BenchmarkImage
from asrgan.data.crops import Crops, IterationBatches
from asrgan.data.sources import open_source
from asrgan.errors import UserError
from asrgan.files import are_apart

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_GRACE_S = 30  # for a training process to save and to end its workers, after SIGTERM


class PhotographData(LightningDataModule):
    """HR crops of photographs for training, whole or cropped benchmarks for validation.

    A training batch is a uint8 tensor (N, 3, crop, crop); LR is made from it on the device. A
    validation batch is a `BenchmarkImage` with a leading dimension of 1. Devices share a benchmark:
    each sees equally many images, so the last ones of some are repeats, see `is_repeated`. The
    trainer must leave sampling alone: ``use_distributed_sampler=False``. The module that is trained
    counts its batches in ``iteration``, where training goes on.

    Args:
        train: what `open_source` takes; None if nothing is trained.
        validation: benchmark folders, see `Benchmark`; None: no validation.
        scale: integer factor between LR and HR.
        crop_size_px: height and width of a training crop, in HR pixels.
        batch_size: crops per iteration, of all devices together.
        num_workers: processes that make crops; 0: the training process does it.
        seed: of crops and their order.
        max_iterations: number after the last iteration.
        cache_mib: see `Photographs`.
        shuffle_shards: see `Shards`.
        stream_cache_dir: see `StreamedStorage`.
        stream_cache_mib: see `StreamedStorage`.
        augmentation: see `Crops`.
        validation_crop_size_px: see `Benchmark`.
        validation_limit: images of each benchmark; None: all.
        validation_minimum_size_px: see `Benchmark`.

    Attributes:
        validation_names: the benchmarks' names, in the order of the validation loaders.
        fingerprint: of the images to train on, see `ImageSource`; None before `setup`.

    Raises:
        UserError: a crop that the scale does not divide, or two benchmarks of one name; from
            `setup`: whatever `open_source` and `Benchmark` find wrong, or nothing to train on.
    """

    def __init__(
        self,
        *,
        train: str | Path | None,
        validation: Sequence[str | Path] | str | Path | None,
        scale: int,
        crop_size_px: int,
        batch_size: int,
        num_workers: int,
        seed: int,
        max_iterations: int,
        cache_mib: float,
        shuffle_shards: int,
        stream_cache_dir: str | Path,
        stream_cache_mib: float,
        augmentation: Sequence[albumentations.BasicTransform],
        validation_crop_size_px: int | None,
        validation_limit: int | None,
        validation_minimum_size_px: int = 1,
    ) -> None:
        super().__init__()
        if crop_size_px <= 0 or crop_size_px % scale:
            raise UserError(
                f"`crop_size_px` (={crop_size_px}) must be a positive multiple of `scale` "
                f"(={scale}); try {max(round(crop_size_px / scale), 1) * scale}."
            )
        if batch_size < 1:
            raise UserError(f"`batch_size` (={batch_size}) must be at least 1.")
        if validation is None:
            validation = []
        elif isinstance(validation, (str, Path)):
            validation = [validation]
        # resolve() would rename a link
        self._validation_folders = [Path(os.path.abspath(f)) for f in validation]  # noqa: PTH100
        self.validation_names = [folder.name for folder in self._validation_folders]
        for name in self.validation_names:
            if self.validation_names.count(name) > 1:
                raise UserError(
                    f"two folders of `data.validation` are named {name}, and results are filed by "
                    "that name; rename one."
                )
        self._train = train
        self._scale = scale
        self._crop_size_px = crop_size_px
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._seed = seed
        self._max_iterations = max_iterations
        self._cache_mib = cache_mib
        self._shuffle_shards = shuffle_shards
        self._stream_cache_dir = stream_cache_dir
        self._stream_cache_mib = stream_cache_mib
        self._augmentation = augmentation
        self._validation_crop_size_px = validation_crop_size_px
        self._validation_limit = validation_limit
        self._validation_minimum_size_px = validation_minimum_size_px
        self._crops: Crops | None = None
        self.fingerprint: str | None = None
        self._benchmarks: list[Benchmark] | None = None

    def setup(self, stage: str) -> None:
        """Finds the images; decodes the photographs if they fit into the cache.

        Raises:
            UserError: a folder or a picture of validation that cannot be used, or is trained on.
        """
        if self._benchmarks is None:
            self._benchmarks = [
                Benchmark(
                    folder,
                    scale=self._scale,
                    crop_size_px=self._validation_crop_size_px,
                    limit=self._validation_limit,
                    minimum_size_px=self._validation_minimum_size_px,
                )
                for folder in self._validation_folders
            ]
            for benchmark in self._benchmarks:
                for fault in benchmark.left_out.values():
                    raise UserError(fault)  # curves over other pictures could not be compared
                for index in range(len(benchmark)):
                    _ = benchmark[index]  # a damaged file is told now, not after hours
        if stage == "fit" and self._crops is None:
            if self._train is None:
                raise UserError(
                    "`data.train` must name the folder of HR photographs to train on; "
                    "try data.train=FOLDER."
                )
            source = open_source(
                self._train,
                minimum_size_px=self._crop_size_px,
                cache_mib=self._cache_mib,
                shuffle_shards=self._shuffle_shards,
                stream_cache_dir=self._stream_cache_dir,
                stream_cache_mib=self._stream_cache_mib,
            )
            self._check_apart()
            self.fingerprint = source.fingerprint
            self._crops = Crops(
                source,
                crop_size_px=self._crop_size_px,
                seed=self._seed,
                augmentation=self._augmentation,
            )

    def _check_apart(self) -> None:
        """No validation on what is trained on."""
        for folder in self._validation_folders:
            if not are_apart(Path(str(self._train)), folder):
                raise UserError(
                    f"`data.train` (={self._train}) and `data.validation` (={folder}) must lie"
                    " outside of each other, or it is trained on what it is judged by."
                )

    def train_dataloader(self) -> DataLoader[Tensor]:
        """The batches from the module's ``iteration`` on."""
        assert self._crops is not None
        assert self.trainer is not None
        batches = IterationBatches(
            first_iteration=cast("int", self.trainer.lightning_module.iteration),
            last_iteration=self._max_iterations,
            batch_size=self._batch_size // self.trainer.world_size,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
        )
        return _TrainingLoader(
            self._crops,
            batch_sampler=batches,
            num_workers=self._num_workers,
            persistent_workers=self._num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=_start_worker,
        )

    def val_dataloader(self) -> list[DataLoader[BenchmarkImage]]:
        """One loader per benchmark with the share of this device, equally many for each."""
        assert self._benchmarks is not None
        assert self.trainer is not None
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        loaders: list[DataLoader[BenchmarkImage]] = []
        for benchmark in self._benchmarks:
            # DDP communicates in every forward pass, so no device may make one less.
            num_all = -(-len(benchmark) // world_size) * world_size
            share = [number % len(benchmark) for number in range(rank, num_all, world_size)]
            loader = DataLoader(Subset(benchmark, share), batch_size=1, collate_fn=_collate_one)
            loaders.append(loader)
        return loaders

    def is_repeated(self, *, loader: int, batch: int) -> bool:
        """Whether a validation batch of this device is an image that another one has seen."""
        assert self._benchmarks is not None
        assert self.trainer is not None
        number = batch * self.trainer.world_size + self.trainer.global_rank
        return number >= len(self._benchmarks[loader])


class _TrainingLoader(DataLoader[Tensor]):
    """Holds signals back from its workers until `_start_worker` says what becomes of them."""

    def __iter__(self) -> Iterator[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        earlier = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # processes inherit it
        try:
            return super().__iter__()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _collate_one(images: list[BenchmarkImage]) -> BenchmarkImage:
    name, lr_image, hr_image = images[0]
    return BenchmarkImage(name, lr_image[None], hr_image[None])


def _start_worker(worker: int) -> None:  # noqa: ARG001 - DataLoader passes the worker's number
    # Signals are the training process's to handle, also where a terminal or a scheduler sends them
    # to all processes: it ends its workers when it has saved. Should it not, they end themselves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_S))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    # Workers are the parallelism, and threads of OpenCV do not survive a fork.
    cv2.setNumThreads(0)
