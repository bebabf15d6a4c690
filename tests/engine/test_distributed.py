"""Two processes with gloo on the CPU, started as a user starts them."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

OVERRIDES = [
    "experiment=asrgan_x4",
    "size=small",
    "data.crop_size_px=32",
    "data.num_workers=0",
    "generator.num_features=8",
    "generator.num_blocks=1",
    "validate_every=4",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    # Batch norm sees the pictures of its own process; without it one and two can be compared.
    "generator.norm=none",
    "optimizer.generator._target_=torch.optim.SGD",
    "optimizer.discriminator._target_=torch.optim.SGD",
    "~optimizer.generator.betas",
    "~optimizer.discriminator.betas",
    "optimizer.generator.lr=0.1",
    "optimizer.discriminator.lr=0.1",
    "max_iterations=4",
]


def train(photographs: Path, output_dir: Path, *overrides: str) -> dict[str, torch.Tensor]:
    command = [
        sys.executable,
        "-m",
        "asrgan",
        "train",
        f"data.train={photographs}/train",
        f"data.validation={photographs}/train",  # three for two: one is seen twice, counted once
        f"output_dir={output_dir}",
        *OVERRIDES,
        *overrides,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return torch.load(output_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_two_processes_train_what_one_trains_with_the_same_pictures(
    photographs: Path, tmp_path: Path
):
    one = train(photographs, tmp_path / "one", "data.batch_size=4")
    two = train(photographs, tmp_path / "two", "data.batch_size=2", "trainer.devices=2")
    start = train(photographs, tmp_path / "start", "data.batch_size=4", "optimizer.generator.lr=0")
    name = "generator.head.0.parametrizations.weight.original"
    moved = (one[name] - start[name]).abs().max()
    assert moved > 1e-3
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4, msg=key)
    tables = {}
    for run in ("one", "two"):
        with (tmp_path / run / "metrics.csv").open(encoding="utf-8", newline="") as file:
            tables[run] = list(csv.DictReader(file))
    assert [row["iteration"] for row in tables["one"]] == [
        row["iteration"] for row in tables["two"]
    ]
    column = "val/train/psnr_y_db"
    for ours, theirs in zip(tables["one"], tables["two"], strict=True):
        assert bool(ours[column]) == bool(theirs[column])
        if ours[column]:  # each image counted once, whichever process saw it
            assert float(theirs[column]) == pytest.approx(float(ours[column]), abs=1e-2)
