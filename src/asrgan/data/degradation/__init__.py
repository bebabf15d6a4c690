"""From HR to LR: bicubic, and what happens to photographs besides."""

from asrgan.data.degradation.degradations import (
    BicubicDegradation,
    CameraJPEGDegradation,
    Degradation,
    LightDegradation,
    RealisticDegradation,
)
from asrgan.data.degradation.parts import (
    RandomBlur,
    RandomNoise,
    RandomResize,
    RandomSinc,
    Stage,
)

__all__ = [
    "BicubicDegradation",
    "CameraJPEGDegradation",
    "Degradation",
    "LightDegradation",
    "RandomBlur",
    "RandomNoise",
    "RandomResize",
    "RandomSinc",
    "RealisticDegradation",
    "Stage",
]
