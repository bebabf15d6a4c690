"""Enlarge pictures: one, a folder, or a list, of any size.

  asrgan upscale input=PATH [weights=FILE] [output=PATH] [key=value ...]

`input` is a picture, a folder (nested; hidden files are left out), or a list of pictures: a text
file with a path a line, or a CSV or Parquet table with a column `path` (column=NAME for another).
`output` is a folder, which gets the structure of the input (`upscaled`, unless another is named),
or a file name for one picture. `weights` is a file or the name of a generator that comes with
asrgan; a file of such a name is ./NAME. Without it, asrgan_x4 enlarges.

Examples:
    asrgan upscale input=room.jpg
    asrgan upscale weights=generator.safetensors input=room.jpg output=room_x4.png
    asrgan upscale weights=generator.safetensors input=photos output=large scale_to=2000 memory=4GiB
    asrgan upscale weights=netG_epoch_4_100.pth input=list.csv output=large format=webp quality=90

The network enlarges by its scale. With scale_to=2000 the long side then gets exactly 2000 px, by
antialiased reduction, or, where even the network's result is smaller, by bicubic interpolation;
an original that is as long already is copied.

Of a folder, files that are no pictures by their names are left out, and counted in a line.

Alpha is enlarged too, grey stays grey, 16 bits stay 16 bits, colour profile and EXIF are kept, the
orientation is applied; CMYK becomes sRGB. JPEG holds no transparency: a picture with any is an
error there. Originals are never replaced; one of more than 179 million px is refused.

Writes to output, if it is a folder:
  the pictures   each appears whole or not at all
  results.csv    a row for each: sizes, times, peak memory, consistency (PSNR of the picture,
                 reduced again, against the original, in dB), notes, error
  recipe.json    weights and options, commit, versions
  results.lock   held by the run that works here; unfinished.json, until it ends, what it is to make

The same command goes on where it stopped, and does again what failed and what has a new original.
Other weights or options are refused in a folder with pictures, unless overwrite=true.
Exit code 0: every picture is there; 1: some are not, results.csv says why; 2: a mistake in the
command, or a full disk; 130: interrupted.
"""

import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from omegaconf import DictConfig
from PIL import Image

from asrgan.console import open_bar
from asrgan.errors import FailedPicturesError, InterruptedRunError, UserError
from asrgan.inference import parse_memory
from asrgan.inference.jobs import (
    LIST_SUFFIXES,
    TABLE,
    Job,
    LocalEngine,
    RayEngine,
    Recipe,
    Results,
    Worker,
    find_jobs,
    folder_at,
    is_remote,
    one_line_for_the_disk,
)
from asrgan.models import load_generator
from asrgan.pictures import FORMATS, format_of

log = logging.getLogger(__name__)


def run(config: DictConfig, output_dir: Path) -> None:
    """Enlarges as the configuration says, and tells where the results are."""
    del output_dir  # `output` says where
    for key in ("input", "output", "column"):
        config[key] = str(config[key])  # Hydra reads a name like 2024 as a number
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
        if _names_a_picture(config.output):
            _enlarge_one(recipe, config)
            return
        try:
            _enlarge_all(recipe, config)
        except KeyboardInterrupt:
            raise InterruptedRunError("Interrupted; the same command goes on from here.") from None


def _names_a_picture(output: str) -> bool:
    suffix = Path(output).suffix.lower()
    if Path(output).is_dir() or suffix not in Image.registered_extensions():
        return False
    format_of(output)  # refuses what is only read
    return True


def _enlarge_one(recipe: Recipe, config: DictConfig) -> None:
    for key in ("input", "output"):
        if is_remote(config[key]):
            raise UserError(
                f"`output` (={config.output}) names one picture, which {key}={config[key]} in an"
                " object store cannot be; name a folder."
            )
    given, output = Path(config.input), Path(config.output)
    if given.is_dir() or given.suffix.lower() in LIST_SUFFIXES:
        raise UserError(f"`output` (={output}) names one picture, but `input` many; name a folder.")
    if not given.exists():
        raise UserError(f"`input` (={given}) does not exist; give a picture, a folder or a list.")
    if recipe.format is not None and format_of(output) is not FORMATS[recipe.format]:
        raise UserError(f"`output` (={output}) is no name for format={recipe.format}.")
    if recipe.bits == 16 and not format_of(output).holds_16_bits:
        raise UserError(f"`bits` (=16) is more than `output` (={output}) holds; try a .png.")
    if any(folder.is_file() for folder in output.parents):
        raise UserError(f"`output` (={output}) leads through a file; name a folder.")
    if output.exists():
        if output.samefile(given):
            raise UserError(f"`output` (={output}) is the original; name another file.")
        if not config.overwrite:
            raise UserError(f"`output` (={output}) is there already; overwrite=true replaces it.")
    worker = _worker(recipe, config, output=str(output.parent))
    (row,) = LocalEngine().run([Job(str(given), str(given), output.name)], worker)
    if row.error:
        raise FailedPicturesError(row.error)
    sizes = f"{row.width_px}x{row.height_px} -> {row.output_width_px}x{row.output_height_px}"
    consistency = "" if row.consistency_db is None else f", consistency {row.consistency_db:.1f} dB"
    note = f" ({row.note})" if row.note else ""
    log.info("%s  %s, %.1f s%s%s", output, sizes, row.network_s, consistency, note)


def _enlarge_all(recipe: Recipe, config: DictConfig) -> None:
    engine = _engine(config)
    if Path(config.output).is_file():
        raise UserError(f"`output` (={config.output}) is a file; name a folder.")
    folder = folder_at(config.output)
    others: list[tuple[str, str]] = []
    jobs = find_jobs(
        config.input, folder, recipe, column=config.column, report=lambda *why: others.append(why)
    )
    _tell_left_out(others)
    worker = _worker(recipe, config, output=config.output)
    start, network_s, megapixels = time.perf_counter(), 0.0, 0.0
    with (
        one_line_for_the_disk(config.output),
        Results(folder, recipe.described(), overwrite=config.overwrite) as results,
    ):
        remaining = results.remaining(jobs)
        with open_bar(
            total=len(jobs),
            initial=len(jobs) - len(remaining),
            desc="enlarging",
            unit="picture",
        ) as bar:
            for row in engine.run(remaining, replace(worker, recipe_id=results.recipe_id)):
                results.add(row)
                network_s += row.network_s or 0
                megapixels += (row.output_width_px or 0) * (row.output_height_px or 0) / 1e6
                speed = megapixels / (time.perf_counter() - start)
                bar.set_postfix_str(f"{speed:.2f} MP/s", refresh=False)
                bar.update()
    if megapixels:
        seconds = time.perf_counter() - start
        share = f", {network_s / seconds:.0%} of it in the network" * (config.engine == "local")
        log.info("%.1f MP in %.1f s%s", megapixels, seconds, share)
    log.info("Pictures  %s\nResults   %s", config.output, folder.locate(TABLE))
    if results.failed:
        first = results.failed[0]
        raise FailedPicturesError(
            f"{len(results.failed)} of {len(jobs)} pictures failed, the first: {first.error}"
        )


def _tell_left_out(names: Sequence[tuple[str, str]]) -> None:
    """One line for each reason: how many files with which suffix."""
    counts = Counter((reason, PurePosixPath(name).suffix.lower()) for name, reason in names)
    for reason in dict.fromkeys(reason for reason, _ in counts):
        suffixes = ", ".join(
            f"{count} {suffix or 'without a suffix'}"
            for (why, suffix), count in counts.most_common()
            if why == reason
        )
        log.info("Left out  %s: each %s", suffixes, reason)


def _engine(config: DictConfig) -> LocalEngine | RayEngine:
    if config.engine == "local":
        return LocalEngine()
    if config.engine == "ray":
        return RayEngine(**config.ray)
    raise UserError(f"`engine` (={config.engine}) must be local or ray.")


def _worker(recipe: Recipe, config: DictConfig, *, output: str) -> Worker:
    """Checks what can be checked without the machine that will do the work."""
    scale = load_generator(recipe.weights).scale
    log.info("Weights   %s", recipe.weights)
    if config.scale not in (None, scale):
        raise UserError(
            f"`weights` (={recipe.weights}) enlarge by {scale}, but `scale` is {config.scale};"
            " give weights of that scale, or scale=null."
        )
    if config.memory != "auto":
        parse_memory(config.memory)
    return Worker(recipe, recipe_id="", output=output, memory=config.memory, device=config.device)


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
