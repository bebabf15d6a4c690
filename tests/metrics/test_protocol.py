from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from skimage import data
from torch import nn

from asrgan.errors import UserError
from asrgan.imaging import bicubic_downscale, quantize, to_tensor
from asrgan.metrics import (
    LPIPS,
    METRICS,
    Protocol,
    blockiness,
    colour_patches,
    colour_shift,
    consistency,
    ms_ssim_y,
    niqe,
    open_pristine_model,
    psnr_rgb,
    psnr_y,
    ringing,
    ssim_rgb,
    ssim_y,
)

GENERATOR = torch.Generator().manual_seed(0)
HR = torch.stack([to_tensor(data.astronaut()[:240, 120:372]), to_tensor(data.coffee()[:240, :252])])
LR = bicubic_downscale(HR, scale=4)
SR = (HR + 0.1 * torch.randn(HR.shape, generator=GENERATOR)).clamp(0, 1)
WITH_HR = ("psnr_y_db", "ssim_y", "psnr_rgb_db", "ssim_rgb", "ms_ssim_y", "lpips_squeeze")
WITHOUT_HR = (
    "consistency_db",
    "colour_shift",
    "niqe",
    "blockiness",
    "ringing",
    "colour_patches",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision looks for weights: a SqueezeNet of seeded ones, and no network."""

    def refuse(url: str, *_: object, **__: object) -> None:
        raise OSError(f"no network for {url}")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(weights, folder / "squeezenet1_1-b8a52dc0.pth")
    return folder


@pytest.fixture
def pristine_file(tmp_path: Path) -> Path:
    """NIQE's model, of no photographs."""
    path = tmp_path / "model.npz"
    np.savez(path, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    return path


@pytest.mark.usefixtures("cache")
def test_a_row_holds_every_metric_of_its_image_in_the_order_of_the_tables(pristine_file: Path):
    protocol = Protocol(scale=4, metrics=[*WITHOUT_HR, *WITH_HR], niqe=pristine_file)
    rows = protocol(SR, hr_image=HR, lr_image=LR)
    with_border = (psnr_y, ssim_y, psnr_rgb, ssim_rgb, ms_ssim_y)
    columns = [metric(SR, HR, border=4) for metric in with_border]
    columns.append(LPIPS(network="squeeze")(SR, HR))
    columns += [metric(SR, LR, scale=4) for metric in (consistency, colour_shift)]
    columns.append(niqe(SR, model=open_pristine_model(pristine_file)))
    columns.append(blockiness(SR, scale=4))
    columns += [metric(SR, LR, scale=4) for metric in (ringing, colour_patches)]
    assert [tuple(row) for row in rows] == [(*WITH_HR, *WITHOUT_HR)] * 2
    assert protocol.metrics == (*WITH_HR, *WITHOUT_HR)
    for values, expected in zip(rows, torch.stack(columns, dim=1), strict=True):
        assert list(values.values()) == pytest.approx(expected.tolist(), rel=1e-6)


@pytest.mark.usefixtures("cache")
def test_mixed_precision_changes_no_value(pristine_file: Path):
    names = [*WITHOUT_HR, *WITH_HR]
    protocol = Protocol(scale=4, metrics=names, niqe=pristine_file)
    expected = protocol(SR, hr_image=HR, lr_image=LR)
    with torch.autocast("cpu", torch.bfloat16):
        assert protocol(SR, hr_image=HR, lr_image=LR) == expected


def test_only_what_is_asked_for_is_computed():
    protocol = Protocol(scale=4, metrics=["ssim_y"])
    assert protocol(SR, hr_image=HR, lr_image=LR) == [
        {"ssim_y": value} for value in ssim_y(SR, HR, border=4).tolist()
    ]
    assert (protocol.metrics, protocol.missing) == (("ssim_y",), ())


@pytest.mark.usefixtures("cache")
def test_without_ground_truth_only_the_metrics_that_need_none_have_a_value(pristine_file: Path):
    protocol = Protocol(scale=4, metrics=[*WITH_HR, *WITHOUT_HR], niqe=pristine_file)
    for row in protocol(SR, hr_image=None, lr_image=LR):
        assert {name for name, value in row.items() if value is not None} == set(WITHOUT_HR)
    assert all(METRICS[name].needs_hr for name in WITH_HR)
    assert not any(METRICS[name].needs_hr for name in WITHOUT_HR)


@pytest.mark.usefixtures("cache")
def test_networks_see_8_bits_and_the_border_too():
    protocol = Protocol(scale=4, metrics=WITH_HR)
    same_bits = quantize(SR) + 0.3 / 255
    changed_border = SR.clone()
    changed_border[..., :4, :] = 0
    (first, _), (same, _), (changed, _) = (
        protocol(image, hr_image=HR, lr_image=LR) for image in (SR, same_bits, changed_border)
    )
    assert same["lpips_squeeze"] == first["lpips_squeeze"]
    assert changed["lpips_squeeze"] != first["lpips_squeeze"]
    assert changed["psnr_y_db"] == first["psnr_y_db"]


def test_a_metric_without_weights_is_left_out_with_one_line_that_says_what_is_missing(
    cache: Path, caplog: pytest.LogCaptureFixture
):
    protocol = Protocol(scale=4, metrics=["psnr_y_db", "lpips_alex"])
    assert (protocol.metrics, protocol.missing) == (("psnr_y_db",), ("lpips_alex",))
    (message,) = caplog.messages
    assert f"lpips_alex stays empty: LPIPS needs {cache}/alexnet-owt-7be5be79.pth" in message
    assert "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth" in message
    assert "- lpips_alex: its weights are missing" in protocol.description


@pytest.mark.usefixtures("cache")
def test_pictures_too_small_for_a_metric_have_no_value_there(pristine_file: Path):
    names = ["ssim_y", "ms_ssim_y", "lpips_squeeze", "niqe", "blockiness", "ringing"]
    protocol = Protocol(scale=4, metrics=names, niqe=pristine_file)
    assert protocol.minimum_size_px == 11 + 2 * 4
    (row,) = protocol(SR[:1, :, :28], hr_image=HR[:1, :, :28], lr_image=LR[:1, :, :7])
    assert {name for name, value in row.items() if value is not None} == {"ssim_y", "ringing"}


def test_pictures_too_small_for_ssim_are_refused():
    protocol = Protocol(scale=4, metrics=["ssim_y"])
    with pytest.raises(UserError, match="at least 19 px each way"):
        protocol(SR[:, :, :16], hr_image=HR[:, :, :16], lr_image=LR[:, :, :4])


@pytest.mark.usefixtures("cache")
def test_networks_follow_the_protocol_to_a_device_and_stay_out_of_a_module_that_holds_it():
    trainer = nn.Module()
    trainer.protocol = Protocol(scale=4, metrics=["lpips_squeeze"])
    networks = trainer.protocol.to(torch.device("meta")).networks
    assert {parameter.device.type for parameter in networks.parameters()} == {"meta"}
    assert not trainer.state_dict()


def test_the_description_tells_the_scale_and_each_metric():
    description = Protocol(scale=3, metrics=["psnr_y_db", "colour_shift"]).description
    assert "3 px shaved" in description
    assert "- psnr_y_db: PSNR of Y, dB; higher is better\n- colour_shift: mean" in description
    assert "lpips" not in description


def test_a_gradient_of_the_picture_is_no_obstacle():
    protocol = Protocol(scale=4, metrics=["psnr_y_db", *WITHOUT_HR[:2], *WITHOUT_HR[3:]])
    rows = protocol(SR.clone().requires_grad_(), hr_image=HR, lr_image=LR)
    assert rows == protocol(SR, hr_image=HR, lr_image=LR)


def test_a_wrong_file_of_niqe_is_a_user_s_mistake(tmp_path: Path):
    with pytest.raises(UserError, match=r"`niqe` \(=.*nothing.npz\) is no file"):
        Protocol(scale=4, metrics=["niqe"], niqe=tmp_path / "nothing.npz")


@pytest.mark.parametrize("metrics", [["psnr_y_db", "beauty"], [], "psnr_y_db"])
def test_metrics_that_do_not_exist_are_refused_with_those_that_do(metrics: list[str]):
    with pytest.raises(UserError, match=r"`metrics` \(=.*must be a list of names out of psnr_y_db"):
        Protocol(scale=4, metrics=metrics)
