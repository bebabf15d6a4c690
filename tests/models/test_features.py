import socket
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from asrgan.errors import UserError
from asrgan.models.features import DistilledVGG19Features, VGG19Features

# Where torchvision's `features` has each layer, from the printed module.
TORCHVISION = {"conv1_1": 0, "relu1_1": 1, "relu2_2": 8, "conv3_4": 16, "relu5_1": 29}
TORCHVISION |= {"conv5_4": 34, "relu5_4": 35}
# Channels of the distilled network, from its paper's authors.
CHANNELS = {"11": 16, "12": 16, "21": 32, "22": 32, "31": 64, "32": 64, "33": 64, "34": 64}
CHANNELS |= {"41": 128, "42": 128, "43": 128, "44": 128, "51": 128}


@pytest.fixture(scope="module")
def torchvision_features() -> nn.Sequential:
    """The convolutional part of torchvision's VGG-19 with seeded weights."""
    torch.manual_seed(0)
    return make_layers(cfgs["E"], batch_norm=False).eval()


@pytest.fixture(scope="module")
def vgg19_file(
    torchvision_features: nn.Sequential, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("vgg19") / "vgg19.pth"
    state = {f"features.{name}": value for name, value in torchvision_features.state_dict().items()}
    torch.save(state | {"classifier.0.bias": torch.zeros(4)}, path)
    return path


@pytest.fixture(scope="module")
def distilled_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = {"conv0.weight": 100 * torch.randn(3, 3, 1, 1), "conv0.bias": torch.randn(3)}
    num_in = 3
    for name, num_out in CHANNELS.items():
        weight = torch.randn(num_out, num_in, 3, 3) / (3 * num_in**0.5)
        state |= {f"conv{name}.weight": weight, f"conv{name}.bias": torch.randn(num_out)}
        num_in = num_out
    return state | {"conv11_aux.weight": torch.zeros(64, 16, 1, 1)}


@pytest.fixture(scope="module")
def distilled_file(
    distilled_state: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("distilled") / "small.pth"
    torch.save({"epoch": 20, "model": distilled_state}, path)
    return path


@pytest.fixture(params=["vgg19", "distilled"])
def network(
    request: pytest.FixtureRequest, vgg19_file: Path, distilled_file: Path
) -> VGG19Features | DistilledVGG19Features:
    if request.param == "vgg19":
        return VGG19Features(weights=vgg19_file)
    return DistilledVGG19Features(weights=distilled_file)


def test_maps_of_vgg19_equal_torchvisions(vgg19_file: Path, torchvision_features: nn.Sequential):
    image = torch.rand(2, 3, 48, 35)
    maps = VGG19Features(weights=vgg19_file)(image, list(TORCHVISION))
    assert maps.keys() == TORCHVISION.keys()

    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (image - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    names = {position: name for name, position in TORCHVISION.items()}
    with torch.no_grad():
        for position, layer in enumerate(torchvision_features):
            expected = layer(expected.clone())  # its ReLU works in place
            if position in names:
                torch.testing.assert_close(maps[names[position]], expected)


def test_maps_of_the_distilled_network_follow_its_description(
    distilled_file: Path, distilled_state: dict[str, Tensor]
):
    image = torch.rand(1, 3, 40, 33)
    maps = DistilledVGG19Features(weights=distilled_file)(
        image, ["relu1_1", "conv2_2", "relu3_4", "conv5_1"]
    )
    state = distilled_state
    x = F.conv2d(image, state["conv0.weight"], state["conv0.bias"])
    for name in CHANNELS:
        before = F.conv2d(
            nn.ReflectionPad2d(1)(x), state[f"conv{name}.weight"], state[f"conv{name}.bias"]
        )
        x = before.clamp(min=0)
        key = f"{name[0]}_{name[1]}"
        for layer, expected in ((f"conv{key}", before), (f"relu{key}", x)):
            if layer in maps:
                torch.testing.assert_close(maps.pop(layer), expected)
        if name in ("12", "22", "34", "44"):
            x = F.max_pool2d(x, 2)
    assert maps == {}


def test_the_published_distilled_network_takes_rgb_between_zero_and_one(shared_folder: Path):
    weights = shared_folder / "weights" / "vgg19_small16x" / "20191109-211322_E20.pth"
    network = DistilledVGG19Features(weights=weights)
    image = torch.rand(1, 3, 4, 4)
    caffe_mean_bgr = torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
    expected = 255 * image.flip(1) - caffe_mean_bgr
    # Two grey levels: the published map was trained a little, too.
    torch.testing.assert_close(network.input(image), expected, rtol=0, atol=2)
    assert network.layers[-1] == "relu5_1"
    assert network(torch.rand(1, 3, 64, 64), ["relu5_1"])["relu5_1"].shape == (1, 128, 4, 4)


def test_the_map_before_an_activation_is_not_damaged_by_it(
    network: VGG19Features | DistilledVGG19Features,
):
    maps = network(torch.rand(1, 3, 32, 32), ["conv3_1", "relu3_1", "conv3_2"])
    assert maps["conv3_1"].min() < 0
    assert torch.equal(maps["relu3_1"], maps["conv3_1"].clamp(min=0))


def test_nothing_behind_the_deepest_layer_is_computed(
    network: VGG19Features | DistilledVGG19Features,
):
    computed: list[str] = []
    for name, convolution in network.convolutions.items():
        convolution.register_forward_hook(lambda *_, name=name: computed.append(name))
    network(torch.rand(1, 3, 16, 16), ["conv1_1", "relu2_1"])
    assert computed == ["conv1_1", "conv1_2", "conv2_1"]


def test_layers_are_listed_from_the_input_on(network: VGG19Features | DistilledVGG19Features):
    assert network.layers[:4] == ("conv1_1", "relu1_1", "conv1_2", "relu1_2")
    maps = network(torch.rand(1, 3, 32, 32), network.layers)
    assert tuple(maps) == network.layers


def test_networks_are_frozen_but_pass_gradients_to_the_picture(
    network: VGG19Features | DistilledVGG19Features,
):
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not network.training
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    network(image, ["relu3_1"])["relu3_1"].sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_an_unknown_layer_is_refused(network: VGG19Features | DistilledVGG19Features):
    with pytest.raises(UserError, match=r"layer `conv6_1` is unknown; known: conv1_1, relu1_1"):
        network(torch.rand(1, 3, 32, 32), ["relu1_1", "conv6_1"])


@pytest.mark.parametrize(
    ("network", "side"), [("vgg19", 15), ("distilled", 31)], indirect=["network"]
)
def test_a_picture_too_small_for_the_layer_is_refused(
    network: VGG19Features | DistilledVGG19Features, side: int
):
    with pytest.raises(UserError, match=r"too small for the feature layer `conv5_1`"):
        network(torch.rand(1, 3, 64, side), ["conv5_1"])
    network(torch.rand(1, 3, 64, side + 1), ["conv5_1"])


def test_a_file_of_another_network_is_refused(tmp_path: Path, distilled_file: Path):
    with pytest.raises(UserError, match=r"small\.pth` has no `features\.0\.weight`"):
        VGG19Features(weights=distilled_file)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth` has no `conv0\.weight`"):
        DistilledVGG19Features(weights=tmp_path / "other.pth")


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.pth` does not exist"):
        DistilledVGG19Features(weights=tmp_path / "none.pth")


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torchvision."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def refuse(error: Exception) -> Callable[..., None]:
    def download(*_: object, **__: object) -> None:
        assert socket.getdefaulttimeout() is not None  # a silent server must not hold us for ever
        raise error

    return download


def test_without_a_path_torchvisions_cache_is_used(hub_folder: Path, vgg19_file: Path):
    hub_folder.mkdir(parents=True)
    (hub_folder / "vgg19-dcbb9e9d.pth").symlink_to(vgg19_file)
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(
        VGG19Features(weights=None)(image, ["conv5_4"]),
        VGG19Features(weights=vgg19_file)(image, ["conv5_4"]),
    )


@pytest.mark.parametrize(
    "error",
    [urllib.error.URLError("no route"), TimeoutError("no route"), RuntimeError("no route: hash")],
)
def test_a_failed_download_names_the_file_the_place_and_the_address(
    hub_folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse(error))
    with pytest.raises(UserError, match="no route") as caught:
        VGG19Features(weights=None)
    assert str(hub_folder / "vgg19-dcbb9e9d.pth") in str(caught.value)
    assert "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth" in str(caught.value)
    assert socket.getdefaulttimeout() is None
    assert list(hub_folder.iterdir()) == []
