"""Peak memory of trainings: forecast by `asrgan doctor`, and measured.

    python benchmarks/training_memory.py [EXPERIMENT ...] [key=value ...] [--sizes 96x16 512x1]

Each training runs two iterations on noise in a process of its own, without validation; VGG-19 is of
random numbers. On a CPU it is the process's resident memory, on a GPU what torch holds.
"""

import argparse
import io
import logging
import multiprocessing
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from asrgan import doctor, train
from asrgan.configuration import compose
from asrgan.hardware import find_device
from asrgan.imaging import write_image
from asrgan.inference import PeakMemory


def measure(overrides: Sequence[str], crop_size: int, batch_size: int) -> float:
    """GiB at the most."""
    with tempfile.TemporaryDirectory() as name:
        noise = np.random.default_rng(0).integers(0, 256, (crop_size, crop_size, 3), np.uint8)
        write_image(Path(name) / "photographs" / "noise.png", noise)
        settings = (
            f"data.train={name}/photographs",
            "data.validation=null",
            "data.num_workers=0",
            f"data.crop_size_px={crop_size}",
            f"data.batch_size={batch_size}",
            "max_iterations=2",
        )
        config = OmegaConf.create(compose("train", [*overrides, *settings]))
        with PeakMemory(find_device("auto")) as peak:
            train.run(config, Path(name))
    assert peak.mib is not None
    return peak.mib / 1024


def forecast(overrides: Sequence[str], crop_size: int, batch_size: int) -> float:
    """GiB as doctor's table has them."""
    settings = (f"crop_sizes_px=[{crop_size}]", f"batch_sizes=[{batch_size}]")
    config = OmegaConf.create(compose("doctor", [*overrides, *settings]))
    recomputes = config.trainer.recompute  # else doctor tells both in a table
    told = io.StringIO()
    logging.getLogger("asrgan").addHandler(logging.StreamHandler(told))
    logging.getLogger("asrgan").setLevel(logging.INFO)
    doctor.run(config, Path())
    amounts = re.findall(r"([\d.]+) (MiB|GiB)", told.getvalue().splitlines()[-1])
    number, unit = amounts[recomputes]
    return float(number) / (1024 if unit == "MiB" else 1)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*", help="experiments, and overrides with a =")
    parser.add_argument("--sizes", nargs="*", default=["96x16", "256x4", "512x1"])
    arguments = parser.parse_args()
    own = [word for word in arguments.words if "=" in word]
    experiments = [word for word in arguments.words if "=" not in word]
    print("| experiment | crop, px | batch | forecast, GiB | measured, GiB | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    processes = multiprocessing.get_context("spawn")
    for experiment in experiments or ["srresnet_x4", "srgan_x4", "asrgan_x4"]:
        overrides = [f"experiment={experiment}", *own]
        if experiment != "srresnet_x4":
            overrides.append("loss.perceptual.network.weights=untrained")
        for size in arguments.sizes:
            crop_size, batch_size = (int(part) for part in size.split("x"))
            amounts: list[float] = []
            for function in (forecast, measure):
                with processes.Pool(1) as pool:
                    amounts.append(pool.apply(function, (overrides, crop_size, batch_size)))
            expected, found = amounts
            print(
                f"| {experiment} | {crop_size} | {batch_size} | {expected:.2f} | {found:.2f} |"
                f" {expected / found:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
