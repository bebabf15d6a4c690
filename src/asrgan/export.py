"""Give a generator to other programs: plain weights, or ONNX.

  asrgan export weights=FILE format=safetensors|onnx output=FILE [key=value ...]

Spectral norm and batch norm are folded into the convolutions: the same pictures with fewer
operations. The file says what it is: scale, architecture, which weights it was made from. `weights`
is a file or the name of a generator that comes with asrgan. precision=float16 halves the file.

safetensors   for asrgan itself, and for ComfyUI and others that load models through spandrel;
              these need the package asrgan[spandrel] and the call `asrgan.spandrel.register()`
onnx          for ONNX Runtime, chaiNNer and others; input `lr_image` (batch, 3, height, width) RGB
              in [0, 1], output `sr_image`, not clamped. Checked with ONNX Runtime against the
              weights at odd sizes before it is written. Needs the package asrgan[export]

Examples:
    asrgan export weights=runs/asrgan/generator.safetensors format=onnx output=asrgan_x4.onnx
    asrgan export weights=netG_epoch_4_100.pth format=safetensors output=srgan_x4.safetensors
    asrgan export weights=srgan_x4 format=onnx output=half.onnx precision=float16
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig

from asrgan.errors import UserError
from asrgan.files import file_digest
from asrgan.models import SRGANGenerator, fold_norms, load_generator, read_metadata, save_generator
from asrgan.provenance import describe_run
from asrgan.weights import find_weights

log = logging.getLogger(__name__)

_FORMATS = ("safetensors", "onnx")
_PRECISIONS = ("float32", "float16")


def run(config: DictConfig, output_dir: Path) -> None:
    """Exports as the configuration says, and tells where the file is."""
    weights, output = find_weights(str(config.weights)), output_dir / str(config.output)
    _check(config, weights, output)
    generator = load_generator(weights)
    recipe = {"weights": _describe(weights), **describe_run()}
    try:
        if config.format == "onnx":
            _save_onnx(output, generator, config.precision, recipe)
        else:
            precision = getattr(torch, config.precision)
            save_generator(output, fold_norms(generator), recipe=recipe, precision=precision)
    except OSError as error:
        raise UserError(
            f"`output` (={output}) could not be written ({error.strerror or error})."
        ) from error
    log.info("%s (%.1f MB)", output, output.stat().st_size / 1e6)


def _check(config: DictConfig, weights: Path, output: Path) -> None:
    for key, choices in {"format": _FORMATS, "precision": _PRECISIONS}.items():
        if config[key] not in choices:
            raise UserError(f"`{key}` (={config[key]}) must be one of: {', '.join(choices)}.")
    if output.suffix.lower() != f".{config.format}":
        raise UserError(
            f"`output` (={output}) must end in .{config.format}, as `format` says; try"
            f" {output.stem}.{config.format}."
        )
    if output.is_dir():
        raise UserError(f"`output` (={output}) is a folder; add the name of a file.")
    if output.exists() and weights.exists() and output.samefile(weights):
        raise UserError(f"`output` (={output}) is the weights file itself; choose another name.")
    if output.exists() and not config.overwrite:
        raise UserError(
            f"`output` (={output}) exists; choose another name, or replace it: overwrite=true."
        )


def _describe(weights: Path) -> dict[str, object]:
    """Where the exported weights come from, as far as it is known."""
    is_own = weights.suffix.lower() == ".safetensors"
    return {
        "file": weights.name,
        "sha256": file_digest(weights),
        "recipe": read_metadata(weights)["recipe"] if is_own else None,
    }


def _save_onnx(
    path: Path, generator: SRGANGenerator, precision: str, recipe: Mapping[str, object]
) -> None:
    try:
        from asrgan.models.onnx import save_onnx
    except ImportError as error:
        raise UserError(
            f"`format=onnx` needs the package {error.name}; try: pip install 'asrgan[export]'."
        ) from error
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)  # else they tell each step
    difference = save_onnx(path, generator, precision=precision, recipe=recipe)
    log.info("Largest difference to the weights' own pictures, in [0, 1]: %.1e", difference)
