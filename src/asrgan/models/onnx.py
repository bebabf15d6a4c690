"""Generators as ONNX files. Needs the packages of the extra ``export``."""

import copy
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
import torch
from onnxscript import FLOAT, graph, opset18, script
from torch import Tensor

from asrgan.errors import UserError
from asrgan.files import atomic_path
from asrgan.models.files import as_metadata
from asrgan.models.folding import fold_norms
from asrgan.models.generator import SRGANGenerator

op: Any = opset18  # of ONNX Runtime 1.14 and later; its annotations do not know None
_INPUT, _OUTPUT = "lr_image", "sr_image"
_QUERIES = 256  # of attention at a time: all at once would store the whole map
# Of the pictures, about as far as rounding goes; a wrong graph is off by far more.
_TOLERANCES: Mapping[str, float] = {"float32": 1e-4, "float16": 2e-2}
_CHECKED_SHAPES = ((1, 3, 1, 1), (2, 3, 7, 5), (1, 3, 33, 47))


def save_onnx(
    path: Path | str,
    generator: SRGANGenerator,
    *,
    precision: str,
    recipe: Mapping[str, object],
) -> float:
    """Writes a generator as ONNX, with free batch size, height and width.

    Norms are folded. Before the file takes its name, ONNX Runtime's pictures from it are compared
    with the generator's own, at odd sizes.

    Args:
        path: ends in ``.onnx``; appears whole or not at all.
        generator: stays as it is.
        precision: of weights, input and output: ``float32`` or ``float16``.
        recipe: how it was made, plain values which JSON can hold.

    Returns:
        The largest difference of the compared pictures, whose range is [0, 1].

    Raises:
        UserError: the pictures differ by more than rounding explains.
        OSError: the folder cannot be written, or the disk is full.
    """
    content = _as_onnx(generator, precision=precision, recipe=recipe)
    difference = _largest_difference(content, generator, precision=precision)
    if not difference <= _TOLERANCES[precision]:  # also where it is not a number
        raise UserError(
            f"`{path}` was not written: in {precision} its pictures differ from the weights' by up"
            f" to {difference:.2g}, more than {_TOLERANCES[precision]:.2g}"
            + ("." if precision == "float32" else "; try precision=float32.")
        )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return difference


def _as_onnx(generator: SRGANGenerator, *, precision: str, recipe: Mapping[str, object]) -> bytes:
    dtype = getattr(torch, precision)
    folded = fold_norms(generator).cpu().to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch about its own exporter
        program = torch.onnx.export(
            folded,
            (torch.zeros(2, 3, 14, 19, dtype=dtype),),
            dynamo=True,
            verbose=False,
            opset_version=op.version,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            # Strings, not `Dim`: torch cannot prove that pooling and resizing back fit any size.
            dynamic_shapes={_INPUT: {0: "batch", 2: "height", 3: "width"}},
            custom_translation_table={
                torch.ops.aten.scaled_dot_product_attention.default: _translate_attention
            },
        )
    assert program is not None
    model = program.model
    for part in (model.graph, *model.graph.all_nodes(), *model.graph.initializers.values()):
        part.metadata_props.clear()  # where this computer keeps its sources
    model.producer_name, model.producer_version = "asrgan", metadata.version("asrgan")
    model.metadata_props.update(as_metadata(folded, recipe=recipe))
    model.metadata_props["scale"] = str(generator.scale)
    return onnx_ir.to_proto(model).SerializeToString()


def _translate_attention(query: FLOAT, key: FLOAT, value: FLOAT, **settings: object) -> FLOAT:
    """``scaled_dot_product_attention`` as ``FlexibleSelfAttention`` calls it."""
    assert settings == {"scale": 1.0}
    return _attend(query, key, value)


@script()
def _attend(query: FLOAT[...], key: FLOAT[...], value: FLOAT[...]) -> FLOAT[...]:
    """Attention (N, 1, L, D), of ``_QUERIES`` queries at a time."""
    keys = op.Transpose(key, perm=[0, 1, 3, 2])
    length = op.Shape(query, start=2, end=3)
    missing = op.Mod(op.Neg(length), op.Constant(value_ints=[_QUERIES]))
    zeros = op.Constant(value_ints=[0, 0, 0, 0, 0, 0])
    padded = op.Pad(query, op.Concat(zeros, missing, op.Constant(value_ints=[0]), axis=0))
    split = op.Concat(
        op.Shape(query, start=0, end=2),
        op.Constant(value_ints=[-1, _QUERIES]),
        op.Shape(query, start=3),
        axis=0,
    )
    blocks = op.Transpose(op.Reshape(padded, split), perm=[2, 0, 1, 3, 4])

    @graph()  # not annotated: of either precision
    def attend_block(block):  # pyright: ignore[reportMissingParameterType]
        attended = op.MatMul(op.Softmax(op.MatMul(block, keys), axis=-1), value)
        return attended  # noqa: RET504 - onnxscript wants a name

    attended = op.Scan(blocks, body=attend_block, num_scan_inputs=1)
    joined = op.Reshape(op.Transpose(attended, perm=[1, 2, 0, 3, 4]), op.Shape(padded))
    return op.Slice(joined, op.Constant(value_ints=[0]), length, op.Constant(value_ints=[2]))


@torch.inference_mode()
def _largest_difference(content: bytes, generator: SRGANGenerator, *, precision: str) -> float:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    exact = copy.deepcopy(generator).cpu().eval()
    differences: list[Tensor] = []
    for shape in _CHECKED_SHAPES:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        (sr_image,) = session.run(None, {_INPUT: image.numpy().astype(precision)})
        differences.append(
            (torch.from_numpy(np.asarray(sr_image)).float() - exact(image)).abs().max()
        )
    return torch.stack(differences).max().item()
