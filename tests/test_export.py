import errno
import hashlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

import small_networks
from asrgan import export
from asrgan.configuration import compose
from asrgan.errors import UserError
from asrgan.models import SRGANGenerator, load_generator, read_metadata, save_generator

SMALL = small_networks.SMALL | {"num_blocks": 1, "spectral_norm": True}


def run(folder: Path, *overrides: str) -> None:
    config = compose("export", list(overrides))
    export.run(OmegaConf.create(config), folder)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    generator = SRGANGenerator(**SMALL)
    generator(torch.rand(2, 3, 9, 9))  # moves batch norm's statistics
    save_generator(tmp_path / "trained.safetensors", generator.eval(), recipe={"seed": 7})
    return tmp_path / "trained.safetensors"


def test_plain_weights_are_a_generator_without_norms(tmp_path: Path, weights: Path):
    run(tmp_path, f"weights={weights}", "format=safetensors", "output=new/plain.safetensors")
    plain, trained = load_generator(tmp_path / "new" / "plain.safetensors"), load_generator(weights)
    assert plain.architecture["norm"] == "none"
    names = load_file(tmp_path / "new" / "plain.safetensors").keys()
    assert not [name for name in names if "norm" in name or "running" in name]
    image = torch.rand(1, 3, 9, 14)
    with torch.no_grad():
        torch.testing.assert_close(plain(image), trained(image))


def test_a_file_remembers_the_weights_it_was_made_from(tmp_path: Path, weights: Path):
    run(tmp_path, f"weights={weights}", "format=safetensors", "output=plain.safetensors")
    recipe = read_metadata(tmp_path / "plain.safetensors")["recipe"]
    assert recipe["weights"] == {
        "file": "trained.safetensors",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "recipe": {"seed": 7},
    }
    assert recipe["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_half_precision_halves_the_file(tmp_path: Path, weights: Path):
    arguments = [f"weights={weights}", "format=safetensors"]
    run(tmp_path, *arguments, "output=whole.safetensors")
    run(tmp_path, *arguments, "output=half.safetensors", "precision=float16")
    kernels = load_file(tmp_path / "half.safetensors")
    assert kernels["tail.weight"].dtype is torch.float16
    image = torch.rand(1, 3, 9, 14)
    whole, half = (load_generator(tmp_path / f"{name}.safetensors") for name in ("whole", "half"))
    with torch.no_grad():
        torch.testing.assert_close(half(image), whole(image), rtol=2e-3, atol=2e-3)


def test_a_published_generator_is_exported(
    tmp_path: Path, weights: Path, publish: Callable[[str, Path], Path]
):
    publish("toy", weights)
    run(tmp_path, "weights=toy", "format=safetensors", "output=plain.safetensors")
    recipe = read_metadata(tmp_path / "plain.safetensors")["recipe"]
    assert recipe["weights"]["file"] == "toy.safetensors"
    assert recipe["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_an_onnx_file_is_compared_before_it_is_written(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        run(tmp_path, f"weights={weights}", "format=onnx", "output='süß.onnx'")
    compared, written = [
        record.getMessage() for record in caplog.records if "asrgan" in record.name
    ]
    assert compared.startswith("Largest difference to the weights' own pictures, in [0, 1]: ")
    assert written.startswith(str(tmp_path / "süß.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "süß.onnx")
    image = torch.rand(1, 3, 5, 8)
    (sr_image,) = session.run(None, {"lr_image": image.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(sr_image), load_generator(weights)(image))


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path, weights: Path):
    arguments = [f"weights={weights}", "format=safetensors", "output=plain.safetensors"]
    (tmp_path / "plain.safetensors").write_text("precious")
    with pytest.raises(UserError, match=r"plain\.safetensors\) exists; .* overwrite=true"):
        run(tmp_path, *arguments)
    assert (tmp_path / "plain.safetensors").read_text() == "precious"
    run(tmp_path, *arguments, "overwrite=true")
    assert load_generator(tmp_path / "plain.safetensors").scale == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["format=torchscript", "output=a.pt"], r"`format` \(=torchscript\) must be one of"),
        (["format=onnx", "output=a.pt"], r"a\.pt\) must end in \.onnx, .* try a\.onnx"),
        (["format=onnx", "output=a"], r"must end in \.onnx"),
        (["format=onnx", "output=a.onnx", "precision=int8"], r"`precision` \(=int8\) must be one"),
        (["format=onnx", "output=folder.onnx"], r"folder\.onnx\) is a folder"),
        (
            ["format=safetensors", "output=trained.safetensors", "overwrite=true"],
            "is the weights file itself",
        ),
        (["format=onnx", "output=a.onnx", "weights=missing.pth"], "`missing.pth` does not exist"),
    ],
)
def test_a_mistake_is_found_before_anything_is_written(
    tmp_path: Path, weights: Path, overrides: list[str], message: str
):
    (tmp_path / "folder.onnx").mkdir()
    before = sorted(tmp_path.rglob("*"))
    given = any(override.startswith("weights=") for override in overrides)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, *([] if given else [f"weights={weights}"]), *overrides)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_discriminator_is_no_generator(tmp_path: Path):
    torch.save({"stages.0.weight": torch.zeros(3)}, tmp_path / "d.pth")
    with pytest.raises(UserError, match="holds no generator that asrgan knows"):
        run(tmp_path, f"weights={tmp_path}/d.pth", "format=onnx", "output=a.onnx")


def test_a_full_disk_leaves_the_earlier_file(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
):
    def fill(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "plain.safetensors").write_text("earlier")
    monkeypatch.setattr(Path, "write_bytes", fill)
    with pytest.raises(UserError, match=r"could not be written \(No space left on device\)"):
        run(
            tmp_path,
            f"weights={weights}",
            "format=safetensors",
            "output=plain.safetensors",
            "overwrite=true",
        )
    assert (tmp_path / "plain.safetensors").read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 2


def test_onnx_without_its_extra_says_what_to_install(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delitem(sys.modules, "asrgan.models.onnx", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"package onnxruntime; try: pip install 'asrgan\[export\]"):
        run(tmp_path, f"weights={weights}", "format=onnx", "output=a.onnx")


def test_the_published_srgan_is_exported(tmp_path: Path, shared_folder: Path):
    published = shared_folder / "weights" / "srgan_leftthomas" / "netG_epoch_4_100.pth"
    run(tmp_path, f"weights={published}", "format=onnx", "output=srgan.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "srgan.onnx")
    image = torch.rand(1, 3, 17, 22)
    (sr_image,) = session.run(None, {"lr_image": image.numpy()})
    with torch.no_grad():
        expected = load_generator(published)(image)
    torch.testing.assert_close(torch.from_numpy(sr_image), expected, atol=1e-5, rtol=0)
