"""Enlarge pictures: one, a folder, or a list, of any size.

  asrgan upscale weights=FILE input=PATH output=PATH [key=value ...]

`input` is a picture, a folder (nested; hidden files are left out), or a list of pictures: a text
file with a path a line, or a CSV or Parquet table with a column `path` (column=NAME for another).
`output` is a folder, which gets the structure of the input, or a file name for one picture.

Examples:
    asrgan upscale weights=generator.safetensors input=room.jpg output=room_x4.png
    asrgan upscale weights=generator.safetensors input=photos output=large scale_to=2000 memory=4GiB
    asrgan upscale weights=netG_epoch_4_100.pth input=list.csv output=large format=webp quality=90

The network enlarges by its scale. With scale_to=2000 the long side then gets exactly 2000 px, by
antialiased reduction, or, where even the network's result is smaller, by bicubic interpolation;
an original that is as long already is copied.

Alpha is enlarged too, grey stays grey, 16 bits stay 16 bits, colour profile and EXIF are kept, the
orientation is applied; CMYK becomes sRGB. JPEG holds no transparency: a picture with any is an
error there. Originals are never replaced.

Writes to output, if it is a folder:
  the pictures   each appears whole or not at all
  results.csv    a row for each: sizes, times, peak memory, consistency (PSNR of the picture,
                 reduced again, against the original, in dB), notes, error
  recipe.json    weights and options, commit, versions

The same command goes on where it stopped, and does again what failed and what has a new original.
Other weights or options are refused in a folder with pictures, unless overwrite=true.
Exit code 0: every picture is there; 1: some are not, results.csv says why; 2: a mistake in the
command, or a full disk; 130: interrupted.
"""

import logging
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig
from PIL import Image
from tqdm import tqdm

from asrgan.errors import FailedPicturesError, InterruptedRunError, UserError
from asrgan.inference import Upscaler
from asrgan.inference.jobs import (
    LIST_SUFFIXES,
    TABLE,
    Job,
    OutputFolder,
    Recipe,
    Results,
    Worker,
    find_jobs,
    run_here,
)
from asrgan.pictures import FORMATS, format_of

log = logging.getLogger(__name__)

_NUM_GPU_WRITERS = 8  # a GPU enlarges faster than one thread encodes


def run(config: DictConfig, output_dir: Path) -> None:
    """Enlarges as the configuration says, and tells where the results are."""
    del output_dir  # `output` says where
    given, output = Path(config.input), Path(config.output)
    recipe = Recipe(
        weights=str(config.weights),
        scale_to=config.scale_to,
        format=config.format,
        quality=config.quality,
        bits=config.bits,
        precision=config.precision,
        attention=config.attention,
    )
    with _stopped_by_sigterm():
        if _names_a_picture(output):
            _enlarge_one(given, output, recipe, config)
        else:
            _enlarge_all(given, output, recipe, config)


def _enlarge_one(given: Path, output: Path, recipe: Recipe, config: DictConfig) -> None:
    if given.is_dir() or given.suffix.lower() in LIST_SUFFIXES:
        raise UserError(f"`output` (={output}) names one picture, but `input` many; name a folder.")
    if not given.exists():
        raise UserError(f"`input` (={given}) does not exist; give a picture, a folder or a list.")
    if recipe.format is not None and format_of(output) is not FORMATS[recipe.format]:
        raise UserError(f"`output` (={output}) is no name for format={recipe.format}.")
    if output.exists():
        if output.samefile(given):
            raise UserError(f"`output` (={output}) is the original; name another file.")
        if not config.overwrite:
            raise UserError(f"`output` (={output}) is there already; overwrite=true replaces it.")
    folder = OutputFolder(output.parent)
    worker = Worker(recipe, recipe_id="", folder=folder, upscaler=_open_upscaler(config))
    row = worker.write(worker.enlarge(worker.read(Job(given, str(given), output.name))))
    if row.error:
        raise UserError(row.error)
    sizes = f"{row.width_px}x{row.height_px} -> {row.output_width_px}x{row.output_height_px}"
    consistency = "" if row.consistency_db is None else f", consistency {row.consistency_db:.1f} dB"
    note = f" ({row.note})" if row.note else ""
    log.info("%s  %s, %.1f s%s%s", output, sizes, row.network_s, consistency, note)


def _enlarge_all(given: Path, output: Path, recipe: Recipe, config: DictConfig) -> None:
    jobs = find_jobs(given, output, recipe, column=config.column)
    upscaler = _open_upscaler(config)
    folder, description = OutputFolder(output), recipe.described()
    results = Results(folder, description, overwrite=config.overwrite)
    worker = Worker(recipe, recipe_id=results.recipe_id, folder=folder, upscaler=upscaler)
    remaining = results.remaining(jobs)
    num_writers = 1 if upscaler.device.type == "cpu" else _NUM_GPU_WRITERS
    is_terminal = sys.stderr.isatty()
    start, network_s, megapixels = time.perf_counter(), 0.0, 0.0
    with tqdm(
        total=len(jobs),
        initial=len(jobs) - len(remaining),
        desc="enlarging",
        unit="picture",
        dynamic_ncols=is_terminal,
        mininterval=0.5 if is_terminal else 30,
    ) as bar:
        try:
            for row in run_here(remaining, worker, num_writers=num_writers) if remaining else ():
                results.add(row)
                network_s += row.network_s or 0
                megapixels += (row.output_width_px or 0) * (row.output_height_px or 0) / 1e6
                speed = megapixels / (time.perf_counter() - start)
                bar.set_postfix_str(f"{speed:.2f} MP/s", refresh=False)
                bar.update()
        except KeyboardInterrupt:
            raise InterruptedRunError("Interrupted; the same command goes on from here.") from None
    seconds = time.perf_counter() - start
    if megapixels:
        share = network_s / seconds
        log.info("%.1f MP in %.1f s, %.0f%% of it in the network", megapixels, seconds, 100 * share)
    log.info("Pictures  %s\nResults   %s", output, output / TABLE)
    if results.failed:
        first = results.failed[0]
        raise FailedPicturesError(
            f"{len(results.failed)} of {len(jobs)} pictures failed, the first: {first.error}"
        )


def _open_upscaler(config: DictConfig) -> Upscaler:
    upscaler = Upscaler.from_file(
        config.weights,
        memory=config.memory,
        device=config.device,
        precision=config.precision,
        attention=config.attention,
    )
    if config.scale not in (None, upscaler.scale):
        raise UserError(
            f"`weights` (={config.weights}) enlarge by {upscaler.scale}, but `scale` is"
            f" {config.scale}; give weights of that scale, or scale=null."
        )
    return upscaler


def _names_a_picture(output: Path) -> bool:
    if output.is_dir() or output.suffix.lower() not in Image.registered_extensions():
        return False
    format_of(output)  # refuses what is read only
    return True


@contextmanager
def _stopped_by_sigterm() -> Generator[None]:
    """Lets SIGTERM end the work as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
