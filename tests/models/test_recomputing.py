from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from asrgan.models import SRGANGenerator, UNetDiscriminator, VGG19Features, VGGDiscriminator


def generator(*, norm: str = "batch", spectral_norm: bool = False) -> SRGANGenerator:
    return SRGANGenerator(
        scale=4,
        num_features=16,
        num_blocks=3,
        norm=norm,  # pyright: ignore[reportArgumentType]
        trunk_end="norm",
        output="linear",
        spectral_norm=spectral_norm,
        spectral_norm_output=False,
        attention=[{"after": "block2", "pool_size": 2}],
        pool_size=2,
        attention_resize="transposed",
    )


def vgg_discriminator(*, norm: str = "batch", spectral_norm: bool = False) -> VGGDiscriminator:
    return VGGDiscriminator(
        num_features=8,
        norm=norm,  # pyright: ignore[reportArgumentType]
        spectral_norm=spectral_norm,
        attention=[{"after": "stage2"}],
        pool_size=2,
        attention_resize="nearest",
    )


def unet_discriminator() -> UNetDiscriminator:
    return UNetDiscriminator(
        num_features=8, spectral_norm=True, attention=[], pool_size=2, attention_resize="nearest"
    )


NETWORKS: dict[str, Callable[[], Any]] = {
    "generator": generator,
    "generator with spectral norm": lambda: generator(norm="none", spectral_norm=True),
    "VGG discriminator": vgg_discriminator,
    "VGG discriminator with spectral norm": lambda: vgg_discriminator(
        norm="none", spectral_norm=True
    ),
    "U-Net discriminator": unet_discriminator,
}


def step(network: Any, *, recomputes: bool) -> tuple[int, dict[str, Tensor]]:
    """Bytes kept for the backward pass; all gradients and buffers after it.

    Two forward passes come before it, as in a discriminator's step: statistics and singular
    vectors have moved on when the first one is computed again, and again, since the generator's
    step goes back through it as well.
    """
    network.recomputes = recomputes
    torch.manual_seed(1)
    one, other = torch.rand(2, 2, 3, 32, 36)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    one.requires_grad_()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        first = network(one).square().mean()
        loss = first - network(other).abs().mean()
    (slope,) = torch.autograd.grad(first, one, retain_graph=True)
    loss.backward()
    values = {name: p.grad for name, p in network.named_parameters()}
    return sum(kept.values()), values | dict(network.named_buffers()) | {
        "input": one.grad,
        "slope": slope,
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputed_gradients_and_statistics_are_those_of_a_plain_step(name: str):
    results: list[tuple[int, dict[str, Tensor]]] = []
    for recomputes in (False, True):
        torch.manual_seed(0)
        network = NETWORKS[name]()
        for parameter in network.parameters():
            if parameter.shape == (1,):
                nn.init.ones_(parameter)  # gamma: attention takes part
        results.append(step(network, recomputes=recomputes))
    (plain_bytes, plain), (recomputed_bytes, recomputed) = results
    assert plain.keys() == recomputed.keys()
    assert [key for key in plain if not torch.equal(plain[key], recomputed[key])] == []
    assert recomputed_bytes < 0.75 * plain_bytes


def test_a_recomputing_feature_network_gives_the_picture_the_same_gradient():
    torch.manual_seed(0)
    network = VGG19Features(weights="untrained")
    picture = torch.rand(1, 3, 32, 32)
    gradients: list[Tensor] = []
    for network.recomputes in (False, True):
        image = picture.clone().requires_grad_()
        maps = network(image, ["relu1_1", "conv2_1", "relu3_4"])
        assert list(maps) == ["relu1_1", "conv2_1", "relu3_4"]
        torch.stack([features.square().mean() for features in maps.values()]).sum().backward()
        assert image.grad is not None
        gradients.append(image.grad)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


def test_nothing_is_recomputed_where_there_is_no_backward_pass():
    network = generator().eval()
    network.recomputes = True
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        recomputing = network(image)
        network.recomputes = False
        assert torch.equal(network(image), recomputing)
