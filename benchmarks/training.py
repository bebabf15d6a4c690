"""A training step of asrgan beside the same step as a plain loop.

    python benchmarks/training.py experiment=srgan_x4 data.train=DIR [key=value ...]

Takes the overrides of `asrgan train`. Three ways of the same step, with the same networks, losses,
optimizer, crops and degradation, each in a process of its own, in turns:

  plain    as one writes it first: float32, NCHW; D's step, then G's, which passes its pictures
           through G and D anew and leaves gradients in D that nobody uses
  careful  plain, with G's pictures made once and D's parameters frozen in G's step
  asrgan   `asrgan train` itself, through Lightning, with its loader, logging and checkpoints

A value is the median over the steps of a turn, a ratio the median over the turns. What asrgan's
step spends outside of `training_step` is split into waiting for the loader, and the rest: Lightning
and logging.
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
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor

from asrgan import train
from asrgan.configuration import compose
from asrgan.data import PhotographData
from asrgan.engine import SuperResolution, best_precision

_WAYS = ("plain", "careful", "asrgan")
_WARM_UP = 3  # steps


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="measured steps of a turn")
    parser.add_argument("--way", choices=_WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    config = compose("train", ["data.validation=null", *arguments.overrides])
    if arguments.way is not None:
        print(json.dumps(_measure(config, arguments.way, arguments.steps)))
        return
    turns: list[dict[str, dict[str, float]]] = []
    for _ in range(arguments.turns):
        turns.append({way: _in_a_process(way, arguments) for way in _WAYS})
        print({way: round(turns[-1][way]["step"], 3) for way in _WAYS}, file=sys.stderr)
    crop, batch = config["data"]["crop_size_px"], config["data"]["batch_size"]
    precision = best_precision(config["trainer"]["precision"], accelerator="auto")
    print(
        f"batch {batch}, crop {crop} px, asrgan in {precision}, {torch.get_num_threads()} threads\n"
    )
    print("| | seconds a step | asrgan is faster by |\n| --- | --- | --- |")
    for way in _WAYS:
        seconds = statistics.median(turn[way]["step"] for turn in turns)
        ratios = [turn[way]["step"] / turn["asrgan"]["step"] for turn in turns]
        spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if way != "asrgan" else ""
        print(f"| {way} | {seconds:.3f} | {statistics.median(ratios):.2f}{spread} |")
    for share in ("loader", "overhead"):
        shares = [turn["asrgan"][share] / turn["asrgan"]["step"] for turn in turns]
        print(f"| of it {share} | {statistics.median(shares):.1%} | |")


def _in_a_process(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--way", way, "--steps", str(arguments.steps)]
    done = subprocess.run(
        [*command, *arguments.overrides], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(config: dict[str, Any], way: str, steps: int) -> dict[str, float]:
    """Median seconds of a step, and what of it is spent outside of it."""
    logging.disable(logging.INFO)
    if way == "asrgan":
        return _asrgan(config, steps)
    ends = list(
        itertools.islice(_plain_loop(config, is_careful=way == "careful"), steps + _WARM_UP)
    )
    return {"step": statistics.median(_differences(ends)[_WARM_UP - 1 :])}


def _plain_loop(config: dict[str, Any], *, is_careful: bool) -> Iterator[float]:
    """Trains; yields the time after each step."""
    torch.manual_seed(config["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = instantiate({k: v for k, v in config["generator"].items() if k != "weights"})
    discriminator = instantiate(config["discriminator"])
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
    data = PhotographData(
        **instantiate(config["data"], _convert_="all"),
        scale=config["scale"],
        seed=config["seed"],
        max_iterations=10**6,
        validation_minimum_size_px=1,
    )
    data.setup("fit")
    start: Any = SimpleNamespace(iteration=0)
    data.trainer = SimpleNamespace(lightning_module=start, global_rank=0, world_size=1)  # type: ignore[assignment]
    return data.train_dataloader()


def _asrgan(config: dict[str, Any], steps: int) -> dict[str, float]:
    starts: list[float] = []
    ends: list[float] = []
    waits: list[float] = []
    transfer, step = SuperResolution.on_after_batch_transfer, SuperResolution.training_step
    loader = PhotographData.train_dataloader

    def timed_transfer(self: SuperResolution, batch: Any, dataloader_idx: int) -> Any:
        starts.append(time.perf_counter())
        return transfer(self, batch, dataloader_idx)

    def timed_step(self: SuperResolution, batch: Any, batch_index: int) -> None:
        step(self, batch, batch_index)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    SuperResolution.on_after_batch_transfer = timed_transfer
    SuperResolution.training_step = timed_step
    timed: Any = lambda self: _Timed(loader(self), waits)  # noqa: E731
    PhotographData.train_dataloader = timed
    with tempfile.TemporaryDirectory() as folder:
        short = {"max_iterations": steps + _WARM_UP, "checkpoint_every": 10**6}
        train.run(OmegaConf.create({**config, **short}), Path(folder) / "run")
    inside = [end - start for start, end in zip(starts, ends, strict=True)]
    medians = {
        "step": statistics.median(_differences(ends)[_WARM_UP - 1 :]),
        "inside": statistics.median(inside[_WARM_UP:]),
        "loader": statistics.median(waits[_WARM_UP : steps + _WARM_UP]),
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
