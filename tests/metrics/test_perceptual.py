import socket
from collections.abc import Callable
from functools import cache as keep
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torchmetrics
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
from torchvision.models import vgg

from asrgan.downloads import WeightsUnavailableError
from asrgan.errors import UserError
from asrgan.imaging import quantize
from asrgan.metrics import DISTS, LPIPS, FeatureDistance
from asrgan.models import VGG19Features

Comparison = Callable[[Tensor, Tensor], Tensor]
SQUEEZENET_FILE = "squeezenet1_1-b8a52dc0.pth"
GENERATOR = torch.Generator().manual_seed(0)
SR = torch.rand(2, 3, 40, 48, generator=GENERATOR)
HR = torch.rand(2, 3, 40, 48, generator=GENERATOR)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torchvision looks for weights, without a network."""

    def refuse(url: str, *_: object, **__: object) -> None:
        assert socket.getdefaulttimeout() == 10, "a silent server must not block for ever"
        raise URLError(f"no network for {url}")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def backbone(cache: Path) -> torchvision.models.SqueezeNet:
    """A SqueezeNet of seeded weights whose file lies in the cache."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = torchvision.models.squeezenet1_1(weights=None)
    torch.save(network.state_dict(), cache / SQUEEZENET_FILE)
    return network.eval()


@pytest.fixture(scope="session")
def backbones() -> dict[str, nn.Sequential]:
    """Backbones of seeded weights, without the classifiers that hold most of them."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = vgg.make_layers(vgg.cfgs["D"])
        for layer in layers:
            if isinstance(layer, nn.Conv2d):  # else what is deep would fade away
                nn.init.kaiming_normal_(layer.weight)
        return {
            "alexnet": torchvision.models.alexnet(weights=None).features,
            "squeezenet1_1": torchvision.models.squeezenet1_1(weights=None).features,
            "vgg16": layers,
        }


@pytest.fixture
def features(
    backbones: dict[str, nn.Sequential], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, nn.Sequential]:
    """These backbones where torchmetrics expects torchvision's."""
    for file in ("alexnet-owt-7be5be79.pth", SQUEEZENET_FILE, "vgg16-397923af.pth"):
        torch.save({}, cache / file)
    of_lpips, of_dists = (f"torchmetrics.functional.image.{name}" for name in ("lpips", "dists"))
    monkeypatch.setattr(f"{of_lpips}._get_tv_model_features", lambda name, *_: backbones[name])
    vgg16 = SimpleNamespace(features=backbones["vgg16"])
    monkeypatch.setattr(f"{of_dists}.vgg16", lambda **_: vgg16)
    return backbones


@keep
def vgg19() -> VGG19Features:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return VGG19Features(weights="untrained")


COMPARISONS: dict[str, Callable[[], Comparison]] = {
    "alex": lambda: LPIPS(network="alex"),
    "vgg": lambda: LPIPS(network="vgg"),
    "squeeze": lambda: LPIPS(network="squeeze"),
    "dists": DISTS,
    "features": lambda: FeatureDistance(network=vgg19()),
}
each_comparison = pytest.mark.parametrize("name", COMPARISONS)


def reference_lpips(backbone: torchvision.models.SqueezeNet, one: Tensor, other: Tensor) -> Tensor:
    """Zhang et al. 2018, eq. 1, on seven maps of SqueezeNet."""
    heads_file = Path(torchmetrics.__path__[0]) / "functional/image/lpips_models/squeeze.pth"
    heads = torch.load(heads_file, map_location="cpu", weights_only=True)
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    maps = [(image - mean) / deviation for image in (one, other)]
    distance = torch.zeros(len(one))
    head = 0
    for number, layer in enumerate(backbone.features):
        maps = [layer(features) for features in maps]
        if number in (1, 4, 7, 9, 10, 11, 12):
            unit = [features / features.norm(dim=1, keepdim=True) for features in maps]
            weights = heads[f"lin{head}.model.1.weight"].reshape(1, -1, 1, 1)
            distance += (weights * (unit[0] - unit[1]) ** 2).sum(dim=1).mean(dim=(1, 2))
            head += 1
    return distance


def test_lpips_reads_the_cached_backbone_and_equals_the_paper_s_formula(
    backbone: torchvision.models.SqueezeNet,
):
    values = LPIPS(network="squeeze")(SR, HR)
    with torch.no_grad():
        expected = reference_lpips(backbone, quantize(SR), quantize(HR)).double()
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5)
    assert values[0] != values[1]


@pytest.mark.parametrize("network", ["alex", "vgg", "squeeze"])
@pytest.mark.usefixtures("features")
def test_lpips_equals_torchmetrics(network: str):
    expected = learned_perceptual_image_patch_similarity(
        quantize(SR), quantize(HR), net_type=network, normalize=True, reduction="none"
    )
    torch.testing.assert_close(LPIPS(network=network)(SR, HR), expected.double())


def test_feature_distance_is_lpips_with_weights_of_one():
    pictures = quantize(SR), quantize(HR)
    expected = torch.zeros(len(SR))
    for layer in ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_1"):
        x, y = (vgg19()(picture, [layer])[layer] for picture in pictures)
        cosine = F.cosine_similarity(x, y, dim=1)  # |a - b|^2 = 2 - 2 cos of unit vectors
        expected += (2 - 2 * cosine).mean(dim=(1, 2))
    distance = FeatureDistance(network=vgg19())(SR, HR)
    torch.testing.assert_close(distance, expected.double(), rtol=1e-4, atol=1e-6)


def reference_dists(features: nn.Sequential, one: Tensor, other: Tensor) -> Tensor:
    """Ding et al. 2020, eq. 4-6, on VGG-16 whose pooling is a Hann window over squares."""
    weights_file = Path(torchmetrics.__path__[0]) / "functional/image/dists_models/weights.pt"
    weights = torch.load(weights_file, map_location="cpu", weights_only=True)
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    window = torch.tensor([0.25, 0.5, 0.25]).outer(torch.tensor([0.25, 0.5, 0.25]))
    maps = [(image - mean) / deviation for image in (one, other)]
    kept = [(one, other)]
    for number, layer in enumerate(features):
        if isinstance(layer, nn.MaxPool2d) and number < 30:
            squares = [m.square().flatten(0, 1)[:, None] for m in maps]
            means = [F.conv2d(s, window[None, None], stride=2, padding=1) for s in squares]
            maps = [m.unflatten(0, maps[0].shape[:2])[:, :, 0].sqrt() for m in means]
        else:
            maps = [layer(m) for m in maps]
        if number in (3, 8, 15, 22, 29):
            kept.append((maps[0], maps[1]))
    texture, structure = [], []
    for x, y in kept:
        x, y = x.double().flatten(2), y.double().flatten(2)  # noqa: PLW2901
        x_mean, y_mean = x.mean(2), y.mean(2)
        covariance = ((x - x_mean[..., None]) * (y - y_mean[..., None])).mean(2)
        variances = x.var(2, correction=0) + y.var(2, correction=0)
        texture.append((2 * x_mean * y_mean + 1e-6) / (x_mean**2 + y_mean**2 + 1e-6))
        structure.append((2 * covariance + 1e-6) / (variances + 1e-6))
    alpha, beta = (weights[name].double().flatten() for name in ("alpha", "beta"))
    similarity = alpha * torch.cat(texture, dim=1) + beta * torch.cat(structure, dim=1)
    return 1 - similarity.sum(dim=1) / (alpha.sum() + beta.sum())


def test_dists_equals_the_paper_s_formula(features: dict[str, nn.Sequential]):
    with torch.no_grad():
        expected = reference_dists(features["vgg16"], quantize(SR), quantize(HR))
    torch.testing.assert_close(DISTS()(SR, HR), expected, rtol=1e-3, atol=1e-6)


@each_comparison
@pytest.mark.usefixtures("features")
def test_tiles_give_what_the_whole_picture_gives(name: str, monkeypatch: pytest.MonkeyPatch):
    comparison = COMPARISONS[name]()
    generator = torch.Generator().manual_seed(0)
    hr_image = torch.rand(1, 3, 261, 40, generator=generator)
    sr_image = hr_image + 0.1 * torch.randn(1, 3, 261, 40, generator=generator)
    whole = comparison(sr_image, hr_image), comparison(sr_image.mT, hr_image.mT)
    monkeypatch.setattr("asrgan.metrics.perceptual._TILE_PX", 80)
    in_tiles = comparison(sr_image, hr_image), comparison(sr_image.mT, hr_image.mT)
    torch.testing.assert_close(in_tiles, whole, rtol=1e-6, atol=1e-9)


@each_comparison
@pytest.mark.usefixtures("features")
def test_a_comparison_is_per_image_and_0_for_equal_pictures(name: str):
    comparison = COMPARISONS[name]()
    torch.testing.assert_close(comparison(SR[1:], HR[1:]), comparison(SR, HR)[1:])
    assert comparison(HR, HR).abs().max() < 1e-9


@each_comparison
@pytest.mark.usefixtures("features")
def test_a_comparison_is_the_same_while_training_and_has_nothing_to_train(name: str):
    comparison = COMPARISONS[name]()
    assert isinstance(comparison, nn.Module)
    before = comparison(SR, HR)
    comparison.train()
    assert comparison(SR, HR).equal(before)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert comparison(SR, HR).equal(before)
    assert not comparison(SR.clone().requires_grad_(), HR).requires_grad


@each_comparison
@pytest.mark.usefixtures("features")
def test_opening_a_network_leaves_the_random_numbers_alone(name: str):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    COMPARISONS[name]()
    assert torch.random.get_rng_state().equal(before)


@each_comparison
@pytest.mark.usefixtures("features")
def test_pictures_too_small_for_the_networks_are_refused(name: str):
    comparison = COMPARISONS[name]()
    assert comparison(SR[..., :32, :32], HR[..., :32, :32]).isfinite().all()
    with pytest.raises(UserError, match=r"at least 32 px each way, got 40x31"):
        comparison(SR[..., :31, :40], HR[..., :31, :40])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("alex", "alexnet-owt-7be5be79.pth"),
        ("vgg", "vgg16-397923af.pth"),
        ("squeeze", SQUEEZENET_FILE),
        ("dists", "vgg16-397923af.pth"),
    ],
)
def test_missing_weights_name_the_file_the_folder_and_the_address(
    cache: Path, name: str, file: str
):
    with pytest.raises(WeightsUnavailableError) as caught:
        COMPARISONS[name]()
    message = str(caught.value)
    purpose = "DISTS" if name == "dists" else "LPIPS"
    assert f"{purpose} needs {cache / file}, which is not there" in message
    assert f"https://download.pytorch.org/models/{file}" in message
    assert "no network" in message
    assert "\n" not in message
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_weights_name_the_file_and_the_way_out(cache: Path, content: bytes):
    (cache / SQUEEZENET_FILE).write_bytes(content)
    with pytest.raises(WeightsUnavailableError, match=rf"{SQUEEZENET_FILE} \(.*delete the file"):
        LPIPS(network="squeeze")


def test_weights_of_another_network_are_refused(cache: Path):
    torch.save({"features.0.weight": torch.zeros(1)}, cache / SQUEEZENET_FILE)
    with pytest.raises(WeightsUnavailableError, match="LPIPS cannot read") as caught:
        LPIPS(network="squeeze")
    assert "\n" not in str(caught.value)


def test_an_unknown_network_is_a_user_s_mistake():
    with pytest.raises(UserError, match=r"`network` \(='resnet'\).* one of alex, vgg, squeeze"):
        LPIPS(network="resnet")


class Malicious:
    """Would write a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_weights_that_would_run_code_are_refused(cache: Path, tmp_path: Path):
    torch.save({"features.0.weight": Malicious(tmp_path / "ran")}, cache / SQUEEZENET_FILE)
    with pytest.raises(WeightsUnavailableError, match="LPIPS cannot read"):
        LPIPS(network="squeeze")
    assert not (tmp_path / "ran").exists()
