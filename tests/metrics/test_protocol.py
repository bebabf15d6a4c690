from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from asrgan.imaging import quantize
from asrgan.metrics import LPIPS, METRICS, Protocol, psnr_rgb, psnr_y, ssim_rgb, ssim_y

GENERATOR = torch.Generator().manual_seed(0)
HR = torch.rand(2, 3, 40, 48, generator=GENERATOR)
SR = (HR + 0.1 * torch.randn(2, 3, 40, 48, generator=GENERATOR)).clamp(0, 1)


@pytest.fixture
def lpips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LPIPS:
    """LPIPS on a backbone of seeded weights: its values mean nothing but do not change."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(weights, folder / "squeezenet1_1-b8a52dc0.pth")
    return LPIPS(network="squeeze")


def test_a_row_holds_every_metric_of_its_image_shaved_by_the_scale(lpips: LPIPS):
    rows = Protocol(scale=3, lpips=lpips)(SR, HR)
    columns = [metric(SR, HR, border=3) for metric in (psnr_y, ssim_y, psnr_rgb, ssim_rgb)]
    columns.append(lpips(quantize(SR), quantize(HR)))
    assert [tuple(row) for row in rows] == [METRICS, METRICS]
    values = [list(row.values()) for row in rows]
    assert values == torch.stack(columns, dim=1).tolist()


def test_lpips_sees_8_bits_and_the_border_too(lpips: LPIPS):
    protocol = Protocol(scale=4, lpips=lpips)
    same_bits = quantize(SR) + 0.3 / 255
    changed_border = SR.clone()
    changed_border[..., :4, :] = 0
    (first, _), (same, _), (changed, _) = (
        protocol(image, HR) for image in (SR, same_bits, changed_border)
    )
    assert same["lpips"] == first["lpips"]
    assert changed["lpips"] != first["lpips"]
    assert changed["psnr_y_db"] == first["psnr_y_db"]


def test_without_lpips_its_column_is_empty():
    protocol = Protocol(scale=4, lpips=None)
    rows = protocol(SR, HR)
    assert [tuple(row) for row in rows] == [METRICS, METRICS]
    assert [row["lpips"] for row in rows] == [None, None]
    assert all(row[name] is not None for row in rows for name in protocol.metrics)
    assert set(METRICS) - set(protocol.metrics) == {"lpips"}


def test_lpips_follows_the_protocol_to_a_device_and_stays_out_of_a_module_that_holds_it(
    lpips: LPIPS,
):
    trainer = nn.Module()
    trainer.protocol = Protocol(scale=4, lpips=lpips).to(torch.device("meta"))
    assert {parameter.device.type for parameter in lpips.parameters()} == {"meta"}
    assert not trainer.state_dict()
    assert trainer.protocol.metrics == METRICS


def test_the_description_is_one_line_that_tells_scale_and_network(lpips: LPIPS):
    description = Protocol(scale=4, lpips=lpips).description
    assert "4 px" in description
    assert "LPIPS (squeeze)" in description
    assert "\n" not in description
    assert "no LPIPS" in Protocol(scale=4, lpips=None).description
