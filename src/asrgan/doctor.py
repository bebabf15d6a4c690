"""Say what a network or a training will need before it starts: memory, time, operations.

  asrgan doctor weights=FILE|NAME size=WIDTHxHEIGHT [key=value ...]
  asrgan doctor experiment=NAME [key=value ...]

For a network the table has it as it is, without attention, and with attention in other places and
pooled otherwise; attention's share is in brackets. The attention map is never stored: a column says
what that would take. Memory is what the process of `asrgan upscale` holds for one picture that it
writes as PNG; `in files` is what it puts into temporary ones to keep within memory=. Time follows
from how fast this machine is just now.

For a training the table has the memory of an iteration, over crop and batch size of a device: as it
is, and with trainer.recompute=true, which computes feature maps twice instead of keeping them. It
is what the process holds on a CPU, and what torch holds on a GPU. Besides, photographs may stay in
memory (data.cache_mib). Keys are those of `asrgan train`; no photographs and weights are needed.

Examples:
    asrgan doctor weights=srgan_x4 size=2000x1500
    asrgan doctor weights=generator.safetensors size=4000x3000 memory=2GiB
    asrgan doctor weights=netG_epoch_4_100.pth size=500x375 places=[trunk] pool_sizes=[1,4]
    asrgan doctor experiment=asrgan_x4
    asrgan doctor experiment=srgan_x4 size=small crop_sizes_px=[512] batch_sizes=[1,2,3]
"""

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, ListConfig

from asrgan.configuration import as_texts
from asrgan.console import markdown_table
from asrgan.errors import UserError
from asrgan.hardware import find_device
from asrgan.inference import (
    MemoryBudgetError,
    Network,
    Upscaler,
    as_text,
    held_bytes,
    parse_memory,
    with_attention,
)
from asrgan.models import SRGANGenerator, load_generator
from asrgan.pictures import FORMATS

log = logging.getLogger(__name__)

Row = dict[str, str]

_COLUMNS = (
    "attention after",
    "pool",
    "positions",
    "map, if stored",
    "operations",
    "memory",
    "in files",
    "time",
)
_BYTES = (1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
_OPERATIONS = (1000, ("", "k", "M", "G", "T", "P", "E"))


def run(config: DictConfig, output_dir: Path) -> None:
    """Forecasts as the configuration says, and tells the table."""
    del output_dir  # nothing is written
    if config.weights is not None:
        _forecast_enlargement(config)
    elif config.size_px is not None:
        raise UserError("`size` is of an original to be enlarged, by a network: give weights=FILE.")
    else:
        _forecast_training(config)


def _forecast_enlargement(config: DictConfig) -> None:
    width, height = _size(config.size_px)
    weights = str(config.weights)
    generator = load_generator(weights)
    upscaler = Upscaler(
        generator,
        memory_bytes=parse_memory(config.memory),
        device=find_device(config.device),
        precision=config.precision,
    )
    places = as_texts(config.places or _places(generator))
    pool_sizes = _counts(config, "pool_sizes")
    rows = list(_rows(upscaler, generator, (height, width), places, pool_sizes))
    scale, memory = upscaler.scale, upscaler.memory_bytes
    log.info(
        "%s: x%d, %d blocks of %d features, in %s on %s with %d threads.\n"
        "%dx%d -> %dx%d px; %s; %s before the picture.\n\n%s",
        Path(weights).name,
        scale,
        generator.architecture["num_blocks"],
        generator.architecture["num_features"],
        upscaler.precision,
        upscaler.device,
        torch.get_num_threads(),
        width,
        height,
        scale * width,
        scale * height,
        f"memory={as_text(memory)}" if memory else "no limit of memory",
        _amount(upscaler.held_bytes(), _BYTES),
        _table(rows),
    )


def _forecast_training(config: DictConfig) -> None:
    # Only here: Lightning's 300 MiB would be in the forecast of what `asrgan upscale` holds.
    from asrgan.building import build_rehearsal
    from asrgan.engine import best_precision, is_on_gpu

    sizes = list(
        itertools.product(_counts(config, "crop_sizes_px"), _counts(config, "batch_sizes"))
    )
    for crop_size, _ in sizes:
        if crop_size % config.scale:
            raise UserError(
                f"`crop_sizes_px` (={config.crop_sizes_px}) must be multiples of"
                f" `scale` (={config.scale})."
            )
    accelerator = config.trainer.accelerator
    precision = best_precision(config.trainer.precision, accelerator=accelerator)
    has_gpu = is_on_gpu(accelerator)
    begun_bytes = 0 if has_gpu else held_bytes(torch.device("cpu"))
    rows = [
        {"crop": f"{crop_size} px", "batch": str(batch_size)} for crop_size, batch_size in sizes
    ]
    perceptual = config.loss.perceptual
    if perceptual is not None and perceptual.network.weights is None:
        perceptual.network.weights = "untrained"  # of the same size
    for recompute, column in ((False, "memory"), (True, "with trainer.recompute=true")):
        config.trainer.recompute = recompute
        module = build_rehearsal(config, precision=precision)
        for row, (crop_size, batch_size) in zip(rows, sizes, strict=True):
            peak_bytes = module.peak_bytes(crop_size_px=crop_size, batch_size=batch_size)
            row[column] = _amount(begun_bytes + peak_bytes, _BYTES)
    log.info(
        "%s: x%d, in %s on %s, optimizer.accumulate=%d.\n\n%s",
        config.experiment,
        config.scale,
        precision,
        "a GPU" if has_gpu else "a CPU",
        config.optimizer.accumulate,
        _table(rows),
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", str(text))
    if match is None:
        raise UserError(f"`size` (={text}) must be a width and a height in px; try 2000x1500.")
    return int(match[1]), int(match[2])


def _counts(config: DictConfig, key: str) -> list[int]:
    """One whole number of at least 1, or several."""
    value = config[key]
    counts = list(value) if isinstance(value, ListConfig) else [value]
    if not counts or any(not isinstance(count, int) or count < 1 for count in counts):
        raise UserError(f"`{key}` (={value}) must be whole numbers of at least 1.")
    return counts


def _places(generator: SRGANGenerator) -> list[str]:
    """Places whose features differ in size, or in what they are made of."""
    return ["head", f"block{(len(generator.blocks) + 1) // 2}", "trunk", "upsample1"]


def _rows(
    upscaler: Upscaler,
    generator: SRGANGenerator,
    size: tuple[int, int],
    places: Sequence[str],
    pool_sizes: Sequence[int],
) -> Iterator[Row]:
    """The network as it is, without attention, and with one place of it."""
    if generator.attention_layers:
        names = ", ".join(generator.attention_layers)
        yield _row(f"{names} (as it is)", upscaler, upscaler.network, size)
    yield _row("nothing", upscaler, with_attention(generator, []), size)
    for place in places:
        for pool_size in pool_sizes:
            attention = [{"after": place, "pool_size": pool_size}]
            yield _row(place, upscaler, with_attention(generator, attention), size)


def _row(name: str, upscaler: Upscaler, network: Network, size: tuple[int, int]) -> Row:
    height, width = size
    places = network.places
    pooled = [rows * columns for rows, columns in (p.pooled_size(height, width) for p in places)]
    row = dict.fromkeys(_COLUMNS, "") | {
        "attention after": name,
        "pool": ", ".join(str(place.pool_size) for place in places),
        "positions": ", ".join(f"{number:,}" for number in pooled),
    }
    # Besides, asrgan upscale holds the enlarged picture in 8 bits, and writes it then.
    num_px = upscaler.scale**2 * height * width if upscaler.device.type == "cpu" else 0
    try:
        forecast = upscaler.forecast(
            height,
            width,
            caller_bytes=3 * num_px,
            later_bytes=FORMATS["png"].working_bytes_per_px * num_px,
            network=network,
        )
    except MemoryBudgetError as error:
        return row | {"memory": f"at least {_amount(error.needed_bytes, _BYTES)}"}
    row["operations"] = _amount(forecast.num_operations, _OPERATIONS)
    row["memory"] = _amount(forecast.peak_bytes, _BYTES)
    row["time"] = _duration(forecast.seconds)
    if places:
        row["map, if stored"] = _amount(forecast.attention_map_bytes, _BYTES)
        row["operations"] += f" ({forecast.num_attention_operations / forecast.num_operations:.0%})"
        row["time"] += f" ({forecast.attention_seconds / forecast.seconds:.0%})"
    if forecast.plan.is_spilled:
        row["in files"] = _amount(forecast.plan.spilled_bytes, _BYTES)
    return row


def _amount(number: float, units: tuple[int, Sequence[str]]) -> str:
    """Three digits and a unit."""
    base, names = units
    power = 0
    while number >= 999.5 and power < len(names) - 1:
        number, power = number / base, power + 1
    return f"{number:.3g} {names[power]}".rstrip()


def _duration(seconds: float) -> str:
    """Two digits, or all before the point, and a unit."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number = seconds / length
        if number >= 2 or unit == "s":
            break
    return f"{number:.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"


def _table(rows: Sequence[Row]) -> str:
    columns = list(rows[0])
    return markdown_table([columns, *([row[c] for c in columns] for row in rows)]).rstrip()
