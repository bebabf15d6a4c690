"""How good a picture is: pure functions, networks, and the one protocol of all tables."""

from asrgan.metrics.blocking import blockiness, blockiness_map
from asrgan.metrics.colour import colour_patch_map, colour_patches, colour_shift
from asrgan.metrics.consistency import consistency
from asrgan.metrics.edges import ringing, ringing_map
from asrgan.metrics.full_reference import ms_ssim_y, psnr_rgb, psnr_y, ssim_rgb, ssim_y
from asrgan.metrics.means import FiniteMean, counted_values, finite_mean, mean_over_benchmarks
from asrgan.metrics.naturalness import PristineModel, niqe, open_pristine_model
from asrgan.metrics.perceptual import DISTS, LPIPS, FeatureDistance
from asrgan.metrics.protocol import METRICS, Metric, Protocol

__all__ = [
    "DISTS",
    "LPIPS",
    "METRICS",
    "FeatureDistance",
    "FiniteMean",
    "Metric",
    "PristineModel",
    "Protocol",
    "blockiness",
    "blockiness_map",
    "colour_patch_map",
    "colour_patches",
    "colour_shift",
    "consistency",
    "counted_values",
    "finite_mean",
    "mean_over_benchmarks",
    "ms_ssim_y",
    "niqe",
    "open_pristine_model",
    "psnr_rgb",
    "psnr_y",
    "ringing",
    "ringing_map",
    "ssim_rgb",
    "ssim_y",
]
