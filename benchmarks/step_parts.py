"""Where the time of a training step goes, part by part.

    python benchmarks/step_parts.py experiment=asrgan_x4 size=small [key=value ...]

Takes the overrides of `asrgan train` but trains nothing: it builds the same networks and losses,
runs each part on random crops, and prints the median of several rounds. With data.train=DIR it
also times the loader. --profile adds what torch's profiler counts in one round, by operator.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor

from asrgan.configuration import compose
from asrgan.data import Crops, open_source
from asrgan.engine import best_precision, keep_freed_memory, start_average, update_average
from asrgan.hardware import find_device


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    config = compose("train", ["data.validation=null", *arguments.overrides])
    keep_freed_memory()
    device = find_device("auto")
    parts = _parts(config, device)
    precision = best_precision(config["trainer"]["precision"], accelerator="auto")
    mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)
    autocast = partial(
        torch.autocast, device.type, mixed, enabled=mixed is not None, cache_enabled=False
    )
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for round_number in range(arguments.rounds + 1):
        with autocast():
            for name, part in parts.items():
                start = time.perf_counter()
                part()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if round_number:  # the first warms up
                    seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    total = sum(medians.values())
    crop, batch = config["data"]["crop_size_px"], config["data"]["batch_size"]
    print(f"batch {batch}, crop {crop} px, {precision}, {torch.get_num_threads()} threads\n")
    print("| part | ms | share |\n| --- | --- | --- |")
    for name, median in medians.items():
        print(f"| {name} | {1000 * median:.1f} | {median / total:.0%} |")
    print(f"| sum | {1000 * total:.1f} | |")
    if arguments.profile:
        with autocast(), torch.profiler.profile() as profiler:
            for part in parts.values():
                part()
        _print_operators(profiler, of=device.type)


def _print_operators(profiler: torch.profiler.profile, *, of: str) -> None:
    """Those that take a hundredth or more of the device's time, the largest first."""
    events = profiler.key_averages()
    field = "self_device_time_total" if of == "cuda" else "self_cpu_time_total"
    times: dict[str, float] = {event.key: getattr(event, field) for event in events}
    total = sum(times.values())
    print("\n| operator | share |\n| --- | --- |")
    for name, time_us in sorted(times.items(), key=lambda item: -item[1]):
        if time_us > total / 100:
            print(f"| `{name}` | {time_us / total:.0%} |")


def _parts(config: dict[str, Any], device: torch.device) -> dict[str, Callable[[], object]]:
    """The parts of `SuperResolution.training_step`, in its order."""
    generator_arguments = {k: v for k, v in config["generator"].items() if k != "weights"}
    generator = instantiate(generator_arguments).to(device, memory_format=torch.channels_last)
    discriminator = instantiate(config["discriminator"])
    losses = instantiate(config["loss"], _convert_="all")
    adversarial = losses.pop("adversarial")
    losses = {
        name: loss.to(device, memory_format=torch.channels_last)
        for name, loss in losses.items()
        if loss is not None
    }
    recipe = instantiate(config["optimizer"], _convert_="all")
    optimizer_g = recipe.generator(generator.parameters())
    average = start_average(generator)
    degradation = instantiate(config["degradation"], _convert_="all")
    crop = config["data"]["crop_size_px"]
    pictures = torch.randint(0, 256, (config["data"]["batch_size"], 3, crop, crop)).byte()
    state: dict[str, Any] = {}

    def degrade() -> None:
        state["hr"] = pictures.to(device, memory_format=torch.channels_last).float().div_(255)
        lr_image = degradation(state["hr"], sample_numbers=range(len(pictures)))
        state["lr"] = lr_image.contiguous(memory_format=torch.channels_last)

    def generator_forward() -> None:
        state["sr"] = generator(state["lr"])

    def content() -> None:
        values = [x.weight * x(state["sr"], state["hr"]) for x in losses.values()]
        state["loss_g"] = sum(values, torch.zeros((), device=device))

    def generator_backward() -> None:
        state["loss_g"].backward()

    def generator_update() -> None:
        optimizer_g.step()
        optimizer_g.zero_grad()
        update_average(average, generator, decay=recipe.average_decay)

    parts: dict[str, Callable[[], object]] = {}
    if config["data"]["train"] != "???":
        parts["data: crops of one batch, one process"] = _loader(config)
    parts |= {"HR to float, LR": degrade, "G forward": generator_forward, "content losses": content}
    if discriminator is None:
        return parts | {"G backward": generator_backward, "G update, average": generator_update}
    discriminator.to(device, memory_format=torch.channels_last)
    optimizer_d = recipe.discriminator(discriminator.parameters())

    def judge(image: Tensor) -> Tensor:
        torch.set_autocast_cache_enabled(True)
        logits = discriminator(image)
        torch.set_autocast_cache_enabled(False)
        return logits

    def judge_fake() -> None:
        state["picture"] = state["sr"].detach().float().requires_grad_()
        state["real"] = judge(state["hr"]) if adversarial.needs_real else None
        state["fake"] = judge(state["picture"])

    def slope_of_fake() -> None:
        loss = adversarial.generator_loss(state["real"], state["fake"])
        (slope,) = torch.autograd.grad(loss, state["picture"], retain_graph=True)
        weighted = adversarial.weight * slope
        state["loss_g"] = state["loss_g"] + (state["sr"].float() * weighted).sum()

    def judge_real() -> None:
        if state["real"] is None:
            state["real"] = judge(state["hr"])

    def discriminator_backward() -> None:
        loss = adversarial.discriminator_loss(state["real"], state["fake"])
        loss.backward(inputs=list(discriminator.parameters()))

    def discriminator_update() -> None:
        optimizer_d.step()
        optimizer_d.zero_grad()

    return parts | {
        "D forward, fake": judge_fake,
        "D backward to the picture": slope_of_fake,
        "G backward, with the content losses": generator_backward,
        "G update, average": generator_update,
        "D forward, real": judge_real,
        "D backward, real and fake": discriminator_backward,
        "D update": discriminator_update,
    }


def _loader(config: dict[str, Any]) -> Callable[[], object]:
    data = config["data"]
    source = open_source(
        data["train"],
        minimum_size_px=data["crop_size_px"],
        cache_mib=data["cache_mib"],
        shuffle_shards=data["shuffle_shards"],
        stream_cache_dir=data["stream_cache_dir"],
        stream_cache_mib=data["stream_cache_mib"],
    )
    crops = Crops(
        source,
        crop_size_px=data["crop_size_px"],
        seed=config["seed"],
        augmentation=instantiate(data["augmentation"], _convert_="all"),
    )
    numbers = iter(range(10**9))
    return lambda: torch.stack([crops[next(numbers)] for _ in range(data["batch_size"])])


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    main()
