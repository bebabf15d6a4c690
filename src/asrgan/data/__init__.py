"""From folders of photographs to batches of crops, and from HR to LR."""

from asrgan.data.benchmark import Benchmark, BenchmarkImage
from asrgan.data.crops import Crops, IterationBatches
from asrgan.data.degradation import BicubicDegradation
from asrgan.data.module import PhotographData
from asrgan.data.photographs import Photographs

__all__ = [
    "Benchmark",
    "BenchmarkImage",
    "BicubicDegradation",
    "Crops",
    "IterationBatches",
    "PhotographData",
    "Photographs",
]
