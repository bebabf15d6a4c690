"""Where the time of a training step goes, part by part.

    python benchmarks/step_parts.py experiment=asrgan_x4 size=small [key=value ...]

Takes the overrides of `asrgan train` but trains nothing: it builds the same networks and losses,
runs each part on random crops, and prints the median of several rounds. With data.train=DIR it
also times the loader.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate

from asrgan.configuration import compose
from asrgan.data import BicubicDegradation, Crops, open_source
from asrgan.engine import best_precision, start_average, update_average


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    config = compose("train", arguments.overrides)
    parts = _parts(config)
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for round_number in range(arguments.rounds + 1):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            if round_number:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    total = sum(medians.values())
    precision = best_precision(config["trainer"]["precision"], accelerator="cpu")
    crop, batch = config["data"]["crop_size_px"], config["data"]["batch_size"]
    print(f"batch {batch}, crop {crop} px, {precision}, {torch.get_num_threads()} threads\n")
    print("| part | ms | share |\n| --- | --- | --- |")
    for name, median in medians.items():
        print(f"| {name} | {1000 * median:.1f} | {median / total:.0%} |")
    print(f"| sum | {1000 * total:.1f} | |")


def _parts(config: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """The parts of `SuperResolution.training_step`, in its order."""
    generator_arguments = {k: v for k, v in config["generator"].items() if k != "weights"}
    generator = instantiate(generator_arguments).to(memory_format=torch.channels_last)
    discriminator = instantiate(config["discriminator"])
    losses = instantiate(config["loss"], _convert_="all")
    adversarial = losses.pop("adversarial")
    recipe = instantiate(config["optimizer"], _convert_="all")
    optimizer_g = recipe.generator(generator.parameters())
    average = start_average(generator)
    degradation = BicubicDegradation(scale=config["scale"])
    crop = config["data"]["crop_size_px"]
    pictures = torch.randint(0, 256, (config["data"]["batch_size"], 3, crop, crop)).byte()
    precision = best_precision(config["trainer"]["precision"], accelerator="cpu")
    state: dict[str, Any] = {}

    def autocast() -> torch.autocast:
        return torch.autocast(
            "cpu", torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False
        )

    def degrade() -> None:
        state["hr"] = pictures.to(memory_format=torch.channels_last).float().div_(255)
        lr_image = degradation(state["hr"], sample_numbers=range(len(pictures)))
        state["lr"] = lr_image.contiguous(memory_format=torch.channels_last)

    def generator_forward() -> None:
        with autocast():
            state["sr"] = generator(state["lr"])

    def content() -> None:
        with autocast():
            values = [
                x.weight * x(state["sr"], state["hr"]) for x in losses.values() if x is not None
            ]
        state["loss_g"] = sum(values, torch.zeros(()))

    def fool() -> None:
        with autocast():
            discriminator.requires_grad_(False)
            real = discriminator(state["hr"]) if adversarial.needs_real else None
            fake = discriminator(state["sr"])
            discriminator.requires_grad_(True)
        state["loss_g"] = state["loss_g"] + adversarial.weight * adversarial.generator_loss(
            real, fake
        )

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
    discriminator.to(memory_format=torch.channels_last)
    optimizer_d = recipe.discriminator(discriminator.parameters())

    def discriminator_forward() -> None:
        with autocast():
            logits = discriminator(state["hr"]), discriminator(state["sr"].detach())
        state["loss_d"] = adversarial.discriminator_loss(*logits)

    def discriminator_backward() -> None:
        state["loss_d"].backward()

    def discriminator_update() -> None:
        optimizer_d.step()
        optimizer_d.zero_grad()

    return parts | {
        "D forward for G": fool,
        "G backward (through D and losses)": generator_backward,
        "G update, average": generator_update,
        "D forward, real and fake": discriminator_forward,
        "D backward": discriminator_backward,
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
