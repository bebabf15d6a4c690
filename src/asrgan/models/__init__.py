"""Generators, discriminators, feature networks, and their weights."""

from asrgan.models.attention import AttentionPlace, FlexibleSelfAttention
from asrgan.models.bicubic import BicubicUpscaler
from asrgan.models.blocks import as_phases, pixel_by_pixel
from asrgan.models.discriminators import UNetDiscriminator, VGGDiscriminator
from asrgan.models.features import DistilledVGG19Features, VGG19Features
from asrgan.models.files import (
    check_architecture,
    load_generator,
    load_weights,
    read_metadata,
    save_generator,
)
from asrgan.models.folding import fold_norms
from asrgan.models.generator import SRGANGenerator
from asrgan.models.spectral import (
    SpectralNorm,
    apply_spectral_norm,
    fold_spectral_norm,
    largest_singular_value,
)

__all__ = [
    "AttentionPlace",
    "BicubicUpscaler",
    "DistilledVGG19Features",
    "FlexibleSelfAttention",
    "SRGANGenerator",
    "SpectralNorm",
    "UNetDiscriminator",
    "VGG19Features",
    "VGGDiscriminator",
    "apply_spectral_norm",
    "as_phases",
    "check_architecture",
    "fold_norms",
    "fold_spectral_norm",
    "largest_singular_value",
    "load_generator",
    "load_weights",
    "pixel_by_pixel",
    "read_metadata",
    "save_generator",
]
