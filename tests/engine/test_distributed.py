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


def train(
    photographs: Path,
    output_dir: Path,
    *overrides: str,
    program: tuple[str, ...] = ("-m", "asrgan"),
) -> dict[str, torch.Tensor]:
    command = [
        sys.executable,
        *program,
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


# The pixel loss of the second batch is infinite in one process.
BROKEN = """
import os
from asrgan import cli
from asrgan.losses import L1Loss

forward, training_calls = L1Loss.forward, []

def broken(self, sr_image, hr_image):
    loss = forward(self, sr_image, hr_image)
    if sr_image.requires_grad:
        training_calls.append(1)
        is_here = os.environ.get("LOCAL_RANK", "0") == "{rank}"
        if is_here and len(training_calls) == 2:
            return loss * float("inf")
    return loss

L1Loss.forward = broken
cli.main()
"""


def test_all_processes_skip_the_batch_that_one_finds_not_finite(photographs: Path, tmp_path: Path):
    runs = {"one": ["data.batch_size=4"], "two": ["data.batch_size=2", "trainer.devices=2"]}
    states = {}
    for rank, (name, overrides) in enumerate(runs.items()):
        program = tmp_path / f"{name}.py"
        program.write_text(BROKEN.replace("{rank}", str(rank)))
        overrides += ["on_nonfinite=skip", "trainer.log_every=4"]
        states[name] = train(photographs, tmp_path / name, *overrides, program=(str(program),))
        with (tmp_path / name / "metrics.csv").open(encoding="utf-8", newline="") as file:
            assert next(csv.DictReader(file))["train/skipped"] == "1"
    for key, value in states["one"].items():
        torch.testing.assert_close(states["two"][key], value, rtol=1e-3, atol=1e-4, msg=key)
