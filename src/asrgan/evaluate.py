"""Compare models on benchmarks that have ground truth.

  asrgan evaluate 'models=[bicubic,FILE,NAME:FILE]' 'benchmarks=[DIR,DIR]' [key=value ...]

A model is `bicubic`, a generator.safetensors, a .ckpt of `asrgan train`, or a published SRGAN
(.pth); its name in the tables is the file's stem, or what stands before the colon.
A benchmark is a folder with HR/ and LRx4/ of equal names, or a plain folder of HR images from
which LR is made. Its name is the folder's.

Examples:
    asrgan evaluate 'models=[bicubic,netG_epoch_4_100.pth]' 'benchmarks=[data/Set5,data/Set14]'
    asrgan evaluate 'models=[srgan:runs/srgan/generator.safetensors,bicubic]' 'benchmarks=[photos]'
        save_images=true output_dir=comparison

Writes to output_dir:
  per_image.csv             a row for each model, benchmark and image
  summary.csv, summary.md   means over each benchmark's images; the protocol in the head
  images/BENCHMARK/MODEL/   the pictures, with save_images=true
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from asrgan.data import Benchmark
from asrgan.errors import UserError
from asrgan.files import atomic_path
from asrgan.imaging import write_image
from asrgan.metrics import METRICS, Protocol
from asrgan.models import BicubicUpscaler, load_generator
from asrgan.studies import Row, as_markdown, summarize, write_rows

log = logging.getLogger(__name__)


def run(config: DictConfig, output_dir: Path) -> None:
    """Evaluates as the configuration says, and tells the means and where the tables are."""
    device = torch.device(_device(config.device))
    models = load_models(config.models, scale=config.scale)
    protocol = Protocol(scale=config.scale, metrics=config.metrics).to(device)
    benchmarks = _open_benchmarks(config.benchmarks, config.scale, protocol.minimum_size_px)
    pictures = output_dir / "images" if config.save_images else None
    rows = list(score(models, benchmarks, protocol, device=device, pictures=pictures))
    write_rows(output_dir / "per_image.csv", rows)
    columns = [name for name in METRICS if name in config.metrics]
    summary = summarize(rows, metrics=columns)
    write_rows(output_dir / "summary.csv", summary)
    text = f"{protocol.description}\n\n{as_markdown(summary)}"
    with atomic_path(output_dir / "summary.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    log.info("%s\nTables: %s", text, output_dir)


def load_models(specifications: Sequence[str], *, scale: int) -> dict[str, nn.Module]:
    """Opens ``bicubic``, ``FILE`` and ``NAME:FILE``; the keys are the names in the tables.

    Raises:
        UserError: two models of one name, a file that is no generator, another scale.
    """
    models: dict[str, nn.Module] = {}
    for specification in specifications:
        name, separator, file = specification.partition(":")
        if not separator:
            name, file = Path(specification).stem, specification
        if name in models:
            raise UserError(f"`models` has two models named `{name}`; name one: other:{file}")
        models[name] = BicubicUpscaler(scale=scale) if file == "bicubic" else load_generator(file)
        if models[name].scale != scale:
            raise UserError(
                f"`{file}` enlarges by {models[name].scale}, and `scale` is {scale}; compare models"
                " of one scale."
            )
    if not models:
        raise UserError("`models` names no model; try models=[bicubic].")
    return models


def score(
    models: Mapping[str, nn.Module],
    benchmarks: Sequence[Benchmark],
    protocol: Protocol,
    *,
    device: torch.device,
    pictures: Path | None,
) -> Iterator[Row]:
    """A row of metrics for each model, benchmark and image; writes the pictures if asked."""
    asked = {*protocol.metrics, *protocol.missing}
    total = len(models) * sum(len(benchmark) for benchmark in benchmarks)
    with tqdm(total=total, desc="evaluating", unit="image") as bar, torch.inference_mode():
        for model_name, model in models.items():
            model.to(device).eval()
            for benchmark in benchmarks:
                for image in benchmark:
                    sr_image = model(image.lr_image[None].to(device))
                    hr_image, lr_image = (
                        picture[None].to(device) for picture in (image.hr_image, image.lr_image)
                    )
                    scores = protocol(sr_image, hr_image=hr_image, lr_image=lr_image)[0]
                    if pictures is not None:
                        path = pictures / benchmark.name / model_name / f"{image.name}.png"
                        write_image(path, sr_image[0])
                    names = {"model": model_name, "benchmark": benchmark.name, "image": image.name}
                    bar.update()
                    yield names | {name: scores.get(name) for name in METRICS if name in asked}


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"`device` (={name}) is not there: torch finds no GPU; try device=cpu.")
    return name


def _open_benchmarks(folders: Sequence[str], scale: int, minimum_size_px: int) -> list[Benchmark]:
    benchmarks = [
        Benchmark(folder, scale=scale, minimum_size_px=minimum_size_px) for folder in folders
    ]
    names = [benchmark.name for benchmark in benchmarks]
    if not names:
        raise UserError("`benchmarks` names no folder; try benchmarks=[DIR].")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"`benchmarks` has two folders named `{name}`; rename one.")
    return benchmarks
