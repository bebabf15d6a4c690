"""A generator -> pictures of any size within a memory budget."""

from asrgan.inference.memory import parse_memory
from asrgan.inference.upscaler import Forecast, Upscaler

__all__ = ["Forecast", "Upscaler", "parse_memory"]
