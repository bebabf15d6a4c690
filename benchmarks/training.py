"""A training step of asrgan beside the same step as a plain loop.

    python benchmarks/training.py [EXPERIMENT ...] [--data DIR] [--sizes 96x16 ...] [key=value ...]

Three ways of the same step, with the same losses, optimizers, crops and degradation, each in a
process of its own, in turns:

  plain    as one writes it first: float32, NCHW, torch's own layers; D's step, then G's, which
           passes its pictures through G and D anew and leaves gradients in D that nobody uses
  careful  plain, with G's pictures made once and D's parameters frozen in G's step
  asrgan   `asrgan train` itself, through Lightning, with its loader, logging and checkpoints

Training data are noise that stays in memory and, with --data, photographs or the output of `asrgan
prepare`. Further words are overrides of `asrgan train`. VGG-19 is of random numbers.

A value is the median over the steps of a turn, then over the turns; a ratio is the median over the
turns, with the least and the largest of them. What asrgan's step spends outside of networks, losses
and optimizers is split into waiting for the loader, and the rest: Lightning and logging. Rows are
written every `trainer.log_every` iterations, so that one of 1 is the most that logging takes;
checkpoints and validation are not in the steps measured. Operations are counted,
and the peak of the device is what its best convolution reaches in asrgan's precision. Memory is
what the process holds on a CPU, and what torch holds on a GPU.
"""

import argparse
import itertools
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from operations import num_operations, rehearsal
from plain_layers import use_layers_of_torch
from torch import Tensor, nn

from asrgan import train
from asrgan.configuration import compose
from asrgan.data import PhotographData
from asrgan.engine import (
    SuperResolution,
    best_precision,
    num_loader_workers,
    peak_memory_mib,
)
from asrgan.hardware import find_device
from asrgan.imaging import write_image

_WAYS = ("plain", "careful", "asrgan")
_WARM_UP = 3  # steps
_NOISE = "noise"
_GPU_SIZES = ("96x16", "96x32", "96x64", "96x128", "192x16", "384x16", "512x16")
_COLUMNS = (
    "experiment",
    "data",
    "crop, px",
    "batch",
    "plain, s",
    "careful, s",
    "asrgan, s",
    "plain / asrgan",
    "careful / asrgan",
    "loader",
    "Lightning, logging",
    "images/s",
    "TFLOP/s",
    "of peak",
    "memory, GiB",
)

Result = dict[str, float]


class Case(NamedTuple):
    """What is trained.

    Attributes:
        experiment: its name.
        data: a folder, or ``noise``.
        size: crop x batch.
    """

    experiment: str
    data: str
    size: str

    def overrides(self, noise: Path) -> list[str]:
        """Of `asrgan train`."""
        crop, batch = self.size.split("x")
        folder = noise if self.data == _NOISE else Path(self.data).absolute()
        words = [f"experiment={self.experiment}", f"data.train={folder}", "data.validation=null"]
        words += [f"data.crop_size_px={crop}", f"data.batch_size={batch}"]
        if self.experiment != "srresnet_x4":
            words.append("++loss.perceptual.network.weights=untrained")
        return words


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("words", nargs="*", help="experiments, and overrides with a =")
    parser.add_argument("--data", action="append", help="photographs, or prepared ones")
    parser.add_argument("--sizes", nargs="*", help="crop x batch")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured steps of a turn")
    parser.add_argument("--way", choices=(*_WAYS, "peak"), help=argparse.SUPPRESS)
    arguments = parser.parse_intermixed_args()
    own = [word for word in arguments.words if "=" in word]
    if arguments.way is not None:
        print(json.dumps(_measure(compose("train", own), arguments.way, arguments.steps)))
        return
    experiments = [word for word in arguments.words if "=" not in word]
    default_sizes = _GPU_SIZES if torch.cuda.is_available() else ["96x16"]
    cases = [
        Case(experiment, data, size)
        for experiment in experiments or ["srresnet_x4", "srgan_x4", "asrgan_x4"]
        for data in [_NOISE, *(arguments.data or [])]
        for size in arguments.sizes or default_sizes
    ]
    turns: dict[Case, list[dict[str, Result]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as name:
        noise = _write_noise(Path(name), max(int(case.size.split("x")[0]) for case in cases))
        peak = _in_a_process("peak", [*cases[0].overrides(noise), *own], arguments.steps)["rate"]
        for _, case in itertools.product(range(arguments.turns), cases):
            words = [*case.overrides(noise), *own]
            turn = {way: _in_a_process(way, words, arguments.steps) for way in _WAYS}
            turns[case].append(turn)
            print(case, {way: round(turn[way]["step"], 3) for way in _WAYS}, file=sys.stderr)
        operations = {case: _operations(case, [*case.overrides(noise), *own]) for case in cases}
    precision = best_precision(compose("train", own)["trainer"]["precision"], accelerator="auto")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    print(
        f"asrgan in {precision} on {device}, {torch.get_num_threads()} threads; the device's peak:"
        f" {peak / 1e12:.3g} TFLOP/s\n"
    )
    print(f"| {' | '.join(_COLUMNS)} |\n{'| --- ' * len(_COLUMNS)}|")
    for case in cases:
        print(f"| {' | '.join(_cells(case, turns[case], operations[case], peak))} |")
    for case in cases:
        with_attention = case._replace(experiment="asrgan_x4")
        if case.experiment == "srgan_x4" and with_attention in turns:
            pairs = zip(turns[with_attention], turns[case], strict=True)
            ratios = [ours["asrgan"]["step"] / base["asrgan"]["step"] for ours, base in pairs]
            print(f"\nA-SRGAN beside SRGAN, {case.data}, {case.size}: {_spread(ratios)} times")


def _cells(case: Case, turns: Sequence[dict[str, Result]], work: float, peak: float) -> list[str]:
    def median(way: str, name: str = "step") -> float:
        return statistics.median(turn[way][name] for turn in turns)

    crop, batch = case.size.split("x")
    data = case.data if case.data == _NOISE else Path(case.data).name
    ratios = [
        _spread([turn[way]["step"] / turn["asrgan"]["step"] for turn in turns]) for way in _WAYS[:2]
    ]
    shares = [
        statistics.median(turn["asrgan"][name] / turn["asrgan"]["step"] for turn in turns)
        for name in ("loader", "overhead")
    ]
    step_s = median("asrgan")
    return [
        case.experiment,
        data,
        crop,
        batch,
        *(f"{median(way):.3g}" for way in _WAYS),
        *ratios,
        *(f"{share:.1%}" for share in shares),
        f"{int(batch) / step_s:.3g}",
        f"{work / step_s / 1e12:.3g}",
        f"{work / step_s / peak:.0%}",
        f"{median('asrgan', 'memory') / 1024:.2f}",
    ]


def _spread(ratios: Sequence[float]) -> str:
    middle = f"{statistics.median(ratios):.2f}"
    return f"{middle} ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else middle


def _write_noise(folder: Path, size_px: int) -> Path:
    generator = np.random.default_rng(0)
    for number in range(16):
        picture = generator.integers(0, 256, (size_px + 32, size_px + 32, 3), np.uint8)
        write_image(folder / f"{number}.png", picture)
    return folder


def _operations(case: Case, overrides: Sequence[str]) -> float:
    crop, batch = (int(part) for part in case.size.split("x"))
    return num_operations(rehearsal(overrides), crop_size_px=crop, batch_size=batch)


def _in_a_process(way: str, overrides: Sequence[str], steps: int) -> Result:
    """What a way measures; infinite where the device's memory does not suffice."""
    command = [sys.executable, __file__, "--way", way, "--steps", str(steps), *overrides]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if "OutOfMemoryError" in done.stderr:
        return dict.fromkeys(("step", "loader", "overhead", "memory"), float("inf"))
    raise RuntimeError(done.stderr)


def _measure(config: dict[str, Any], way: str, steps: int) -> Result:
    """Median seconds of a step, and what of it is spent outside of it; or the device's peak."""
    logging.disable(logging.INFO)
    if way == "peak":
        return {"rate": _peak_rate(config["trainer"]["precision"])}
    if way == "asrgan":
        return _asrgan(config, steps)
    ends = list(
        itertools.islice(_plain_loop(config, is_careful=way == "careful"), steps + _WARM_UP)
    )
    return {"step": statistics.median(_differences(ends)[_WARM_UP - 1 :])}


def _peak_rate(precision: Any) -> float:
    """Operations a second of the best of some large convolutions."""
    device = find_device("auto")
    chosen = best_precision(precision, accelerator="auto")
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(chosen, torch.float32)
    layer = nn.Conv2d(256, 256, 3, padding=1, device=device, dtype=dtype)
    layer.to(memory_format=torch.channels_last)
    number, num_calls = (64, 20) if device.type == "cuda" else (4, 1)
    maps = torch.randn(number, 256, 96, 96, device=device, dtype=dtype)
    maps = maps.to(memory_format=torch.channels_last)
    best_s = float("inf")
    with torch.no_grad():
        for _ in range(10):
            start_s = time.perf_counter()
            for _ in range(num_calls):
                layer(maps)
            if device.type == "cuda":
                torch.cuda.synchronize()
            best_s = min(best_s, (time.perf_counter() - start_s) / num_calls)
    return 2 * maps.numel() * 256 * 9 / best_s


def _plain_loop(config: dict[str, Any], *, is_careful: bool) -> Iterator[float]:
    """Trains; yields the time after each step."""
    torch.manual_seed(config["seed"])
    device = find_device("auto")
    generator = instantiate({k: v for k, v in config["generator"].items() if k != "weights"})
    discriminator = instantiate(config["discriminator"])
    use_layers_of_torch(generator)
    losses = instantiate(config["loss"], _convert_="all")
    adversarial = losses.pop("adversarial")
    losses = [loss.to(device) for loss in losses.values() if loss is not None]
    degradation = instantiate(config["degradation"], _convert_="all")
    recipe = instantiate(_without_fusion(config["optimizer"]), _convert_="all")
    optimizer_g = recipe.generator(generator.to(device).parameters())
    optimizer_d = discriminator and recipe.discriminator(discriminator.to(device).parameters())
    for number, crops in enumerate(_batches(config)):
        hr = crops.to(device).float() / 255
        lr = degradation(hr, sample_numbers=range(number * len(hr), (number + 1) * len(hr)))
        sr = generator(lr)
        if discriminator is not None and not is_careful:
            optimizer_d.zero_grad()
            logits = discriminator(hr), discriminator(sr.detach())
            adversarial.discriminator_loss(*logits).backward()
            optimizer_d.step()
            sr = generator(lr)
        optimizer_g.zero_grad()
        loss = torch.stack([loss.weight * loss(sr, hr) for loss in losses]).sum()
        if discriminator is not None:
            discriminator.requires_grad_(not is_careful)
            real = discriminator(hr).detach() if adversarial.needs_real else None
            loss = loss + adversarial.weight * adversarial.generator_loss(real, discriminator(sr))
            discriminator.requires_grad_(True)
        loss.backward()
        optimizer_g.step()
        if discriminator is not None and is_careful:
            optimizer_d.zero_grad()
            logits = discriminator(hr), discriminator(sr.detach())
            adversarial.discriminator_loss(*logits).backward()
            optimizer_d.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        yield time.perf_counter()


def _without_fusion(optimizer: dict[str, Any]) -> dict[str, Any]:
    """The same optimizers as torch builds them when nothing is asked for."""
    return {
        name: {k: v for k, v in node.items() if k != "fused"} if isinstance(node, dict) else node
        for name, node in optimizer.items()
    }


def _batches(config: dict[str, Any]) -> Iterable[Tensor]:
    """The crops of `asrgan train`, so that both sides train on the same."""
    settings = instantiate(config["data"], _convert_="all")
    num_workers = num_loader_workers(settings["num_workers"], accelerator="auto", devices=1)
    data = PhotographData(
        **settings | {"num_workers": num_workers},
        scale=config["scale"],
        seed=config["seed"],
        max_iterations=10**6,
        validation_minimum_size_px=1,
    )
    data.setup("fit")
    start: Any = SimpleNamespace(iteration=0)
    data.trainer = SimpleNamespace(lightning_module=start, global_rank=0, world_size=1)  # type: ignore[assignment]
    return data.train_dataloader()


def _asrgan(config: dict[str, Any], steps: int) -> Result:
    starts: list[float] = []
    ends: list[float] = []
    waits: list[float] = []
    reports: list[float] = []
    transfer, step = SuperResolution.on_after_batch_transfer, SuperResolution.training_step
    report = SuperResolution._report  # pyright: ignore[reportPrivateUsage]
    loader = PhotographData.train_dataloader

    def timed_transfer(self: SuperResolution, batch: Any, dataloader_idx: int) -> Any:
        starts.append(time.perf_counter())
        return transfer(self, batch, dataloader_idx)

    def timed_report(self: SuperResolution, num_images: int) -> None:
        start = time.perf_counter()
        report(self, num_images)
        reports.append(time.perf_counter() - start)

    def timed_step(self: SuperResolution, batch: Any, batch_index: int) -> None:
        step(self, batch, batch_index)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    SuperResolution.on_after_batch_transfer = timed_transfer
    SuperResolution.training_step = timed_step
    SuperResolution._report = timed_report  # pyright: ignore[reportPrivateUsage]
    timed: Any = lambda self: _Timed(loader(self), waits)  # noqa: E731
    PhotographData.train_dataloader = timed
    with tempfile.TemporaryDirectory() as folder:
        short = {"max_iterations": steps + _WARM_UP, "checkpoint_every": 10**6}
        train.run(OmegaConf.create({**config, **short}), Path(folder) / "run")
    inside = [
        end - start - report_s for start, end, report_s in zip(starts, ends, reports, strict=True)
    ]
    medians = {
        "step": statistics.median(_differences(ends)[_WARM_UP - 1 :]),
        "inside": statistics.median(inside[_WARM_UP:]),
        "loader": statistics.median(waits[_WARM_UP : steps + _WARM_UP]),
        "memory": peak_memory_mib(find_device("auto")),
    }
    return medians | {"overhead": medians["step"] - medians["inside"] - medians["loader"]}


class _Timed:
    """A loader that notes how long each batch was waited for."""

    def __init__(self, loader: Any, waits: list[float]) -> None:
        self._loader, self._waits = loader, waits

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Tensor]:
        batches = iter(self._loader)
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self._waits.append(time.perf_counter() - start)
            yield batch


def _differences(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
