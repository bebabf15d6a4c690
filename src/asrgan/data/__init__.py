"""From photographs to shards, from both to batches of crops, and from HR to LR."""

from asrgan.data.benchmark import (
    Benchmark,
    BenchmarkImage,
    OriginalImage,
    Originals,
    open_benchmark,
    split_benchmark,
)
from asrgan.data.crops import Crops, IterationBatches, sample_numbers
from asrgan.data.degradation import (
    BicubicDegradation,
    CameraJPEGDegradation,
    Degradation,
    LightDegradation,
    RandomBlur,
    RandomNoise,
    RandomResize,
    RandomSinc,
    RealisticDegradation,
    Stage,
)
from asrgan.data.module import PhotographData
from asrgan.data.photographs import Photographs
from asrgan.data.preparation import Preparation
from asrgan.data.shards import Shards
from asrgan.data.sources import ImageSource, is_prepared, open_source
from asrgan.data.storage import FolderStorage, StreamedStorage
from asrgan.data.tiles import Tiling

__all__ = [
    "Benchmark",
    "BenchmarkImage",
    "BicubicDegradation",
    "CameraJPEGDegradation",
    "Crops",
    "Degradation",
    "FolderStorage",
    "ImageSource",
    "IterationBatches",
    "LightDegradation",
    "OriginalImage",
    "Originals",
    "PhotographData",
    "Photographs",
    "Preparation",
    "RandomBlur",
    "RandomNoise",
    "RandomResize",
    "RandomSinc",
    "RealisticDegradation",
    "Shards",
    "Stage",
    "StreamedStorage",
    "Tiling",
    "is_prepared",
    "open_benchmark",
    "open_source",
    "sample_numbers",
    "split_benchmark",
]
