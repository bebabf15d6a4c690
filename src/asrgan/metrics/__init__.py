"""How good a picture is: pure functions, LPIPS, and the one protocol of all tables."""

from asrgan.metrics.full_reference import psnr_rgb, psnr_y, ssim_rgb, ssim_y
from asrgan.metrics.perceptual import LPIPS, LPIPSUnavailableError
from asrgan.metrics.protocol import METRICS, Protocol

__all__ = [
    "LPIPS",
    "METRICS",
    "LPIPSUnavailableError",
    "Protocol",
    "psnr_rgb",
    "psnr_y",
    "ssim_rgb",
    "ssim_y",
]
