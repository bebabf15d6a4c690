import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from asrgan.models.files import load_generator, save_generator
from asrgan.models.folding import fold_norms
from asrgan.models.generator import SRGANGenerator
from asrgan.models.spectral import fold_spectral_norm
from small_networks import SMALL

VARIANTS = {
    "srresnet": {},
    "published": {"trunk_end": "prelu", "output": "tanh"},
    "without norm": {"norm": "none"},
    "asrgan": {
        "spectral_norm": True,
        "spectral_norm_output": True,
        "attention": [{"after": "block1"}, {"after": "trunk"}],
    },
}
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)


def trained(variant: str) -> SRGANGenerator:
    """As a training leaves it: in training mode, each statistic away from its start."""
    torch.manual_seed(0)
    generator = SRGANGenerator(**(SMALL | VARIANTS[variant]))
    with torch.no_grad():
        for layer in generator.attention_layers.values():
            layer.gamma.fill_(0.5)
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.01, 4)
                module.weight.normal_()
                module.bias.normal_()
    return generator


def in_float64(generator: SRGANGenerator) -> nn.Module:
    """Its norms as they are; spectral norm is folded first, since it computes in float32 only."""
    exact = copy.deepcopy(generator).eval()
    fold_spectral_norm(exact)
    return exact.double()


@torch.no_grad()
def rounding(network: nn.Module, exact: nn.Module) -> float:
    """Largest difference of the two networks' pictures, relative to the largest value."""
    image = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(5))
    expected = exact(image.double())
    return ((network(image) - expected).abs().max() / expected.abs().max()).item()


@EVERY_VARIANT
def test_the_pictures_differ_by_rounding_only(variant: str):
    generator = trained(variant)
    exact = in_float64(generator)
    folded = fold_norms(generator)
    assert rounding(folded, exact) < 2e-6
    assert rounding(folded, exact) < 2 * rounding(generator.eval(), exact)


@EVERY_VARIANT
def test_no_norm_is_left(variant: str):
    folded = fold_norms(trained(variant))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parametrize.is_parametrized(module) for module in folded.modules())
    assert not folded.training
    assert {tensor.dtype for tensor in folded.state_dict().values()} == {torch.float32}


@EVERY_VARIANT
def test_the_generator_stays_as_it_is(variant: str):
    generator = trained(variant)
    before, architecture = copy.deepcopy(generator.state_dict()), dict(generator.architecture)
    fold_norms(generator)
    after = generator.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert generator.architecture == architecture
    assert generator.training


@EVERY_VARIANT
def test_the_architecture_describes_what_is_left(variant: str, tmp_path: Path):
    folded = fold_norms(trained(variant))
    same = SRGANGenerator(**folded.architecture)
    same.load_state_dict(folded.state_dict())
    save_generator(tmp_path / "folded.safetensors", folded, recipe={})
    again = load_generator(tmp_path / "folded.safetensors")
    assert again.architecture == folded.architecture
    assert rounding(again, folded.double()) < 2e-6


def test_the_published_srgan_keeps_its_pictures(shared_folder: Path):
    path = shared_folder / "weights" / "srgan_leftthomas" / "netG_epoch_4_100.pth"
    generator = load_generator(path)
    assert rounding(fold_norms(generator), in_float64(generator)) < 5e-6
