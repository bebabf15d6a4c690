"""Generators from and to files: asrgan's own, Lightning checkpoints, published SRGAN weights."""

import copy
import json
import pickle
import re
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from asrgan.errors import UserError
from asrgan.files import atomic_path
from asrgan.models.blocks import ResidualBlock, UpsampleBlock
from asrgan.models.generator import SRGANGenerator
from asrgan.models.spectral import exact_singular_value, fold_spectral_norm
from asrgan.weights import find_weights, published

GENERATORS = {"SRGANGenerator": SRGANGenerator}

# Names the tensor that says which network the others belong to. The header says it, too, but
# programs which load models through spandrel pass on tensors alone.
DESCRIPTION_TENSOR = "asrgan.description"

_FORMAT = 1
_METADATA_KEY = "asrgan"
_PLAIN = {"spectral_norm": False, "spectral_norm_output": False}  # as saved: folded
_CHECKPOINT_KEY = "asrgan_generator"
_CHECKPOINT_PREFIX = "averaged_generator."
# What the file and the generator that starts from it must share; spectral norm is a matter of
# training, and attention may be added.
_SHARED_ARGUMENTS = ("scale", "num_features", "num_blocks", "norm", "trunk_end", "output")
# Folded weights have a largest singular value of 1 up to the error of the power iteration.
_SIGMA_TOLERANCE = 0.02


def save_generator(
    path: Path | str,
    generator: SRGANGenerator,
    *,
    recipe: Mapping[str, object],
    precision: torch.dtype = torch.float32,
) -> None:
    """Writes a generator as safetensors, with all that is needed to use it again.

    Spectral norm is folded into plain weights; the generator itself stays as it is.

    Args:
        path: ends in ``.safetensors``; appears whole or not at all.
        generator: on any device.
        recipe: how it was trained, plain values which JSON can hold.
        precision: of the kernels; ``torch.float16`` halves the file. Biases, slopes and batch
            norm's statistics, which take little room, stay in float32.

    Raises:
        UserError: a kernel holds values that the precision does not.
        OSError: the folder cannot be written, or the disk is full.
    """
    folded = copy.deepcopy(generator).cpu()
    fold_spectral_norm(folded)
    state = {
        name: _rounded(tensor, precision, name=name).contiguous()
        for name, tensor in folded.state_dict().items()
    }
    description = {
        "generator": type(generator).__name__,
        "architecture": generator.architecture | _PLAIN,
    }
    state[DESCRIPTION_TENSOR] = torch.tensor(
        list(json.dumps(description).encode()), dtype=torch.uint8
    )
    with atomic_path(path) as temporary:
        # Not save_file: its error for a full disk is not an OSError.
        temporary.write_bytes(save(state, metadata=as_metadata(generator, recipe=recipe)))


def _rounded(tensor: Tensor, precision: torch.dtype, *, name: str) -> Tensor:
    """A kernel in another precision; vectors as they are."""
    if tensor.ndim < 2:
        return tensor
    rounded = tensor.to(precision)
    if tensor.isfinite().all() and not rounded.isfinite().all():
        largest = f"{tensor.abs().max():.3g}"
        raise UserError(f"`{name}` holds {largest}, too large for {precision}; keep float32.")
    return rounded


def as_metadata(generator: SRGANGenerator, *, recipe: Mapping[str, object]) -> dict[str, str]:
    """What a file says about its generator, as one entry of text; see ``read_metadata``."""
    metadata = {
        "format": _FORMAT,
        "generator": type(generator).__name__,
        "architecture": generator.architecture,
        "scale": generator.scale,
        "recipe": dict(recipe),
    }
    return {_METADATA_KEY: json.dumps(metadata)}


def describe_tensors(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Which network the tensors of ``save_generator`` belong to.

    Args:
        state: all tensors of the file.

    Returns:
        ``generator`` (the class) and ``architecture`` (its arguments).
    """
    return json.loads(bytes(state[DESCRIPTION_TENSOR].tolist()))


def read_metadata(path: Path | str) -> dict[str, Any]:
    """What ``save_generator`` wrote beside the weights.

    Args:
        path: a ``.safetensors`` file, or a published name.

    Returns:
        ``format``, ``generator`` (the class), ``architecture`` (its arguments, as trained),
        ``scale``, ``recipe``.

    Raises:
        UserError: the file is missing, damaged, not asrgan's, or of a newer asrgan.
    """
    path = _existing(find_weights(path))
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
    except SafetensorError as error:
        raise _damaged(path, error) from error
    if text is None:
        raise UserError(f"`{path}` was not written by asrgan: it has no `{_METADATA_KEY}` entry.")
    try:
        metadata = json.loads(text)
        version = metadata["format"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    if version != _FORMAT:
        raise UserError(
            f"`{path}` has format {version}, this asrgan reads {_FORMAT}; update asrgan."
        )
    return metadata


def load_generator(path: Path | str) -> SRGANGenerator:
    """A generator ready for use: plain weights, float32, in eval mode, on the CPU.

    Args:
        path: the name of a generator that comes with asrgan (``srgan_x4``); ``.safetensors`` of
            ``save_generator``; a checkpoint of ``asrgan train`` (its averaged generator); or
            published SRGAN weights, recognised by their names and shapes: with a PReLU or a batch
            norm at the trunk's end, with or without batch counters.

    Raises:
        UserError: the file is missing, damaged, unsafe to read, or holds something else.
    """
    path = find_weights(path)
    try:
        return _load(path)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error  # well-formed, with content that nobody wrote


def _load(path: Path) -> SRGANGenerator:
    if path.suffix.lower() == ".safetensors":
        # The file is mapped, and its header's length moves the tensors: products of vectors would
        # round otherwise after a recipe that is a letter longer.
        metadata, state = read_metadata(path), {k: v.clone() for k, v in load_file(path).items()}
        state.pop(DESCRIPTION_TENSOR, None)  # the header says more
        return _build(metadata["generator"], metadata["architecture"] | _PLAIN, state, path=path)
    content = read_pickle(path)
    if _CHECKPOINT_KEY in content:
        return _from_checkpoint(content, path=path)
    if "block1.0.weight" in content:
        return _from_published(content, path=path)
    raise UserError(
        f"`{path}` holds no generator that asrgan knows; it reads its own .safetensors and .ckpt "
        f"and published SRGAN weights (`block1.0.weight`, ...)."
    )


def load_weights(generator: SRGANGenerator, path: Path | str) -> list[str]:
    """Lets a generator start from the weights of a file, in place.

    Attention which the file lacks stays at its start, where gamma is 0. Spectral norm which the
    file was trained without would change the function; where batch norm can take up the scales it
    is kept exactly, see ``_absorb_spectral_norm``.

    Args:
        generator: to be trained.
        path: as for ``load_generator``.

    Returns:
        What is not as in the file: attention places that stay at their start by name
        (``attention.trunk``), then at most one sentence on spectral norm.

    Raises:
        UserError: as ``load_generator``, or the file's architecture is another one.
    """
    source = load_generator(path)
    check_architecture(generator, source, path=path)
    notes = [
        f"attention.{place}"
        for place in generator.attention_layers
        if place not in source.attention_layers
    ]
    if generator.architecture["spectral_norm"]:
        if _can_absorb(generator, source):
            _absorb_spectral_norm(source)
        elif rescaled := _layers_to_rescale(generator, source):
            notes.append(
                f"spectral norm changes the function: `{rescaled[0]}` and {len(rescaled) - 1} "
                f"other layers of the file have a largest singular value other than 1"
            )
    _copy_weights(source, generator)
    return notes


def read_pickle(path: Path | str) -> dict[str, Any]:
    """A file of ``torch.save`` that holds a dict of tensors and plain values, on the CPU.

    Raises:
        UserError: the file is missing, damaged, unsafe to read, or holds no dict.
    """
    path = _existing(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of others, which are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"`{path}` is damaged, or holds more than tensors and plain values, which could run "
            f"code when it is read; asrgan reads plain state dicts only."
        ) from error
    except Exception as error:  # damaged files raise anything
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise UserError(f"`{path}` holds no state dict but a {type(content).__name__}.")
    return cast("dict[str, Any]", content)


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir():
        raise UserError(
            f"`{path}` is a folder and no weights file; of a run, give"
            f" {path / 'generator.safetensors'}."
        )
    if not path.is_file():
        raise UserError(f"The weights file `{path}` does not exist; check the path{_names(path)}.")
    return path


def _names(path: Path) -> str:
    """What else may have been meant by a word; a published one that gets here was a path."""
    names = published()
    if path.name != str(path) or path.suffix or path.name in names:
        return ""
    if not names:
        return " (none comes with asrgan)"
    return f", or take a published generator: {', '.join(names)}"


def _damaged(path: Path, error: Exception) -> UserError:
    reason = f"{type(error).__name__}: {error}".split("\n")[0].split(". ")[0]
    return UserError(f"`{path}` is truncated or no weights file ({reason}); fetch it again.")


def _build(
    name: str, architecture: Mapping[str, Any], state: Mapping[str, Tensor], *, path: Path
) -> SRGANGenerator:
    if name not in GENERATORS:
        known = ", ".join(GENERATORS)
        raise UserError(f"`{path}` holds the unknown generator `{name}`; known: {known}.")
    try:
        # Without memory and random numbers for weights that are replaced at once.
        with torch.device("meta"):
            generator = GENERATORS[name](**architecture)
        generator.load_state_dict(state, assign=True)
    except (TypeError, RuntimeError) as error:  # unknown arguments; tensors that do not fit
        reason = textwrap.shorten(str(error), width=300)
        raise UserError(f"`{path}` does not fit the network it describes: {reason}") from error
    return generator.float().eval()


def _from_checkpoint(content: Mapping[str, Any], *, path: Path) -> SRGANGenerator:
    description = content[_CHECKPOINT_KEY]
    state = {
        name.removeprefix(_CHECKPOINT_PREFIX): tensor
        for name, tensor in content["state_dict"].items()
        if name.startswith(_CHECKPOINT_PREFIX)
    }
    generator = _build(description["generator"], description["architecture"], state, path=path)
    fold_spectral_norm(generator)
    generator.architecture |= _PLAIN
    return generator


def _from_published(published: Mapping[str, Tensor], *, path: Path) -> SRGANGenerator:
    """SRGAN weights whose modules are called ``block1`` (head) to ``blockN`` (tail)."""
    num_blocks = sum(bool(re.fullmatch(r"block\d+\.conv1\.weight", name)) for name in published)
    trunk, tail = f"block{num_blocks + 2}", f"block{num_blocks + 3}"
    num_upsamplings = sum(
        bool(re.fullmatch(rf"{tail}\.\d+\.conv\.weight", name)) for name in published
    )
    prefixes = {"block1.": "head.", f"{trunk}.": "trunk.", f"{tail}.{num_upsamplings}.": "tail."}
    prefixes |= {f"block{number + 2}.": f"blocks.{number}." for number in range(num_blocks)}
    prefixes |= {f"{tail}.{number}.": f"upsamples.{number}." for number in range(num_upsamplings)}

    state: dict[str, Tensor] = {}
    for name, tensor in published.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is None:
            raise UserError(
                f"`{path}` begins like published SRGAN weights, but `{name}` is no part of them."
            )
        state[prefixes[prefix] + name.removeprefix(prefix).replace("bn", "norm")] = tensor
    architecture = {
        "scale": 2**num_upsamplings,
        "num_features": published["block1.0.weight"].shape[0],
        "num_blocks": num_blocks,
        "norm": "batch",
        "trunk_end": "norm" if f"{trunk}.1.running_mean" in published else "prelu",
        "output": "tanh",
        "spectral_norm": False,
        "spectral_norm_output": False,
        "attention": [],
        "pool_size": 1,
        "attention_resize": "nearest",
    }
    return _build("SRGANGenerator", architecture, state, path=path)


def check_architecture(
    generator: SRGANGenerator, source: SRGANGenerator, *, path: Path | str
) -> None:
    """Whether a generator can start from the weights of another one.

    Args:
        generator: to be trained.
        source: the other one.
        path: of its file, for the message.

    Raises:
        UserError: it cannot.
    """
    here, there = generator.architecture, source.architecture
    different = [name for name in _SHARED_ARGUMENTS if here[name] != there[name]]
    if any(place not in generator.attention.places for place in source.attention.places):
        different.append("attention")
    if different:
        values = ", ".join(
            f"`generator.{name}` is {here[name]} but {there[name]} in the file"
            for name in different
        ).replace("`generator.scale`", "`scale`")
        raise UserError(f"`{path}` holds another architecture: {values}; make them equal.")


def _layers_to_rescale(generator: SRGANGenerator, source: SRGANGenerator) -> list[str]:
    """Layers which the generator's spectral norm would divide by something other than 1."""
    return [
        name
        for name, layer in source.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
        and parametrize.is_parametrized(generator.get_submodule(name), "weight")
        and abs(exact_singular_value(layer) - 1) > _SIGMA_TOLERANCE
    ]


def _can_absorb(generator: SRGANGenerator, source: SRGANGenerator) -> bool:
    return (
        source.architecture["norm"] == "batch"
        and source.architecture["trunk_end"] == "norm"
        # Attention's softmax is not homogeneous, and nothing follows the last convolution.
        and not source.attention_layers
        and not parametrize.is_parametrized(generator.tail, "weight")
    )


@torch.no_grad()
def _absorb_spectral_norm(generator: SRGANGenerator) -> None:
    """Divides each convolution but the last by its largest singular value; keeps the function.

    PReLU, pixel shuffle and the sum of a skip pass a positive factor on. So all features of the
    trunk carry the head's factor: batch norm takes away whatever factor its convolution's output
    has, its affine map restores the trunk's. Each upsampling adds its own factor, and the last
    convolution, which is not divided, takes away what has come together.
    """
    head = cast("nn.Conv2d", generator.head[0])
    factor = _divide(head, input_factor=1.0)
    for block in generator.blocks:
        block = cast("ResidualBlock", block)
        _undo(block.norm1, _divide(block.conv1, input_factor=factor), output_factor=1.0)
        _undo(block.norm2, _divide(block.conv2, input_factor=1.0), output_factor=factor)
    trunk = cast("nn.Conv2d", generator.trunk[0])
    _undo(generator.trunk[1], _divide(trunk, input_factor=factor), output_factor=factor)
    for upsample in generator.upsamples:
        factor = _divide(cast("UpsampleBlock", upsample).conv, input_factor=factor)
    generator.tail.weight.div_(factor)


def _divide(layer: nn.Conv2d, *, input_factor: float) -> float:
    """Divides a convolution by its largest singular value; returns its output's new factor."""
    sigma = exact_singular_value(layer)
    output_factor = input_factor / sigma
    assert layer.bias is not None
    layer.weight.div_(sigma)
    layer.bias.mul_(output_factor)
    return output_factor


def _undo(norm: nn.Module, input_factor: float, *, output_factor: float) -> None:
    """Lets a batch norm turn ``input_factor`` into ``output_factor``, exactly in eval mode."""
    norm = cast("nn.BatchNorm2d", norm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    deviation = (norm.running_var + norm.eps).sqrt()
    norm.running_mean.mul_(input_factor)
    norm.running_var.mul_(input_factor**2)
    # Beside the wanted factor this is nearly 1: epsilon is not scaled with the variance.
    correction = (norm.running_var + norm.eps).sqrt() / (deviation * input_factor)
    norm.weight.mul_(correction * output_factor)
    norm.bias.mul_(output_factor)


@torch.no_grad()
def _copy_weights(source: SRGANGenerator, generator: SRGANGenerator) -> None:
    for name, tensor in source.state_dict().items():
        module_name, _, tensor_name = name.rpartition(".")
        module = generator.get_submodule(module_name)
        if parametrize.is_parametrized(module, tensor_name):
            # Assigned, so that spectral norm finds the new weight's singular vectors.
            setattr(module, tensor_name, tensor.to(getattr(module, tensor_name).device))
        else:
            getattr(module, tensor_name).copy_(tensor)
