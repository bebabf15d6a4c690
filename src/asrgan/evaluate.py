"""Compare models on benchmarks, with and without ground truth.

  asrgan evaluate 'models=[bicubic,FILE,NAME:FILE]' 'benchmarks=[DIR,DIR]' [key=value ...]

A model is `bicubic`, the name of a generator that comes with asrgan (`srgan_x4`), a
generator.safetensors, a .ckpt of `asrgan train`, a published SRGAN (.pth), or a folder that `asrgan
train` wrote; `*` and `?` match several. What is here and has the name of a published one is ./NAME.
The name in the tables is what stands before the colon, else the file's stem; generator.safetensors
is named after its folder.
A benchmark is a folder; its name is the folder's. What it holds decides which columns follow:
  HR/ and LRx4/ of equal names    all metrics
  HR/, pictures, or hr:DIR        all metrics; LR is made from the pictures
  LRx4/ alone, or lr:DIR          originals without ground truth: the metrics that need no HR

Examples:
  Two models, and how sure their difference is:
    asrgan evaluate 'models=[bicubic,netG_epoch_4_100.pth]' 'benchmarks=[data/Set5,data/Set14]'
  All runs of a sweep on small originals that have no HR partner:
    asrgan evaluate 'models=[bicubic,runs/*]' benchmarks=lr:originals
  Sign-off: exit code 3 where a model misses what is required:
    asrgan evaluate models=runs/asrgan 'benchmarks=[data/Set5,lr:originals]'
        'require={ssim_y: ">=0.75", consistency_db: ">=30"}'
  Several processes share the pictures:
    torchrun --nproc-per-node=2 -m asrgan evaluate ...

Writes to output_dir:
  summary.md                means with intervals, and differences; the protocol in the head
  summary.csv               the means of each benchmark and model: NAME, NAME_low, NAME_high, and
                            NAME_images, the number of pictures that have a value
  differences.csv           of each model from the baseline, paired by picture
  per_image.csv             a row for each model, benchmark and image
  galleries/BENCHMARK.png   the worst, the best and the most changed crops
  images/BENCHMARK/MODEL/   the pictures, with save_images=true
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from glob import glob
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from asrgan.configuration import as_texts
from asrgan.data import Benchmark, Originals, open_benchmark, split_benchmark
from asrgan.engine import Processes, join_processes
from asrgan.errors import RequirementsMissedError, UserError
from asrgan.files import write_text
from asrgan.hardware import find_device
from asrgan.inference import Upscaler, parse_memory
from asrgan.metrics import METRICS, Protocol
from asrgan.models import BicubicUpscaler, SRGANGenerator, load_generator
from asrgan.studies import (
    DIFFERENCE_COLUMNS,
    GENERATOR,
    Gallery,
    Requirement,
    Row,
    Scores,
    as_markdown,
    compare,
    find_misses,
    generator_file,
    generator_name,
    score,
    summarize,
    write_rows,
)
from asrgan.weights import published

log = logging.getLogger(__name__)

Generator = SRGANGenerator | BicubicUpscaler


def run(config: DictConfig, output_dir: Path) -> None:
    """Evaluates as the configuration says, and tells the means and where the tables are.

    Raises:
        UserError: something asked for is not there or does not fit together.
        RequirementsMissedError: the tables are written, and a mean misses what is required.
    """
    with join_processes() as processes:
        if not processes.is_first:
            logging.getLogger("asrgan").setLevel(logging.ERROR)
        output_dir = _share_folder(output_dir, processes)
        device = _device(config.device, processes)
        models = load_models(as_texts(config.models), scale=config.scale)
        requirements = _parse_requirements(config.require)
        metrics = as_texts(config.metrics) + [requirement.metric for requirement in requirements]
        protocol = Protocol(
            scale=config.scale,
            metrics=metrics,
            niqe=config.niqe,
            feature_network=instantiate(config.feature_network),
        ).to(device)
        _check_same_metrics(protocol, processes)
        benchmarks = open_benchmarks(
            as_texts(config.benchmarks),
            scale=config.scale,
            minimum_size_px=protocol.minimum_size_px,
            maximum_px=None if config.maximum_mpx is None else round(config.maximum_mpx * 1e6),
        )
        _check(config, models, benchmarks, protocol, requirements)
        galleries = _open_galleries(config, models, benchmarks, protocol)
        memory_bytes = parse_memory(config.memory)
        upscalers = {
            name: Upscaler(
                model, memory_bytes=memory_bytes, device=device, precision=config.precision
            )
            for name, model in models.items()
        }
        scores = score(
            {name: upscaler.upscale for name, upscaler in upscalers.items()},
            benchmarks,
            protocol,
            device=device,
            galleries=galleries,
            pictures=output_dir / "images" if config.save_images else None,
            processes=processes,
        )
    if scores is None:
        return  # the first process has them
    summary = _write_tables(config, output_dir, scores, benchmarks, protocol)
    for name, gallery in galleries.items():
        gallery.draw(output_dir / "galleries" / f"{name}.png", title=name)
        log.info("Gallery    %s", output_dir / "galleries" / f"{name}.png")
    _sign_off(requirements, summary, benchmarks)


def load_models(specifications: Sequence[str], *, scale: int) -> dict[str, Generator]:
    """Opens ``bicubic``, published names, files and run folders; ``*`` and ``?`` match files.

    Returns:
        Name in the tables -> model.

    Raises:
        UserError: no file matches, two models of one name, a file that is no generator, another
            scale.
    """
    models: dict[str, Generator] = {}
    for name, file in (pair for text in specifications for pair in _files_of(text)):
        if name in models:
            raise UserError(f"`models` has two models named `{name}`; name one: other:{file}")
        if Path(name).name != name:
            raise UserError(f"`models`: `{name}` cannot name a folder; leave out the slashes.")
        models[name] = BicubicUpscaler(scale=scale) if file == "bicubic" else load_generator(file)
        if models[name].scale != scale:
            raise UserError(
                f"`{file}` enlarges by {models[name].scale}, and `scale` is {scale}; compare models"
                " of one scale."
            )
    if not models:
        raise UserError("`models` names no model; try models=[bicubic].")
    return models


def _files_of(text: str) -> Iterator[tuple[str, str | Path]]:
    """Names and files, or words, that an entry of `models` stands for."""
    name, separator, pattern = text.partition(":")
    if not separator or Path(text).exists():
        name, pattern = "", text
    if pattern == "bicubic" or pattern in published():
        if Path(pattern).exists():
            log.info("`%s` is a name and no path; what is here is ./%s.", pattern, pattern)
        yield name or pattern, pattern
        return
    files = [Path(pattern)]
    if not files[0].exists():
        matches = map(Path, sorted(glob(pattern)))  # noqa: PTH207 - Path.glob takes no absolute one
        files = [file for file in matches if _is_model(file)] or files
    if name and len(files) > 1:
        raise UserError(f"`models`: {len(files)} files cannot all be named `{name}` ({text}).")
    for file in files:
        yield name or generator_name(file), generator_file(file)


def _is_model(file: Path) -> bool:
    return (file / GENERATOR).is_file() or file.suffix in (".safetensors", ".ckpt", ".pth")


def open_benchmarks(
    specifications: Sequence[str], *, scale: int, minimum_size_px: int, maximum_px: int | None
) -> list[Benchmark | Originals]:
    """Opens ``DIR``, ``hr:DIR`` and ``lr:DIR``.

    Raises:
        UserError: no folder, two of one name, or one without pictures that can be scored.
    """
    benchmarks: list[Benchmark | Originals] = []
    for text in specifications:
        benchmark = open_benchmark(
            text, scale=scale, minimum_size_px=minimum_size_px, maximum_px=maximum_px
        )
        if benchmark.name in [other.name for other in benchmarks]:
            raise UserError(f"`benchmarks` has two folders named `{benchmark.name}`; rename one.")
        kind, folder = split_benchmark(text)
        has_parts = any((Path(folder) / name).is_dir() for name in ("HR", f"LRx{scale}"))
        if not kind and not has_parts:
            log.info(
                "%s has no HR/, so its pictures are taken for HR and reduced. If they are originals"
                " to be enlarged, without ground truth: benchmarks=[lr:%s]",
                benchmark.name,
                folder,
            )
        benchmarks.append(benchmark)
    if not benchmarks:
        raise UserError("`benchmarks` names no folder; try benchmarks=[DIR].")
    return benchmarks


def _parse_requirements(require: Any) -> list[Requirement]:
    if require is not None and not isinstance(require, Mapping):
        raise UserError(
            f"`require` (={require}) must name metrics and bounds; try"
            " require={ssim_y: '>=0.75'} in quotes."
        )
    return [Requirement.parse(*item) for item in (require or {}).items()]


def _check(
    config: DictConfig,
    models: Mapping[str, Generator],
    benchmarks: Sequence[Benchmark | Originals],
    protocol: Protocol,
    requirements: Sequence[Requirement],
) -> None:
    """Refuses what cannot be answered before any work is done; says which columns follow."""
    if config.baseline is not None and str(config.baseline) not in models:
        raise UserError(f"`baseline` (={config.baseline}) must be one of {', '.join(models)}.")
    if not 0 < (config.confidence or 0) < 1:
        raise UserError(f"`confidence` (={config.confidence}) must lie between 0 and 1; try 0.95.")
    available: set[str] = set()
    for benchmark in benchmarks:
        columns = _columns(benchmark, protocol)
        if not columns:
            raise UserError(
                f"none of `metrics` can be had of {benchmark.name}, which has no ground truth;"
                " try metrics=[consistency_db]."
            )
        what = f"{len(benchmark)} {_kind(benchmark)}"
        log.info("%s: %s; columns: %s", benchmark.name, what, ", ".join(columns))
        available.update(columns)
    for metric in (requirement.metric for requirement in requirements):
        if metric in protocol.missing:
            raise UserError(f"`require.{metric}` cannot be checked: its weights are missing.")
        if metric not in available:
            raise UserError(
                f"`require.{metric}` needs ground truth, and no benchmark has any; add one that has"
                " HR/."
            )


def _columns(benchmark: Benchmark | Originals, protocol: Protocol) -> list[str]:
    has_hr = isinstance(benchmark, Benchmark)
    return [name for name in protocol.metrics if has_hr or not METRICS[name].needs_hr]


def _kind(benchmark: Benchmark | Originals) -> str:
    if isinstance(benchmark, Originals):
        return "originals without ground truth"
    return "pictures with ground truth" + ("" if benchmark.has_lr else ", from which LR is made")


def _open_galleries(
    config: DictConfig,
    models: Mapping[str, Generator],
    benchmarks: Sequence[Benchmark | Originals],
    protocol: Protocol,
) -> dict[str, Gallery]:
    settings = config.gallery
    if settings is None:
        return {}
    unknown = [name for name in settings.metrics if name not in METRICS]
    if unknown or settings.num_crops < 1:
        raise UserError(
            f"`gallery` takes `num_crops` (={settings.num_crops}) of at least 1, and `metrics`"
            f" (={settings.metrics}) out of {', '.join(METRICS)}."
        )
    size_px, grid_px = settings.crop_size_px, 2 * config.scale
    if size_px < grid_px or size_px % grid_px:
        raise UserError(
            f"`gallery.crop_size_px` (={size_px}) must be a positive multiple of {grid_px}, twice"
            f" the scale; try {max(1, size_px // grid_px) * grid_px}."
        )
    networks = [name for name, model in models.items() if not isinstance(model, BicubicUpscaler)]
    return {
        benchmark.name: Gallery(
            metric=next((n for n in settings.metrics if n in _columns(benchmark, protocol)), None),
            judged=networks or list(models),
            crop_size_px=size_px,
            num_crops=settings.num_crops,
        )
        for benchmark in benchmarks
    }


def _write_tables(
    config: DictConfig,
    output_dir: Path,
    scores: Scores,
    benchmarks: Sequence[Benchmark | Originals],
    protocol: Protocol,
) -> list[Row]:
    """Writes all tables and tells the means; returns the summary's rows."""
    if not scores.rows:
        raise UserError(f"no picture can be scored: {scores.left_out[benchmarks[0].name][0]}")
    asked = {*protocol.metrics, *protocol.missing}
    columns = [name for name in METRICS if name in asked]
    how: dict[str, Any] = {"metrics": columns, "confidence": config.confidence, "seed": config.seed}
    summary = summarize(scores.rows, **how)
    baseline = str(scores.rows[0]["model"] if config.baseline is None else config.baseline)
    differences = compare(scores.rows, baseline=baseline, **how)
    names = ["model", "benchmark", "image"]
    write_rows(output_dir / "per_image.csv", scores.rows, columns=[*names, *columns])
    write_rows(output_dir / "summary.csv", summary, columns=list(summary[0]))
    write_rows(output_dir / "differences.csv", differences, columns=DIFFERENCE_COLUMNS)
    parts = [
        protocol.description,
        f"Means over pictures [{config.confidence:.0%} interval, BCa bootstrap over pictures];"
        " (n of N): the others are too small for the metric, or exact and infinite. Differences"
        " are paired by picture; an interval without 0 shows one.",
    ]
    for benchmark in benchmarks:
        images = len({row["image"] for row in scores.rows if row["benchmark"] == benchmark.name})
        parts += [
            f"## {benchmark.name}: {images} {_kind(benchmark)}",
            as_markdown(summary, differences, benchmark=benchmark.name, metrics=columns),
            *(f"Left out: {reason}" for reason in scores.left_out[benchmark.name]),
        ]
    text = "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"
    write_text(output_dir / "summary.md", text)
    log.info("\n%s\nTables     %s", text, output_dir)
    return summary


def _sign_off(
    requirements: Sequence[Requirement],
    summary: Sequence[Row],
    benchmarks: Sequence[Benchmark | Originals],
) -> None:
    for benchmark in benchmarks:
        if all(row["benchmark"] != benchmark.name for row in summary):
            raise UserError(f"no picture of {benchmark.name} can be scored, as the table says.")
    has_ground_truth = {b.name: isinstance(b, Benchmark) for b in benchmarks}
    misses = find_misses(summary, requirements, has_ground_truth=has_ground_truth)
    if misses:
        raise RequirementsMissedError(f"`require` is missed: {'; '.join(misses)}.")
    if requirements:
        log.info("`require` is met by every model on every benchmark.")


def _check_same_metrics(protocol: Protocol, processes: Processes) -> None:
    first = processes.from_first(protocol.metrics)
    if protocol.metrics != first:
        unlike = ", ".join(sorted(set(first).symmetric_difference(protocol.metrics)))
        raise UserError(
            f"process {processes.rank} and the first one cannot compute the same metrics"
            f" ({unlike}): weights are missing for one of them."
        )


def _device(name: str, processes: Processes) -> torch.device:
    """The device of a name; ``auto`` deals out the GPUs of this machine."""
    device = find_device(name)
    if name == "auto" and device.type == "cuda":
        return torch.device("cuda", processes.local_rank % torch.cuda.device_count())
    return device


def _share_folder(output_dir: Path, processes: Processes) -> Path:
    """The first process's folder; each has made a fresh one where none is named."""
    shared = processes.from_first(output_dir)
    if shared != output_dir:
        with suppress(OSError):
            output_dir.rmdir()
    return shared
