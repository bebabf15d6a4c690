import socket
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchmetrics
import torchvision
from torch import Tensor

from asrgan.downloads import WeightsUnavailableError
from asrgan.errors import UserError
from asrgan.metrics import LPIPS

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
        expected = reference_lpips(backbone, SR, HR)
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5)
    assert values[0] != values[1]


@pytest.mark.usefixtures("backbone")
def test_lpips_is_per_image_and_0_for_equal_pictures():
    lpips = LPIPS(network="squeeze")
    torch.testing.assert_close(lpips(SR[1:], HR[1:]), lpips(SR, HR)[1:])
    assert lpips(HR, HR).tolist() == [0.0, 0.0]


@pytest.mark.usefixtures("backbone")
def test_lpips_stays_in_eval_mode_and_holds_nothing_to_train():
    lpips = LPIPS(network="squeeze")
    before = lpips(SR, HR)
    lpips.train()
    assert lpips(SR, HR).equal(before)
    assert not any(parameter.requires_grad for parameter in lpips.parameters())


@pytest.mark.usefixtures("backbone")
def test_autocast_does_not_change_lpips():
    lpips = LPIPS(network="squeeze")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = lpips(SR, HR)
    assert result.equal(lpips(SR, HR))


@pytest.mark.usefixtures("backbone")
def test_pictures_too_small_for_lpips_are_refused():
    lpips = LPIPS(network="squeeze")
    assert lpips(SR[..., :32, :32], HR[..., :32, :32]).isfinite().all()
    with pytest.raises(UserError, match=r"at least 32 px each way, got 40x31"):
        lpips(SR[..., :31, :40], HR[..., :31, :40])


@pytest.mark.parametrize(
    ("network", "file"),
    [
        ("alex", "alexnet-owt-7be5be79.pth"),
        ("vgg", "vgg16-397923af.pth"),
        ("squeeze", SQUEEZENET_FILE),
    ],
)
def test_missing_weights_name_the_file_the_folder_and_the_address(
    cache: Path, network: str, file: str
):
    with pytest.raises(WeightsUnavailableError) as caught:
        LPIPS(network=network)
    message = str(caught.value)
    assert f"LPIPS needs {cache / file}, which is not there" in message
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
