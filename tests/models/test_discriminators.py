from typing import Any

import pytest
import torch
from skimage import data
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from asrgan.errors import UserError
from asrgan.imaging import bicubic_downscale, bicubic_upscale, to_tensor
from asrgan.models.discriminators import UNetDiscriminator, VGGDiscriminator

Discriminator = VGGDiscriminator | UNetDiscriminator

NO_ATTENTION: dict[str, Any] = {"attention": [], "pool_size": 2, "attention_resize": "bilinear"}
EVERYWHERE = NO_ATTENTION | {
    "attention": [
        {"after": "stage1", "pool_size": 4},
        {"after": "stage2", "resize": "nearest"},
        {"after": "stage3", "resize": "transposed"},
        {"after": "stage4", "pool_size": 1},
    ]
}
VARIANTS: dict[str, tuple[type[Discriminator], dict[str, Any]]] = {
    "srgan": (VGGDiscriminator, {"norm": "batch", "spectral_norm": False} | NO_ATTENTION),
    "vgg without norm": (VGGDiscriminator, {"norm": "none", "spectral_norm": False} | NO_ATTENTION),
    "asrgan": (VGGDiscriminator, {"norm": "none", "spectral_norm": True} | EVERYWHERE),
    "asrgan with norm": (VGGDiscriminator, {"norm": "batch", "spectral_norm": True} | EVERYWHERE),
    "real-esrgan": (UNetDiscriminator, {"spectral_norm": True} | NO_ATTENTION),
    "unet with attention": (UNetDiscriminator, {"spectral_norm": False} | EVERYWHERE),
}
EVERY_VARIANT = pytest.mark.parametrize("variant", VARIANTS)


def build(variant: str) -> Discriminator:
    """A small discriminator whose attention matters."""
    torch.manual_seed(0)
    network, arguments = VARIANTS[variant]
    discriminator = network(num_features=8, **arguments)
    for layer in discriminator.attention_layers.values():
        layer.gamma.data.fill_(0.5)
    return discriminator


@EVERY_VARIANT
@pytest.mark.parametrize("size", [(96, 96), (33, 50), (8, 9)])
def test_any_crop_has_logits(variant: str, size: tuple[int, int]):
    discriminator = build(variant).eval()
    logits = discriminator(torch.rand(2, 3, *size))
    assert logits.shape == (
        (2, 1) if isinstance(discriminator, VGGDiscriminator) else (2, 1, *size)
    )
    assert logits.isfinite().all()


@EVERY_VARIANT
def test_gradients_reach_every_parameter_and_the_picture(variant: str):
    discriminator = build(variant).eval()
    image = torch.rand(2, 3, 35, 32, requires_grad=True)
    discriminator(image).square().sum().backward()
    without = [
        name
        for name, parameter in discriminator.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert without == []
    assert image.grad is not None
    assert (image.grad != 0).any(dim=1).all()


@EVERY_VARIANT
def test_in_eval_a_picture_does_not_depend_on_the_rest_of_its_batch(variant: str):
    discriminator = build(variant)
    images = torch.rand(3, 3, 32, 40)
    discriminator(images)
    discriminator.eval()
    alone = torch.cat([discriminator(image[None]) for image in images])
    torch.testing.assert_close(discriminator(images), alone, rtol=1e-4, atol=1e-5)


def test_the_vgg_discriminator_at_96_pixels_is_the_papers():
    """Ledig et al. 2017, figure 4: eight convolutions, a dense layer of 1024, one logit."""
    discriminator = VGGDiscriminator(
        num_features=64, norm="batch", spectral_norm=False, **NO_ATTENTION
    )
    convolutions = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.out_channels, c.stride[0], c.kernel_size[0]) for c in convolutions] == [
        (64, 1, 3),
        (64, 2, 3),
        (128, 1, 3),
        (128, 2, 3),
        (256, 1, 3),
        (256, 2, 3),
        (512, 1, 3),
        (512, 2, 3),
    ]
    assert sum(isinstance(m, nn.BatchNorm2d) for m in discriminator.modules()) == 7
    assert [m.out_features for m in discriminator.modules() if isinstance(m, nn.Linear)] == [
        1024,
        1,
    ]

    with torch.no_grad():
        features = torch.rand(1, 3, 96, 96)
        for stage in discriminator.eval().stages:
            features = stage(features)
        assert features.shape == (1, 512, 6, 6)
        assert torch.equal(discriminator.dense[0](features), features)


@pytest.mark.parametrize("num_features", [16, 32])
def test_spectral_norm_leaves_a_new_discriminator_a_signal_to_learn_from(num_features: int):
    """From a random start, sharp and smooth differ by 3e-4 at most (three seeds)."""
    torch.manual_seed(0)
    discriminator = VGGDiscriminator(
        num_features=num_features, norm="none", spectral_norm=True, **NO_ATTENTION
    )
    picture = to_tensor(data.astronaut())
    sharp = torch.stack([picture[:, top : top + 96, 180:276] for top in range(0, 384, 96)])
    smooth = bicubic_upscale(bicubic_downscale(sharp, scale=4), scale=4)
    with torch.no_grad():
        difference = discriminator(sharp) - discriminator(smooth)
    assert difference.abs().mean() > 1e-3


def test_the_unet_discriminator_is_real_esrgans():
    """Layer by layer from the published layout: names, strides, skips; 4,376,897 weights."""
    torch.manual_seed(1)
    discriminator = UNetDiscriminator(num_features=64, spectral_norm=False, **NO_ATTENTION)
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == 4_376_897

    small = UNetDiscriminator(num_features=4, spectral_norm=False, **NO_ATTENTION)
    conv1, conv2, conv3 = (layer.weight for layer in small.encoder)
    conv4, conv5, conv6 = (layer.weight for layer in small.decoder)
    conv7, conv8 = small.refine[0].weight, small.refine[2].weight

    def up(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def act(x: torch.Tensor) -> torch.Tensor:
        return torch.maximum(x, 0.2 * x)

    image = torch.rand(2, 3, 16, 24)
    x0 = act(F.conv2d(image, small.first.weight, small.first.bias, padding=1))
    x1 = act(F.conv2d(x0, conv1, stride=2, padding=1))
    x2 = act(F.conv2d(x1, conv2, stride=2, padding=1))
    x3 = act(F.conv2d(x2, conv3, stride=2, padding=1))
    x4 = act(F.conv2d(up(x3), conv4, padding=1)) + x2
    x5 = act(F.conv2d(up(x4), conv5, padding=1)) + x1
    x6 = act(F.conv2d(up(x5), conv6, padding=1)) + x0
    out = act(F.conv2d(act(F.conv2d(x6, conv7, padding=1)), conv8, padding=1))
    expected = F.conv2d(out, small.last.weight, small.last.bias, padding=1)
    torch.testing.assert_close(small(image), expected)


@pytest.mark.parametrize(
    ("variant", "plain"), [("asrgan", set[str]()), ("real-esrgan", {"first", "last"})]
)
def test_spectral_norm_is_where_the_source_puts_it(variant: str, plain: set[str]):
    layers = {
        name: module
        for name, module in build(variant).named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    }
    assert plain == {
        name for name, layer in layers.items() if not parametrize.is_parametrized(layer, "weight")
    }


@pytest.mark.parametrize("variant", ["asrgan", "unet with attention"])
def test_attention_after_a_stage_has_the_stages_channels(variant: str):
    layers = build(variant).attention_layers
    assert {place: layer.query.in_channels for place, layer in layers.items()} == {
        "stage1": 8,
        "stage2": 16,
        "stage3": 32,
        "stage4": 64,
    }


@pytest.mark.parametrize("network", [VGGDiscriminator, UNetDiscriminator])
def test_an_unknown_place_is_refused(network: Any):
    norm = {"norm": "none"} if network is VGGDiscriminator else {}
    with pytest.raises(
        UserError,
        match=r"`discriminator.attention` has the unknown place `trunk`; known: stage1, stage2",
    ):
        network(
            num_features=8,
            spectral_norm=False,
            **norm,
            **(NO_ATTENTION | {"attention": [{"after": "trunk"}]}),
        )


def test_a_wrong_argument_is_refused():
    with pytest.raises(UserError, match=r"`discriminator.norm` \(=layer\)"):
        VGGDiscriminator(num_features=8, norm="layer", spectral_norm=False, **NO_ATTENTION)
    with pytest.raises(UserError, match=r"`discriminator.num_features` \(=0\)"):
        UNetDiscriminator(num_features=0, spectral_norm=False, **NO_ATTENTION)
