"""A model of training on many GPUs, and its test with two processes on this machine.

    python benchmarks/scaling.py model [EXPERIMENT] [--tflops 150] [--gb-per-s 300] ...
    python benchmarks/scaling.py test DIR

An iteration takes

    max(compute, loader) + all-reduce of D's gradients + all-reduce of G's gradients

Compute is the operations of a device's share of the batch, counted, over a rate. A ring passes
2 (n - 1) / n times the gradients through each device, in 2 (n - 1) messages. That backward passes
overlap with it is left out, so the model is on the safe side. The loader's workers make crops at a
rate; they overlap with the device.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

import torch
from operations import num_operations, rehearsal
from torch import distributed
from torch.multiprocessing.spawn import spawn

from asrgan.engine import Rehearsal
from asrgan.files import read_table

CROP_SIZE_PX, BATCH_SIZE, ITERATIONS = 96, 16, 200_000  # of the A-SRGAN and SRGAN experiments
GPUS_PER_NODE = 8
NUM_ROUNDS = 20

SMALL = (
    "experiment=srgan_x4",
    "size=small",
    "trainer.accelerator=cpu",
    "data.validation=null",
    "data.num_workers=0",
    "max_iterations=12",
    "trainer.log_every=6",
)


def count(experiment: str, batch_size: int) -> tuple[float, int, int]:
    """Operations of an iteration, and the bytes of G's and of D's gradients."""
    overrides = [f"experiment={experiment}"]
    if experiment != "srresnet_x4":
        overrides.append("loss.perceptual.network.weights=untrained")
    module = rehearsal(overrides)
    number = num_operations(module, crop_size_px=CROP_SIZE_PX, batch_size=batch_size)
    return number, *gradient_bytes(module)


def gradient_bytes(module: Rehearsal) -> tuple[int, int]:
    """Of G and D; gradients are float32."""
    networks = (module.generator, module.discriminator)
    g_bytes, d_bytes = (
        sum(4 * p.numel() for p in network.parameters()) if network is not None else 0
        for network in networks
    )
    return g_bytes, d_bytes


def ring_s(num_bytes: float, num_ranks: int, *, bytes_per_s: float, message_s: float) -> float:
    """Seconds of an all-reduce."""
    if num_ranks == 1:
        return 0.0
    share = 2 * (num_ranks - 1) / num_ranks
    return share * num_bytes / bytes_per_s + 2 * (num_ranks - 1) * message_s


def model(arguments: argparse.Namespace) -> None:
    """Prints step time and hours for 1 to 64 GPUs."""
    num_operations, g_bytes, d_bytes = count(arguments.experiment, BATCH_SIZE)
    print(
        f"{arguments.experiment}, batch {BATCH_SIZE} of {CROP_SIZE_PX} px:"
        f" {num_operations / 1e12:.3f} TFLOP, gradients of G {g_bytes / 1e6:.1f} MB, of D"
        f" {d_bytes / 1e6:.1f} MB.\n"
    )
    print("| GPUs | batch of each | compute, ms | all-reduce, ms | loader, ms | step, ms |", end="")
    print(" images/s | of linear | hours, 3.2 M crops |")
    print("| --- " * 9 + "|")
    speeds: dict[int, float] = {}
    for share in (None, BATCH_SIZE):  # the batch is divided; each GPU has a whole one
        for num_ranks in (1, 2, 4, 8, 16, 32, 64):
            batch_size = share or BATCH_SIZE // num_ranks
            if batch_size == 0:
                continue
            compute_s = num_operations * batch_size / BATCH_SIZE / (arguments.tflops * 1e12)
            is_one_node = num_ranks <= GPUS_PER_NODE
            gb_per_s = arguments.gb_per_s if is_one_node else arguments.network_gb_per_s
            rings = {"bytes_per_s": gb_per_s * 1e9, "message_s": arguments.message_us * 1e-6}
            rings_s = sum(ring_s(size, num_ranks, **rings) for size in (g_bytes, d_bytes))
            loader_s = batch_size / (arguments.crops_per_s * arguments.workers)
            step_s = max(compute_s + arguments.launch_ms / 1e3, loader_s) + rings_s
            images_per_s = num_ranks * batch_size / step_s
            speeds.setdefault(1, images_per_s)
            hours = ITERATIONS * BATCH_SIZE / images_per_s / 3600
            print(
                f"| {num_ranks} | {batch_size} | {1e3 * compute_s:.2f} | {1e3 * rings_s:.2f} |"
                f" {1e3 * loader_s:.2f} | {1e3 * step_s:.2f} | {images_per_s:,.0f} |"
                f" {images_per_s / speeds[1] / num_ranks:.0%} | {hours:.2f} |"
            )


def _all_reduce(rank: int, path: str, sizes: list[int], seconds: "Queue[float]") -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{path}", rank=rank, world_size=2)
    for size in sizes:
        gradients = torch.zeros(size // 4)
        distributed.all_reduce(gradients)
        begun_s = time.perf_counter()
        for _ in range(NUM_ROUNDS):
            distributed.all_reduce(gradients)
        if rank == 0:
            seconds.put((time.perf_counter() - begun_s) / NUM_ROUNDS)
    distributed.destroy_process_group()


def _step_s(folder: str, *overrides: str) -> float:
    """Seconds of an iteration of `asrgan train`, one thread in each process."""
    with tempfile.TemporaryDirectory() as output_dir:
        command = [sys.executable, "-m", "asrgan", "train", f"data.train={folder}", *SMALL]
        subprocess.run(
            [*command, *overrides, f"output_dir={output_dir}"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
        _, rows = read_table(Path(output_dir) / "metrics.csv")
        speed = float(rows[-1]["train/images_per_s"])
    batch_size = next(o for o in overrides if o.startswith("data.batch_size"))
    return int(batch_size.partition("=")[2]) / speed


def test(arguments: argparse.Namespace) -> None:
    """Compares the model with two processes of one thread each."""
    sizes = list(gradient_bytes(rehearsal(SMALL)))
    queue: Queue[float] = multiprocessing.get_context("spawn").Queue()
    with tempfile.TemporaryDirectory() as folder:
        spawn(_all_reduce, (f"{folder}/meeting", sizes, queue), nprocs=2)
    rings_s = [queue.get() for _ in sizes]
    half_s = _step_s(arguments.folder, "data.batch_size=8")
    two_s = _step_s(arguments.folder, "data.batch_size=16", "trainer=ddp", "devices=2")
    for size, seconds in zip(sizes, rings_s, strict=True):
        print(f"all-reduce of {size / 1e6:.1f} MB by gloo: {1e3 * seconds:.1f} ms")
    print(f"one process, batch 8: {1e3 * half_s:.0f} ms an iteration")
    print(f"two processes, batch 16: {1e3 * (half_s + sum(rings_s)):.0f} ms by the model", end="")
    print(f", {1e3 * two_s:.0f} ms measured")


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(required=True)
    modelling = verbs.add_parser("model")
    modelling.add_argument("experiment", nargs="?", default="srgan_x4")
    modelling.add_argument("--tflops", type=float, default=150, help="a GPU achieves")
    modelling.add_argument("--launch-ms", type=float, default=4, help="of a step, beside them")
    modelling.add_argument("--gb-per-s", type=float, default=300, help="of a ring in a machine")
    modelling.add_argument("--network-gb-per-s", type=float, default=20, help="between machines")
    modelling.add_argument("--message-us", type=float, default=10)
    modelling.add_argument("--crops-per-s", type=float, default=500, help="of one worker")
    modelling.add_argument("--workers", type=int, default=6, help="of each GPU")
    modelling.set_defaults(function=model)
    testing = verbs.add_parser("test")
    testing.add_argument("folder", help="photographs")
    testing.set_defaults(function=test)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
