"""Upscaling of whole pictures: as everybody does it, in tiles, and as asrgan does it.

    python benchmarks/upscaling.py compare     # 500x375 -> 2000x1500, side by side
    python benchmarks/upscaling.py sizes       # time for a megapixel, 0.5 to 48 MP, within 4GiB
    python benchmarks/upscaling.py forecast    # within less: forecast and measured
    python benchmarks/upscaling.py profile     # where the time goes
    python benchmarks/upscaling.py seams       # docs/seams.png

The networks are SRGAN's generator with 16 blocks of 64 features, and A-SRGAN's: the same with
attention after the trunk, pooled by 4; `--network` names one of them. Their weights are random,
with an output as bright and as varied as the photograph, and gamma is 0.5. Each measurement is a
fresh process with two threads, its memory the whole process's; a round has each row once.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain_layers import use_layers_of_torch
from skimage import data
from torch import Tensor

from asrgan.imaging import bicubic_downscale, to_array, to_tensor, write_image
from asrgan.inference import Upscaler
from asrgan.inference.attention import RowAttention
from asrgan.inference.memory import PeakMemory
from asrgan.models import SRGANGenerator

THREADS = 2
TILE_PX, OVERLAP_PX = 256, 32
BUDGET_BYTES = 4 << 30
NETWORKS: dict[str, list[dict[str, object]]] = {
    "SRGAN": [],
    "A-SRGAN": [{"after": "trunk", "pool_size": 4}],
}
SIZES = ((204, 153), (500, 375), (1000, 750), (2000, 1500))  # of LR
FORECASTS: list[tuple[list[dict[str, object]], int, int, int | None]] = [
    # attention, width, height, budget in MiB beside what the process and the picture hold, or none
    ([], 300, 200, None),
    ([], 500, 375, 60),
    ([{"after": "trunk", "pool_size": 4}], 500, 375, 70),
    ([{"after": "trunk", "pool_size": 2}], 500, 375, None),
    ([{"after": "head", "pool_size": 4}, {"after": "block8", "pool_size": 8}], 500, 375, None),
    ([{"after": "upsample1", "pool_size": 8}], 500, 375, None),
    ([], 2000, 200, 155),
    ([{"after": "trunk", "pool_size": 8}], 2000, 400, 140),
    ([], 4000, 100, 280),
    ([{"after": "trunk", "pool_size": 8}], 4000, 200, 280),
]

Row = dict[str, str]


def build(attention: Sequence[Mapping[str, object]]) -> SRGANGenerator:
    """Random weights, the same for the same attention."""
    torch.manual_seed(1)
    generator = SRGANGenerator(
        scale=4,
        num_features=64,
        num_blocks=16,
        norm="batch",
        trunk_end="norm",
        output="linear",
        spectral_norm=False,
        spectral_norm_output=False,
        attention=attention,
        pool_size=4,
        attention_resize="transposed",
    ).eval()
    for layer in generator.attention_layers.values():
        layer.gamma.data.fill_(0.5)
    sample = photograph(96, 96)
    with torch.no_grad():
        sr_sample = generator(sample[None])
        factor = sample.std() / sr_sample.std()
        generator.tail.weight.mul_(factor)
        assert generator.tail.bias is not None
        generator.tail.bias.sub_(sr_sample.mean()).mul_(factor).add_(sample.mean())
    return generator


def photograph(width: int, height: int) -> Tensor:
    """A picture of that size, a photograph repeated where it is too small; (3, H, W)."""
    image = to_tensor(data.coffee())
    repeats = (1, -(-height // image.shape[1]), -(-width // image.shape[2]))
    return image.repeat(repeats)[:, :height, :width].contiguous()


def upscale_plainly(generator: SRGANGenerator, lr_image: Tensor) -> Tensor:
    """The whole picture in the generator's precision."""
    return generator(lr_image[None].to(generator.tail.weight.dtype))[0].float()


def upscale_in_tiles(generator: SRGANGenerator, lr_image: Tensor) -> Tensor:
    """Tiles in float32; each gives what is nearer to it than to its neighbours."""
    _, height, width = lr_image.shape
    scale, margin = generator.scale, OVERLAP_PX // 2
    step = TILE_PX - OVERLAP_PX
    sr_image = torch.empty(3, scale * height, scale * width)
    for top in range(0, max(height - OVERLAP_PX, 1), step):
        for left in range(0, max(width - OVERLAP_PX, 1), step):
            tile = generator(lr_image[None, :, top : top + TILE_PX, left : left + TILE_PX])[0]
            first_row, first_column = (margin if top else 0), (margin if left else 0)
            sr_image[
                :,
                scale * (top + first_row) : scale * (top + TILE_PX),
                scale * (left + first_column) : scale * (left + TILE_PX),
            ] = tile[:, scale * first_row :, scale * first_column :]
    return sr_image


def peak_mib() -> float:
    """The most that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: in KiB


def measure_way(way: str, attention: list[dict[str, object]], width: int, height: int) -> Any:
    """Seconds, peak MiB and the picture of one way to upscale."""
    torch.set_num_threads(THREADS)
    generator, lr_image = build(attention), photograph(width, height)
    run: Callable[[Tensor], Tensor]
    if way == "tiles":
        use_layers_of_torch(generator)
        run = partial(upscale_in_tiles, generator)
    elif way.startswith("whole"):
        use_layers_of_torch(generator)
        run = partial(upscale_plainly, generator.bfloat16() if way == "whole bf16" else generator)
    else:
        run = Upscaler(generator, memory_bytes=None, device="cpu", precision=way).upscale
        del generator
    with torch.no_grad():
        run(lr_image[:, :40, :40])  # loads the libraries
        start = time.perf_counter()
        sr_image = run(lr_image)
        seconds = time.perf_counter() - start
    return seconds, peak_mib(), sr_image.numpy()


def measure_bands(
    attention: list[dict[str, object]], width: int, height: int, added_mib: int | None
) -> dict[str, float]:
    """An `Upscaler` within a budget, which writes to an 8-bit picture."""
    attending: list[float] = []
    attend = RowAttention.attend

    def timed_attend(self: RowAttention) -> None:
        start = time.perf_counter()
        attend(self)
        attending.append(time.perf_counter() - start)

    RowAttention.attend = timed_attend
    torch.set_num_threads(THREADS)
    upscaler = Upscaler(build(attention), memory_bytes=None, device="cpu", precision="auto")
    sr_image = np.empty((4 * height, 4 * width, 3), np.uint8)
    upscaler.memory_bytes = BUDGET_BYTES
    if added_mib is not None:
        upscaler.memory_bytes = upscaler.held_bytes() + sr_image.nbytes + (added_mib << 20)
    forecast = upscaler.forecast(height, width, caller_bytes=sr_image.nbytes)
    lr_image = photograph(width, height)
    attending.clear()
    with PeakMemory(upscaler.device) as peak:
        start, top = time.perf_counter(), 0
        for band in upscaler.bands(lr_image, caller_bytes=sr_image.nbytes):
            sr_image[top : top + band.shape[1]] = to_array(band)
            top += band.shape[1]
        seconds = time.perf_counter() - start
    assert peak.mib is not None
    return {
        "seconds": seconds,
        "attending_s": sum(attending),
        "forecast_s": forecast.seconds,
        "attention_s": forecast.attention_seconds,
        "peak_mib": peak.mib,
        "forecast_mib": forecast.peak_bytes / 2**20,
        "budget_mib": upscaler.memory_bytes / 2**20,
        "is_spilled": forecast.plan.is_spilled,
    }


def in_fresh_process(function: Callable[..., Any], *arguments: object) -> Any:
    """The function's result; its process ends with it."""
    # "spawn": a fork would inherit this process's peak.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def compare(networks: Sequence[str], rounds: int) -> list[Row]:
    """Each way for each network: seconds, peak memory, largest difference."""
    ways = {
        "whole picture, float32, eager": "whole",
        "whole picture, bfloat16, eager": "whole bf16",
        f"tiles of {TILE_PX}, {OVERLAP_PX} px overlap, float32": "tiles",
        "asrgan, float32": "float32",
        "asrgan, bfloat16": "bfloat16",
    }
    rows: list[Row] = []
    for name in networks:
        results: dict[str, list[Any]] = {way: [] for way in ways.values()}
        for _ in range(rounds):
            for way, measured in results.items():
                measured.append(in_fresh_process(measure_way, way, NETWORKS[name], 500, 375))
        peaks = {way: max(m[1] for m in measured) for way, measured in results.items()}
        exact = results["whole"][0][2]
        for label, way in ways.items():
            seconds = [m[0] for m in results[way]]
            ratios = [m[0] / s for m, s in zip(results["whole"], seconds, strict=True)]
            difference = 255 * np.abs(results[way][0][2] - exact)
            rows.append(
                {
                    "network": name,
                    f"500x375 -> 2000x1500, {THREADS} threads": label,
                    "s": f"{statistics.median(seconds):.2f}",
                    "times faster": f"{statistics.median(ratios):.2f} ({spread(ratios)})",
                    "peak, MiB": f"{peaks[way]:.0f}",
                    "of the first": f"{peaks[way] / peaks['whole']:.2f}",
                    "largest difference, grey levels": f"{difference.max():.2g}",
                    "mean": f"{difference.mean():.2g}",
                }
            )
    return rows


def sizes(networks: Sequence[str], rounds: int) -> list[Row]:
    """Seconds for a megapixel of output, and attention's part in it."""
    rows: list[Row] = []
    for name in networks:
        for width, height in SIZES:
            megapixels = 16 * width * height / 1e6
            results = [
                in_fresh_process(measure_bands, NETWORKS[name], width, height, None)
                for _ in range(rounds)
            ]
            seconds, attending_s = (
                statistics.median(m[key] for m in results) for key in ("seconds", "attending_s")
            )
            rows.append(
                {
                    "network": name,
                    "LR": f"{width}x{height}",
                    "output, MP": f"{megapixels:.1f}",
                    "s": f"{seconds:.2f}",
                    "s per MP without attention": f"{(seconds - attending_s) / megapixels:.3f}",
                    "attention, s": f"{attending_s:.2f}",
                    **_against_forecast(results),
                }
            )
    return rows


def forecasts(rounds: int) -> list[Row]:
    """What was forecast, and what was measured then."""
    rows: list[Row] = []
    for attention, width, height, added_mib in FORECASTS:
        results = [
            in_fresh_process(measure_bands, attention, width, height, added_mib)
            for _ in range(rounds)
        ]
        places = ", ".join(f"{place['after']} {place['pool_size']}" for place in attention)
        rows.append(
            {
                "attention after, pool": places or "nothing",
                "LR": f"{width}x{height}",
                "in a file": "yes" if results[0]["is_spilled"] else "",
                "s": f"{statistics.median(m['seconds'] for m in results):.2f}",
                **_against_forecast(results),
            }
        )
    return rows


def _against_forecast(results: Sequence[Mapping[str, float]]) -> Row:
    first = results[0]
    return {
        "s / forecast": spread([m["seconds"] / m["forecast_s"] for m in results]),
        "peak, MiB": f"{max(m['peak_mib'] for m in results):.0f}",
        "memory=, MiB": f"{first['budget_mib']:.0f}",
        "peak / forecast": spread([m["peak_mib"] / m["forecast_mib"] for m in results]),
    }


def spread(values: Sequence[float]) -> str:
    """The smallest and the largest."""
    least, most = f"{min(values):.2f}", f"{max(values):.2f}"
    return least if least == most else f"{least} to {most}"


def profile(networks: Sequence[str]) -> list[Row]:
    """Seconds of torch's operators in one 500x375 picture, those of more than 2%."""
    torch.set_num_threads(THREADS)
    rows: list[Row] = []
    for name in networks:
        generator = build(NETWORKS[name])
        upscaler = Upscaler(generator, memory_bytes=None, device="cpu", precision="bfloat16")
        upscaler.upscale(photograph(96, 96))
        with torch.profiler.profile(record_shapes=True) as profiler:
            upscaler.upscale(photograph(500, 375))
        events = profiler.key_averages(group_by_input_shape=True)
        total = sum(event.self_cpu_time_total for event in events)
        for event in sorted(events, key=lambda event: -event.self_cpu_time_total):
            if event.self_cpu_time_total > 0.02 * total:
                shapes = [shape for shape in event.input_shapes if len(shape) > 1][:2]
                rows.append(
                    {
                        "network": name,
                        "operator": event.key.removeprefix("aten::"),
                        "shapes": " ".join("x".join(map(str, shape)) for shape in shapes),
                        "calls": str(event.count),
                        "share": f"{event.self_cpu_time_total / total:.0%}",
                    }
                )
    return rows


def draw_seams(picture: Path) -> None:
    """A corner of a photograph, and what tiles change of it in A-SRGAN, 64 times as strong."""
    generator, image = build(NETWORKS["A-SRGAN"]), to_tensor(data.astronaut())
    exact = Upscaler(generator, memory_bytes=None, device="cpu", precision="float32").upscale(image)
    with torch.no_grad():
        difference = upscale_in_tiles(generator, image) - exact
    seams = 0.5 + 64 * bicubic_downscale(difference[None], scale=generator.scale)[0]
    corner = (..., slice(256, None), slice(256, None))
    write_image(picture, to_array(torch.cat([image[corner], seams[corner]], dim=2)))
    print(f"{picture}: largest difference {255 * difference.abs().max():.1f} grey levels")


def main() -> None:
    """Prints a table in Markdown, or draws a picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts: dict[str, Callable[[], list[Row]]] = {
        "compare": lambda: compare(networks, arguments.rounds),
        "sizes": lambda: sizes(networks, arguments.rounds),
        "forecast": lambda: forecasts(arguments.rounds),
        "profile": lambda: profile(networks),
    }
    parser.add_argument("part", choices=[*parts, "seams"])
    parser.add_argument("--network", choices=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture", type=Path, default=Path("docs/seams.png"))
    arguments = parser.parse_args()
    networks = [arguments.network] if arguments.network else list(NETWORKS)
    if arguments.part == "seams":
        draw_seams(arguments.picture)
        return
    rows = parts[arguments.part]()
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " --- |" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()
