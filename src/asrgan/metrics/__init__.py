"""How good a picture is: pure functions, networks, and the one protocol of all tables."""

from asrgan.metrics.consistency import colour_shift, consistency
from asrgan.metrics.full_reference import psnr_rgb, psnr_y, ssim_rgb, ssim_y
from asrgan.metrics.perceptual import LPIPS
from asrgan.metrics.protocol import METRICS, Metric, Protocol

__all__ = [
    "LPIPS",
    "METRICS",
    "Metric",
    "Protocol",
    "colour_shift",
    "consistency",
    "psnr_rgb",
    "psnr_y",
    "ssim_rgb",
    "ssim_y",
]
