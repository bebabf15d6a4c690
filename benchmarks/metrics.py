"""Time and memory of each metric on one large picture.

    python benchmarks/metrics.py [--size 2040x1360] [--threads 2] [METRIC ...]

Each row is a fresh process: it makes the picture, scores a small corner of it to load libraries,
and then the whole. Extra memory is how far that raises the peak of the process's resident memory;
the pictures themselves (HR, SR and LR in float32) are not part of it. Networks get random weights
and NIQE an arbitrary model: neither time nor memory depends on them.
"""

import argparse
import multiprocessing
import os
import re
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from skimage import data

from asrgan.imaging import bicubic_upscale, to_tensor
from asrgan.metrics import METRICS, Protocol

SCALE = 4
CORNER_PX = 400


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("metrics", nargs="*", default=list(METRICS))
    parser.add_argument("--size", default="2040x1360", help="WIDTHxHEIGHT, px")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    print(f"| {width}x{height} | extra peak memory, MiB | time, s |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCH_HOME"] = folder
        _write_weights(Path(folder))
        for metric in arguments.metrics:
            task = partial(_measure, metric, height, width, arguments.threads, Path(folder))
            # "spawn": a fork would inherit this process's peak.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                memory_mib, time_s = pool.apply(task)
            print(f"| {metric} | {memory_mib:.0f} | {time_s:.2f} |", flush=True)


def _write_weights(folder: Path) -> None:
    checkpoints = folder / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    models = torchvision.models
    for build, weights in (
        (models.alexnet, models.AlexNet_Weights.DEFAULT),
        (models.squeezenet1_1, models.SqueezeNet1_1_Weights.DEFAULT),
        (models.vgg16, models.VGG16_Weights.DEFAULT),
    ):
        torch.save(build().state_dict(), checkpoints / Path(weights.url).name)
    np.savez(folder / "niqe.npz", mu_pris_param=np.zeros(36), cov_pris_param=np.eye(36))


def _measure(
    metric: str, height: int, width: int, num_threads: int, folder: Path
) -> tuple[float, float]:
    torch.set_num_threads(num_threads)
    protocol = Protocol(scale=SCALE, metrics=[metric], niqe=folder / "niqe.npz")
    lr_image = _fill(to_tensor(data.astronaut()), height // SCALE, width // SCALE)
    # Made in pieces, so that the picture's own making does not set the peak.
    sr_image = torch.cat([bicubic_upscale(rows, scale=SCALE) for rows in lr_image.split(64, 2)], 2)
    hr_image = _fill(to_tensor(data.astronaut()), *sr_image.shape[2:])
    corner = (..., slice(CORNER_PX), slice(CORNER_PX))
    lr_corner = lr_image[..., : CORNER_PX // SCALE, : CORNER_PX // SCALE]
    protocol(sr_image[corner], hr_image=hr_image[corner], lr_image=lr_corner)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew from what is held
    before = _peak_mib()
    start = time.perf_counter()
    protocol(sr_image, hr_image=hr_image, lr_image=lr_image)
    return _peak_mib() - before, time.perf_counter() - start


def _fill(picture: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(1, 3, height, width) of copies of the picture side by side."""
    rows = torch.arange(height) % picture.shape[1]
    columns = torch.arange(width) % picture.shape[2]
    return picture[:, rows][..., columns][None]


def _peak_mib() -> float:
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) / 1024


if __name__ == "__main__":
    main()
