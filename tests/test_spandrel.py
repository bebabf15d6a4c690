import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from spandrel import MAIN_REGISTRY, ImageModelDescriptor, ModelLoader, ModelTiling

from asrgan.models import SRGANGenerator, fold_norms, load_generator, save_generator
from asrgan.spandrel import register
from small_networks import SMALL

# What no shape of a tensor tells: tanh, the pooling before an interpolation.
VARIANTS = {
    "srresnet": {},
    "published": {"trunk_end": "prelu", "output": "tanh", "scale": 2},
    "asrgan": {
        "spectral_norm": True,
        "attention": [
            {"after": "block1", "pool_size": 3, "resize": "bilinear"},
            {"after": "trunk", "pool_size": 4, "resize": "nearest"},
        ],
    },
}
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)


def build(variant: str) -> SRGANGenerator:
    torch.manual_seed(0)
    generator = SRGANGenerator(**(SMALL | VARIANTS[variant]))
    generator(torch.rand(2, 3, 9, 9))  # moves batch norm's statistics
    for layer in generator.attention_layers.values():
        layer.gamma.data.fill_(0.5)
    return generator.eval()


@pytest.fixture
def loader() -> ModelLoader:
    registry = MAIN_REGISTRY.copy()
    register(registry)
    return ModelLoader(registry=registry)


def test_half_precision_is_read_to_float32(loader: ModelLoader, tmp_path: Path):
    path = tmp_path / "half.safetensors"
    save_generator(path, build("asrgan"), recipe={}, precision=torch.float16)
    model = loader.load_from_file(path)
    assert isinstance(model, ImageModelDescriptor)
    image = torch.rand(1, 3, 11, 14)
    torch.testing.assert_close(model(image), load_generator(path)(image).clamp(0, 1))


@EVERY_VARIANT
@pytest.mark.parametrize("is_folded", [False, True], ids=["trained", "exported"])
def test_a_file_gives_the_same_pictures_in_spandrel(
    tmp_path: Path, loader: ModelLoader, variant: str, is_folded: bool
):
    generator = build(variant)
    path = tmp_path / "generator.safetensors"
    save_generator(path, fold_norms(generator) if is_folded else generator, recipe={})
    model = loader.load_from_file(path)
    assert isinstance(model, ImageModelDescriptor)
    image = torch.rand(1, 3, 13, 10)
    with torch.no_grad():
        torch.testing.assert_close(model(image), generator(image).clamp(0, 1))
    assert (model.architecture.name, model.purpose) == ("asrgan", "SR")
    assert (model.scale, model.input_channels, model.output_channels) == (generator.scale, 3, 3)


def test_a_program_is_told_not_to_cut_a_picture_before_attention(
    tmp_path: Path, loader: ModelLoader
):
    for variant in ("srresnet", "asrgan"):
        save_generator(tmp_path / f"{variant}.safetensors", build(variant), recipe={})
    plain = loader.load_from_file(tmp_path / "srresnet.safetensors")
    assert (plain.tiling, plain.tags) == (ModelTiling.SUPPORTED, ["8nf", "2nb"])
    attentive = loader.load_from_file(tmp_path / "asrgan.safetensors")
    assert attentive.tiling == ModelTiling.DISCOURAGED
    assert attentive.tags == ["8nf", "2nb", "FSA block1 /3", "FSA trunk /4"]


@EVERY_VARIANT
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_runs_in_the_precisions_it_names(
    tmp_path: Path, loader: ModelLoader, variant: str, dtype: torch.dtype
):
    generator = build(variant)
    save_generator(tmp_path / "g.safetensors", generator, recipe={})
    model = loader.load_from_file(tmp_path / "g.safetensors").to(dtype)
    image = torch.rand(1, 3, 8, 11).to(dtype)
    sr_image = model(image)
    assert sr_image.dtype == dtype
    with torch.no_grad():
        expected = generator(image.float()).clamp(0, 1)
    assert (sr_image.float() - expected).abs().max() < 0.03


def test_no_architecture_of_spandrels_own_takes_the_file_for_its_own(tmp_path: Path):
    save_generator(tmp_path / "g.safetensors", build("asrgan"), recipe={})
    state = load_file(tmp_path / "g.safetensors")
    assert [support.architecture.id for support in MAIN_REGISTRY if support.detect(state)] == []


def test_registering_twice_does_no_harm_and_reaches_every_loader(tmp_path: Path):
    # As ComfyUI loads a model: tensors alone, with spandrel's own registry.
    save_generator(tmp_path / "g.safetensors", build("srresnet"), recipe={})
    code = f"""
from safetensors.torch import load_file
from spandrel import ImageModelDescriptor, ModelLoader
from asrgan.spandrel import register
register()
register()
tensors = load_file({str(tmp_path / "g.safetensors")!r})
assert isinstance(ModelLoader().load_from_state_dict(tensors).eval(), ImageModelDescriptor)
import sys
assert not {{"hydra", "pytorch_lightning", "wandb", "albumentations"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_published_srgan_goes_through_spandrel(
    tmp_path: Path, shared_folder: Path, loader: ModelLoader
):
    generator = load_generator(
        shared_folder / "weights" / "srgan_leftthomas" / "netG_epoch_4_100.pth"
    )
    save_generator(tmp_path / "srgan.safetensors", fold_norms(generator), recipe={})
    image = torch.rand(1, 3, 21, 34)
    with torch.no_grad():
        expected = generator(image)
    sr_image = loader.load_from_file(tmp_path / "srgan.safetensors")(image)
    torch.testing.assert_close(sr_image, expected, atol=1e-5, rtol=0)
