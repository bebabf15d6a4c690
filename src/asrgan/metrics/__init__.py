"""How good a picture is: pure functions, LPIPS, and the one protocol of all tables."""

from asrgan.metrics.full_reference import psnr_rgb, psnr_y, ssim_rgb, ssim_y
from asrgan.metrics.perceptual import LPIPS, open_lpips
from asrgan.metrics.protocol import METRICS, Protocol

__all__ = [
    "LPIPS",
    "METRICS",
    "Protocol",
    "open_lpips",
    "psnr_rgb",
    "psnr_y",
    "ssim_rgb",
    "ssim_y",
]
