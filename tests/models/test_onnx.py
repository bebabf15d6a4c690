import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import asrgan
import small_networks
from asrgan.errors import UserError
from asrgan.models import SRGANGenerator
from asrgan.models import onnx as onnx_files

SMALL = small_networks.SMALL | {"spectral_norm": True}
EVERYWHERE = [
    {"after": "head", "resize": "nearest"},
    {"after": "block1", "pool_size": 3, "resize": "bilinear"},
    {"after": "trunk", "pool_size": 4},
    {"after": "upsample1", "pool_size": 1},
]
RECIPE = {"weights": {"file": "süß.pth"}}


def build(*, seed: int = 0, **changes: Any) -> SRGANGenerator:
    """A generator whose attention and norms matter, in eval mode."""
    torch.manual_seed(seed)
    generator = SRGANGenerator(**(SMALL | changes))
    generator(torch.rand(2, 3, 9, 9))  # moves batch norm's statistics
    for layer in generator.attention_layers.values():
        layer.gamma.data.fill_(0.5)
    return generator.eval()


@pytest.fixture(scope="module")
def generator() -> SRGANGenerator:
    return build(attention=EVERYWHERE)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, generator: SRGANGenerator) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "generator.onnx"
    difference = onnx_files.save_onnx(path, generator, precision="float32", recipe=RECIPE)
    assert difference < 1e-5
    assert list(path.parent.iterdir()) == [path]
    return path


@pytest.fixture(scope="module")
def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


# The last needs several blocks of queries after upsample1.
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 5), (6, 6), (13, 7), (16, 32), (23, 29)])
@pytest.mark.parametrize("num_images", [1, 3])
def test_any_picture_is_what_torch_makes_of_it(
    session: onnxruntime.InferenceSession,
    generator: SRGANGenerator,
    size: tuple[int, int],
    num_images: int,
):
    image = torch.rand(num_images, 3, *size)
    (sr_image,) = session.run(None, {"lr_image": image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(sr_image), generator(image))


def test_batch_height_and_width_are_free(session: onnxruntime.InferenceSession):
    (before,), (after,) = session.get_inputs(), session.get_outputs()
    assert (before.name, before.shape) == ("lr_image", ["batch", 3, "height", "width"])
    assert (after.name, after.shape) == ("sr_image", ["batch", 3, "4*height", "4*width"])


def test_programs_can_read_the_scale_off_the_graph(file: Path):
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    _, _, height, width = model.graph.input[0].type.tensor_type.shape.dim
    height.dim_value, width.dim_value = 16, 24
    del model.graph.value_info[:]
    (output,) = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    assert [dim.dim_value for dim in output.type.tensor_type.shape.dim][2:] == [64, 96]


def test_no_attention_map_is_stored_whole(file: Path):
    outside = [node.op_type for node in onnx.load(file).graph.node]
    assert outside.count("Scan") == len(EVERYWHERE)
    assert not {"Softmax", "MatMul"} & set(outside)


def test_the_file_says_what_it_is_and_not_where_it_was_made(file: Path, generator: SRGANGenerator):
    model = onnx.load(file)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["scale"] == "4"
    metadata = json.loads(properties["asrgan"])
    assert metadata["architecture"]["attention"] == generator.architecture["attention"]
    assert metadata["architecture"]["norm"] == "none"
    assert metadata["recipe"] == RECIPE
    assert model.producer_name == "asrgan"
    content = file.read_bytes()
    for path in (Path(asrgan.__file__).parent, Path(torch.__file__).parent, file.parent):
        assert str(path).encode() not in content


def test_half_precision_takes_and_gives_float16(tmp_path: Path):
    generator = build(scale=2, output="tanh", attention=EVERYWHERE[1:2])
    path = tmp_path / "half.onnx"
    assert onnx_files.save_onnx(path, generator, precision="float16", recipe={}) < 1 / 255
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = torch.rand(1, 3, 9, 14).half()
    (sr_image,) = session.run(None, {"lr_image": image.numpy()})
    assert sr_image.dtype == np.float16
    with torch.no_grad():
        expected = generator(image.float())
    assert (torch.from_numpy(sr_image).float() - expected).abs().max() < 1 / 255


@pytest.mark.parametrize(
    ("precision", "weight", "message"),
    [
        ("float32", 0.5, r"g\.onnx` was not written: in float32 .* than 0\.0001\.$"),
        ("float32", float("nan"), r"by up to nan, more than"),
        ("float16", 0.5, "than 0.02; try precision=float32"),
    ],
)
def test_a_file_with_other_pictures_is_not_written(
    tmp_path: Path,
    generator: SRGANGenerator,
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    weight: float,
    message: str,
):
    class Session:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, outputs: None, inputs: dict[str, Any]) -> list[Any]:
            image = torch.from_numpy(inputs["lr_image"]).float()
            return [(generator(image) + weight).numpy()]

    monkeypatch.setattr(onnx_files, "_as_onnx", lambda *_, **__: b"")
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(UserError, match=message):
        onnx_files.save_onnx(tmp_path / "g.onnx", generator, precision=precision, recipe={})
    assert list(tmp_path.iterdir()) == []
