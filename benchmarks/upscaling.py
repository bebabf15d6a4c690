"""Upscaling of whole pictures: as everybody does it, in tiles, and as asrgan does it.

    python benchmarks/upscaling.py compare    # 500x375 -> 2000x1500, side by side
    python benchmarks/upscaling.py sizes      # time for a megapixel, 0.5 to 48 MP, within 4GiB
    python benchmarks/upscaling.py forecast   # forecasts and what is then measured
    python benchmarks/upscaling.py seams --weights FILE --picture PNG

The networks are SRGAN's generator with 16 blocks of 64 features, and A-SRGAN's: the same with
attention after the trunk, pooled by 4. Their weights are random, with an output as bright and as
varied as the photograph, and gamma is 0.5. Each measurement is a fresh process with two threads,
its memory the whole process's (VmHWM); a round has each row once.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage import data
from torch import Tensor
from torch.nn import functional as F

from asrgan.imaging import to_array, to_tensor, write_image
from asrgan.inference import Upscaler
from asrgan.models import SRGANGenerator, load_generator

THREADS = 2
TILE_PX, OVERLAP_PX = 256, 32
BUDGET_BYTES = 4 << 30
NETWORKS: dict[str, list[dict[str, object]]] = {
    "SRGAN": [],
    "A-SRGAN": [{"after": "trunk", "pool_size": 4}],
}
SIZES = ((204, 153), (500, 375), (1000, 750), (2000, 1500))  # of LR
FORECASTS = [
    # attention, width, height, budget in MiB beside what the process holds, or none
    ([], 300, 200, None),
    ([], 1000, 750, None),
    ([], 2000, 400, 100),
    ([{"after": "trunk", "pool_size": 4}], 500, 375, None),
    ([{"after": "trunk", "pool_size": 2}], 500, 375, None),
    ([{"after": "trunk", "pool_size": 4}], 1000, 750, 120),
    ([{"after": "head", "pool_size": 4}, {"after": "block8", "pool_size": 8}], 500, 375, None),
    ([{"after": "upsample1", "pool_size": 8}], 500, 375, None),
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
    """The whole picture in float32."""
    return generator(lr_image[None])[0]


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


def status_mib(key: str) -> float:
    """VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def measure_way(way: str, attention: list[dict[str, object]], width: int, height: int) -> Any:
    """Seconds, peak MiB and the picture of one way to upscale."""
    torch.set_num_threads(THREADS)
    generator, lr_image = build(attention), photograph(width, height)
    if way in ("whole", "tiles"):
        function = upscale_plainly if way == "whole" else upscale_in_tiles
        run: Callable[[Tensor], Tensor] = partial(function, generator)
    else:
        run = Upscaler(generator, memory_bytes=None, device="cpu", precision=way).upscale
        del generator
    with torch.no_grad():
        run(lr_image[:, :40, :40])  # loads the libraries
        start = time.perf_counter()
        sr_image = run(lr_image)
        seconds = time.perf_counter() - start
    return seconds, status_mib("VmHWM"), sr_image.numpy()


def measure_bands(
    attention: list[dict[str, object]], width: int, height: int, added_mib: int | None
) -> dict[str, float]:
    """An `Upscaler` within a budget, which writes to an 8-bit picture."""
    torch.set_num_threads(THREADS)
    upscaler = Upscaler(build(attention), memory_bytes=None, device="cpu", precision="auto")
    sr_image = np.empty((4 * height, 4 * width, 3), np.uint8)
    upscaler.memory_bytes = BUDGET_BYTES
    if added_mib is not None:
        upscaler.memory_bytes = upscaler.held_bytes() + sr_image.nbytes + (added_mib << 20)
    forecast = upscaler.forecast(height, width, caller_bytes=sr_image.nbytes)
    lr_image = photograph(width, height)
    start, top = time.perf_counter(), 0
    for band in upscaler.bands(lr_image, caller_bytes=sr_image.nbytes):
        sr_image[top : top + band.shape[1]] = to_array(band)
        top += band.shape[1]
    return {
        "seconds": time.perf_counter() - start,
        "forecast_s": forecast.seconds,
        "attention_s": forecast.attention_seconds,
        "peak_mib": status_mib("VmHWM"),
        "forecast_mib": forecast.peak_bytes / 2**20,
        "budget_mib": upscaler.memory_bytes / 2**20,
        "is_spilled": forecast.plan.is_spilled,
    }


def in_fresh_process(function: Callable[..., Any], *arguments: object) -> Any:
    """The function's result; its process ends with it."""
    # "spawn": a fork would inherit this process's peak.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def compare(rounds: int) -> list[Row]:
    """Each way for each network: median seconds, peak memory, largest difference."""
    ways = {
        "whole picture, float32, eager": "whole",
        f"tiles of {TILE_PX}, {OVERLAP_PX} px overlap": "tiles",
        "asrgan, float32": "float32",
        "asrgan, bfloat16": "bfloat16",
    }
    rows: list[Row] = []
    for name, attention in NETWORKS.items():
        results: dict[str, list[Any]] = {way: [] for way in ways.values()}
        for _ in range(rounds):
            for way, measured in results.items():
                measured.append(in_fresh_process(measure_way, way, attention, 500, 375))
        seconds = {w: statistics.median(m[0] for m in ms) for w, ms in results.items()}
        peaks = {w: max(m[1] for m in ms) for w, ms in results.items()}
        exact = results["whole"][0][2]
        for label, way in ways.items():
            difference = np.abs(results[way][0][2] - exact)
            rows.append(
                {
                    f"500x375 -> 2000x1500, {THREADS} threads": f"{name}: {label}",
                    "s": f"{seconds[way]:.2f}",
                    "faster": f"{seconds['whole'] / seconds[way]:.1f}",
                    "peak, MiB": f"{peaks[way]:.0f}",
                    "of the first": f"{peaks[way] / peaks['whole']:.2f}",
                    "largest difference": f"{difference.max():.1e}",
                    "in grey levels": f"{255 * difference.max():.2f}",
                    "mean": f"{255 * difference.mean():.3f}",
                }
            )
    return rows


def sizes(rounds: int) -> list[Row]:
    """Seconds for a megapixel of output; attention's share is what A-SRGAN takes beyond SRGAN."""
    rows: list[Row] = []
    for width, height in SIZES:
        megapixels = 16 * width * height / 1e6
        results = {
            name: [
                in_fresh_process(measure_bands, attention, width, height, None)
                for _ in range(rounds)
            ]
            for name, attention in NETWORKS.items()
        }
        plain, attended = (
            statistics.median(m["seconds"] for m in results[name]) for name in NETWORKS
        )
        rows.append(
            {
                "LR": f"{width}x{height}",
                "output, MP": f"{megapixels:.1f}",
                "SRGAN, s": f"{plain:.2f}",
                "s per MP": f"{plain / megapixels:.3f}",
                "A-SRGAN, s": f"{attended:.2f}",
                "attention": f"{1 - plain / attended:.0%}",
                "peak, MiB": " / ".join(
                    f"{max(m['peak_mib'] for m in ms):.0f}" for ms in results.values()
                ),
                "budget, MiB": f"{BUDGET_BYTES / 2**20:.0f}",
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
        ratios = sorted(m["seconds"] / m["forecast_s"] for m in results)
        first = results[0]
        places = ", ".join(f"{place['after']}/{place['pool_size']}" for place in attention)
        rows.append(
            {
                "attention after/pool": places or "none",
                "LR": f"{width}x{height}",
                "memory=, MiB": f"{first['budget_mib']:.0f}",
                "in a file": "yes" if first["is_spilled"] else "",
                "peak, MiB": f"{first['peak_mib']:.0f}",
                "forecast": f"{first['forecast_mib']:.0f}",
                "peak/forecast": f"{first['peak_mib'] / first['forecast_mib']:.2f}",
                "s": f"{first['seconds']:.2f}",
                "forecast, s": f"{first['forecast_s']:.2f}",
                "s/forecast": " ".join(f"{ratio:.2f}" for ratio in ratios),
            }
        )
    return rows


def draw_seams(weights: Path, picture: Path) -> None:
    """Around the corner of four tiles: exact, in tiles, and their difference, enlarged 16 times."""
    generator = load_generator(weights)
    for layer in generator.attention_layers.values():
        layer.gamma.data.fill_(0.5)
    image = to_tensor(data.astronaut())[:, :, :500]
    exact = Upscaler(generator, memory_bytes=None, device="cpu", precision="float32").upscale(image)
    with torch.no_grad():
        tiles = upscale_in_tiles(generator, image)
    corner = 4 * (TILE_PX - OVERLAP_PX // 2)
    area = slice(corner - 160, corner + 160)
    difference = 0.5 + 16 * (tiles - exact)
    panels = [panel[:, area, area] for panel in (exact, tiles, difference)]
    write_image(picture, F.pad(torch.cat([F.pad(p, (0, 4), value=1) for p in panels], 2), (0, -4)))
    print(f"largest difference {255 * (tiles - exact).abs().max():.1f} grey levels: {picture}")


def main() -> None:
    """Prints a table in Markdown, or draws a picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["compare", "sizes", "forecast", "seams"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--picture", type=Path, default=Path("docs/seams.png"))
    arguments = parser.parse_args()
    if arguments.part == "seams":
        draw_seams(arguments.weights, arguments.picture)
        return
    parts = {"compare": compare, "sizes": sizes, "forecast": forecasts}
    rows = parts[arguments.part](arguments.rounds)
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " --- |" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()
