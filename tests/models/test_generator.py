import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import small_networks
from asrgan.errors import UserError
from asrgan.models.generator import SRGANGenerator

SMALL = small_networks.SMALL | {"attention_resize": "bilinear"}
EVERYWHERE = [
    {"after": "head", "resize": "nearest"},
    {"after": "block1", "pool_size": 3},
    {"after": "trunk", "resize": "transposed"},
    {"after": "upsample1", "pool_size": 4},
]
VARIANTS = {
    "srresnet": {},
    "published": {"trunk_end": "prelu", "output": "tanh"},
    "without norm": {"norm": "none"},
    "asrgan": {"spectral_norm": True, "attention": EVERYWHERE},
    "asrgan without norm": {
        "norm": "none",
        "spectral_norm": True,
        "spectral_norm_output": True,
        "attention": EVERYWHERE,
    },
}
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)


def build(**changes: Any) -> SRGANGenerator:
    """A small generator whose attention matters."""
    torch.manual_seed(0)
    generator = SRGANGenerator(**(SMALL | changes))
    for layer in generator.attention_layers.values():
        layer.gamma.data.fill_(0.5)
    return generator


@EVERY_VARIANT
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("size", [(6, 6), (5, 7), (1, 1)])
def test_any_picture_is_enlarged_by_the_scale(variant: str, scale: int, size: tuple[int, int]):
    generator = build(**VARIANTS[variant], scale=scale).eval()
    sr_image = generator(torch.rand(2, 3, *size))
    assert sr_image.shape == (2, 3, scale * size[0], scale * size[1])
    assert sr_image.isfinite().all()
    assert generator.scale == scale


@EVERY_VARIANT
def test_gradients_reach_every_parameter(variant: str):
    generator = build(**VARIANTS[variant]).eval()  # a batch norm in training hides biases
    generator(torch.rand(2, 3, 7, 6)).square().sum().backward()
    without = [
        name
        for name, parameter in generator.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert without == []


@EVERY_VARIANT
def test_in_eval_a_picture_does_not_depend_on_the_rest_of_its_batch(variant: str):
    generator = build(**VARIANTS[variant])
    lr_images = torch.rand(3, 3, 7, 6)
    generator(lr_images)
    generator.eval()
    alone = torch.cat([generator(lr_image[None]) for lr_image in lr_images])
    torch.testing.assert_close(generator(lr_images), alone, rtol=1e-4, atol=1e-5)


@EVERY_VARIANT
def test_eval_changes_no_state(variant: str):
    generator = build(**VARIANTS[variant]).eval()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    generator(torch.rand(1, 3, 6, 6))
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())


@EVERY_VARIANT
def test_the_architecture_as_json_builds_the_same_network(variant: str):
    generator = build(**VARIANTS[variant]).eval()
    again = SRGANGenerator(**json.loads(json.dumps(generator.architecture))).eval()
    again.load_state_dict(generator.state_dict())
    lr_image = torch.rand(1, 3, 6, 6)
    assert torch.equal(again(lr_image), generator(lr_image))
    assert again.architecture == generator.architecture


@EVERY_VARIANT
def test_the_two_parts_make_the_whole(variant: str):
    generator = build(**VARIANTS[variant]).eval()
    lr_image = torch.rand(1, 3, 6, 5)
    features = generator.features(lr_image)
    assert features.shape == (1, 8, 6, 5)
    assert torch.equal(generator.reconstruct(features), generator(lr_image))


def test_the_published_size_has_the_papers_number_of_weights():
    """Counted from Ledig et al. 2017, figure 4, with one slope per PReLU."""
    generator = SRGANGenerator(**(SMALL | {"num_features": 64, "num_blocks": 16}))
    k9 = 64 * 3 * 81
    k3, norm, slope = 64 * 64 * 9 + 64, 2 * 64, 1
    expected = (
        (k9 + 64 + slope)
        + 16 * (2 * k3 + 2 * norm + slope)
        + (k3 + norm)
        + 2 * (4 * k3 + slope)
        + (k9 + 3)
    )
    assert sum(parameter.numel() for parameter in generator.parameters()) == expected


def test_a_tanh_output_stays_within_zero_and_one():
    generator = build(output="tanh").eval()
    generator.tail.weight.data *= 100
    linear = build(output="linear").eval()
    linear.tail.weight.data *= 100
    lr_image = torch.rand(1, 3, 8, 8)
    expected = (linear(lr_image).tanh() + 1) / 2
    torch.testing.assert_close(generator(lr_image), expected)
    assert expected.min() < 0.1
    assert expected.max() > 0.9


def test_attention_stands_after_its_place():
    places = ["head", "block1", "block2", "trunk", "upsample1", "upsample2"]
    generator = build(attention=[{"after": place} for place in places]).eval()
    modules = {
        "head": generator.head,
        "block1": generator.blocks[0],
        "block2": generator.blocks[1],
        "trunk": generator.trunk,
        "upsample1": generator.upsamples[0],
        "upsample2": generator.upsamples[1],
    }
    outputs: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}
    attended: dict[str, Tensor] = {}
    for place, layer in generator.attention_layers.items():
        modules[place].register_forward_hook(
            lambda _m, _i, output, place=place: outputs.__setitem__(place, output)
        )
        layer.register_forward_hook(
            lambda _m, arguments, output, place=place: (
                inputs.__setitem__(place, arguments[0]),
                attended.__setitem__(place, output),
                None,
            )[-1]
        )
    generator(torch.rand(1, 3, 6, 6))
    assert list(inputs) == places
    outputs["trunk"] = outputs["trunk"] + attended["head"]  # the long skip
    for place in places:
        torch.testing.assert_close(inputs[place], outputs[place])


@pytest.mark.parametrize("spectral_norm_output", [False, True])
def test_spectral_norm_is_on_every_convolution_but_perhaps_the_last(spectral_norm_output: bool):
    generator = build(
        spectral_norm=True,
        spectral_norm_output=spectral_norm_output,
        attention=[{"after": "trunk", "resize": "transposed"}],
    )
    plain = {
        name
        for name, module in generator.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        and not parametrize.is_parametrized(module, "weight")
    }
    assert plain == (set() if spectral_norm_output else {"tail"})


def test_names_of_weights_can_be_read():
    names = build(attention=[{"after": "trunk"}]).state_dict().keys()
    assert {
        "head.0.weight",
        "blocks.1.conv2.weight",
        "blocks.1.norm2.running_var",
        "trunk.1.bias",
        "upsamples.1.conv.weight",
        "tail.bias",
        "attention.trunk.gamma",
    } <= names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 3}, r"`scale` \(=3\) must be one of: 2, 4, 8"),
        ({"num_features": 0}, r"`generator.num_features` \(=0\)"),
        ({"num_blocks": 0}, r"`generator.num_blocks` \(=0\)"),
        ({"norm": "layer"}, r"`generator.norm` \(=layer\) must be one of: batch, none"),
        ({"trunk_end": "relu"}, r"`generator.trunk_end` \(=relu\)"),
        ({"output": "sigmoid"}, r"`generator.output` \(=sigmoid\) must be one of: linear, tanh"),
        ({"attention": [{"after": "upsample3"}]}, "place `upsample3`; known: head, block1, block2"),
        ({"num_features": 12, "attention": [{"after": "trunk"}]}, "must be divisible by 8"),
    ],
)
def test_a_wrong_argument_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        build(**changes)
