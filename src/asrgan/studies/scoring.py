"""Models x benchmarks -> rows, pictures, galleries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from asrgan.data import Benchmark, BenchmarkImage, OriginalImage, Originals
from asrgan.engine import Processes
from asrgan.errors import DivergedError, UnreadableImageError, UserError
from asrgan.imaging import to_array, write_image
from asrgan.metrics import Protocol
from asrgan.studies.figures import Picture
from asrgan.studies.gallery import Gallery
from asrgan.studies.tables import Row

Model = Callable[[Tensor], Tensor]
"""(3, H, W) in [0, 1] to (3, scale * H, scale * W)."""


@dataclass(frozen=True)
class Scores:
    """What the models reached.

    Attributes:
        rows: with ``model``, ``benchmark``, ``image`` and the metrics; in the order of the models,
            benchmarks, pictures.
        left_out: benchmark -> why a picture has no row, a sentence for each.
    """

    rows: list[Row]
    left_out: dict[str, list[str]]


def score(
    models: Mapping[str, Model],
    benchmarks: Sequence[Benchmark | Originals],
    protocol: Protocol,
    *,
    device: torch.device,
    galleries: Mapping[str, Gallery],
    pictures: Path | None,
    processes: Processes,
) -> Scores | None:
    """Enlarges each picture with each model and judges the results.

    Processes share the pictures; each picture is scored by exactly one.

    Args:
        models: name -> model.
        benchmarks: with or without ground truth.
        protocol: the metrics.
        device: where the metrics are computed.
        galleries: benchmark's name -> what collects its examples.
        pictures: folder for the results, written by the process that made them; None: not kept.
        processes: this one and the others.

    Returns:
        All scores at the first process, None at the others. A picture that is damaged, or that a
        model cannot enlarge, has no row for any model; the reason is in ``left_out``.

    Raises:
        DivergedError: a model whose results are not finite. Such a picture must not be left out: a
            model would be judged by those that it does not spoil.
    """
    scored: list[tuple[tuple[int, int, int], Row]] = []
    damaged: list[tuple[tuple[int, int], str]] = []
    places = [(b, i) for b, benchmark in enumerate(benchmarks) for i in range(len(benchmark))]
    own = [place for number, place in enumerate(places) if processes.owns(number)]
    bar = tqdm(
        total=len(own) * len(models),
        desc="evaluating",
        unit="image",
        disable=not processes.is_first,
    )
    with bar, torch.inference_mode():
        for b, i in own:
            benchmark = benchmarks[b]
            try:
                image = benchmark[i]
                versions, values = _apply(models, image, protocol, device=device)
            except DivergedError:
                raise
            except UnreadableImageError as error:
                damaged.append(((b, i), str(error)))
                continue
            except UserError as error:  # of this picture; others can be scored
                damaged.append(((b, i), f"{benchmark.names[i]}: {error}"))
                continue
            finally:
                bar.update(len(models))
            for m, model in enumerate(models):
                names = {"model": model, "benchmark": benchmark.name, "image": image.name}
                scored.append(((m, b, i), names | values[model]))
                if pictures is not None:
                    folder = pictures / benchmark.name / model
                    write_image(folder / f"{image.name}.png", versions[model])
            if benchmark.name in galleries:
                galleries[benchmark.name].add(image, versions, scores=values)
    return _collect(scored, damaged, benchmarks, galleries, processes)


def _apply(
    models: Mapping[str, Model],
    image: BenchmarkImage | OriginalImage,
    protocol: Protocol,
    *,
    device: torch.device,
) -> tuple[dict[str, Picture], dict[str, dict[str, float | None]]]:
    """Each model's version of a picture, and its values."""
    versions: dict[str, Picture] = {}
    values: dict[str, dict[str, float | None]] = {}
    hr_image = image.hr_image[None].to(device) if isinstance(image, BenchmarkImage) else None
    lr_image = image.lr_image[None].to(device)
    for model, enlarge in models.items():
        try:
            sr_image = enlarge(image.lr_image)
        except DivergedError as error:
            raise DivergedError(f"{model}, {image.name}: {error}") from error
        (values[model],) = protocol(sr_image[None].to(device), hr_image=hr_image, lr_image=lr_image)
        versions[model] = to_array(sr_image)
    return versions, values


def _collect(
    scored: list[tuple[tuple[int, int, int], Row]],
    damaged: list[tuple[tuple[int, int], str]],
    benchmarks: Sequence[Benchmark | Originals],
    galleries: Mapping[str, Gallery],
    processes: Processes,
) -> Scores | None:
    """Everybody's results in the order in which a single process makes them."""
    examples = {name: gallery.examples for name, gallery in galleries.items()}
    parts = processes.gather((scored, damaged, examples))
    if not processes.is_first:
        return None
    for _, _, theirs in parts[1:]:
        for name, gallery in galleries.items():
            gallery.extend(theirs[name])
    left_out = {b.name: list(b.left_out.values()) for b in benchmarks}
    for (b, _), reason in sorted(place for _, part, _ in parts for place in part):
        left_out[benchmarks[b].name].append(reason)
    rows = sorted((row for part, _, _ in parts for row in part), key=lambda row: row[0])
    return Scores([row for _, row in rows], left_out)
