"""From folders of photographs to batches of crops, and from HR to LR."""

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

__all__ = [
    "Benchmark",
    "BenchmarkImage",
    "BicubicDegradation",
    "CameraJPEGDegradation",
    "Crops",
    "Degradation",
    "IterationBatches",
    "LightDegradation",
    "OriginalImage",
    "Originals",
    "PhotographData",
    "Photographs",
    "RandomBlur",
    "RandomNoise",
    "RandomResize",
    "RandomSinc",
    "RealisticDegradation",
    "Stage",
    "open_benchmark",
    "sample_numbers",
    "split_benchmark",
]
