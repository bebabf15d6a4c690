"""How good a picture is: pure functions, networks, and the one protocol of all tables."""

from asrgan.metrics.colour import colour_shift
from asrgan.metrics.consistency import consistency
from asrgan.metrics.full_reference import ms_ssim_y, psnr_rgb, psnr_y, ssim_rgb, ssim_y
from asrgan.metrics.naturalness import PristineModel, niqe, open_pristine_model
from asrgan.metrics.perceptual import DISTS, LPIPS
from asrgan.metrics.protocol import METRICS, Metric, Protocol

__all__ = [
    "DISTS",
    "LPIPS",
    "METRICS",
    "Metric",
    "PristineModel",
    "Protocol",
    "colour_shift",
    "consistency",
    "ms_ssim_y",
    "niqe",
    "open_pristine_model",
    "psnr_rgb",
    "psnr_y",
    "ssim_rgb",
    "ssim_y",
]
