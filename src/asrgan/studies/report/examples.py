"""Pictures for the page: crops of every recipe, and where their attention looks."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.data import Benchmark, BenchmarkImage, OriginalImage, Originals
from asrgan.errors import UserError
from asrgan.imaging import bicubic_upscale, to_array, to_tensor
from asrgan.inference import Upscaler
from asrgan.metrics import METRICS, psnr_y, ssim_y
from asrgan.models import FlexibleSelfAttention, SRGANGenerator, load_generator
from asrgan.studies.figures import Picture, highest_crops
from asrgan.studies.report.results import ImageKey, Run, StudyResults

log = logging.getLogger(__name__)

_OVERVIEW_PX = 320  # long side of the picture that shows where a crop is
_NUM_QUERIES = 14  # along the long side, for the attention explorer
_NUM_KEYS = 28
_ATTENTION_LR_PX = 1 << 16  # pictures with more LR pixels are left out of the explorer


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """Where one FSA layer looks in one picture.

    Attributes:
        place: that it follows.
        gamma: weight of its result.
        share: 2-norm of what it adds over that of what it adds to.
        maps: (queries down, queries across, keys down, keys across) uint8: the attention of a
            point, pooled, as the root of its share of the query's largest.
        breadth: (queries down, queries across): exp(entropy) over the number of positions; 1 looks
            everywhere alike.
    """

    place: str
    gamma: float
    share: float
    maps: NDArray[np.uint8]
    breadth: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CropExample:
    """A crop of one picture by all recipes.

    Attributes:
        image: the picture.
        size_px: height and width of the result.
        place: top, left and side of the crop in the result, px.
        overview: the whole picture, reduced.
        lr_crop: the crop of LR.
        crops: recipe -> crop of its result.
        hr_crop: the crop of the ground truth; None: there is none.
        crop_scores: recipe -> metric -> value of the crop; empty without ground truth.
        change: mean difference between the most unlike variants at a pixel, in grey levels.
        attention: recipe -> its layers; empty where nothing attends, or of a picture that is not
            among those of the explorer.
    """

    image: ImageKey
    size_px: tuple[int, int]
    place: tuple[int, int, int]
    overview: Picture
    lr_crop: Picture
    crops: Mapping[str, Picture]
    hr_crop: Picture | None
    crop_scores: Mapping[str, Mapping[str, float]]
    change: float
    attention: Mapping[str, Sequence[AttentionLayer]] = field(default_factory=dict)


def choose_images(results: StudyResults, *, count: int) -> list[ImageKey]:
    """The pictures to show: by rule, not by taste.

    A third each are those where the variants gain most over the baseline by the study's metric,
    where they lose most, and where they are most unlike each other; in the order of the tables.

    Args:
        results: of the study.
        count: how many, at most.
    """
    gains: list[NDArray[np.float64]] = []
    baseline = _mean_values(results, results.baseline)
    sign = 1 if METRICS[results.metric].is_higher_better else -1
    for variant in results.models("variant"):
        values = _mean_values(results, variant)
        if variant != results.baseline and values is not None and baseline is not None:
            gains.append(sign * (values - baseline))
    if not gains:
        return list(results.images[:: max(1, len(results.images) // max(1, count))][:count])
    table = np.nan_to_num(np.stack(gains), nan=0.0, posinf=0.0, neginf=0.0)
    gain = table.mean(axis=0)
    spread = np.vstack([table, np.zeros_like(gain)])  # the baseline is one of those that differ
    unlike = spread.max(axis=0) - spread.min(axis=0)
    rankings = [np.argsort(-gain, kind="stable"), np.argsort(gain, kind="stable"),
                np.argsort(-unlike, kind="stable")]  # fmt: skip
    chosen: dict[int, None] = {}
    for candidates in zip(*rankings, strict=True):
        for index in candidates:
            if len(chosen) < count:
                chosen[int(index)] = None
    return [results.images[index] for index in sorted(chosen)]


def _mean_values(results: StudyResults, model: str) -> NDArray[np.float64] | None:
    runs = list(results.values(model, results.metric).values())
    return np.mean(runs, axis=0) if runs else None


def shown_runs(results: StudyResults) -> dict[str, Run]:
    """Recipe -> the run whose pictures are shown: of the first seed that most recipes have."""
    usable = [run for run in results.runs if run.generator is not None and run.scores is not None]
    seeds = [seed for seed in results.seeds if any(run.seed == seed for run in usable)]
    seed = max(seeds, key=lambda s: sum(run.seed == s for run in usable), default=None)
    shown: dict[str, Run] = {}
    for run in usable:
        if run.model not in shown or run.seed == seed:
            shown[run.model] = run
    return {model: shown[model] for model in results.models() if model in shown}


def make_examples(
    results: StudyResults,
    benchmarks: Mapping[str, Benchmark | Originals],
    *,
    count: int,
    num_explored: int,
    crop_size_px: int,
    device: str,
    advance: Callable[[], object],
) -> list[CropExample]:
    """Enlarges the chosen pictures by one run of each recipe.

    Args:
        results: of the study.
        benchmarks: by name; pictures of others, and what is gone or damaged, are left out.
        count: pictures, at most.
        num_explored: of these, how many have attention maps.
        crop_size_px: side of a crop of the result, a multiple of the scale.
        device: of torch; ``auto`` is the GPU where there is one.
        advance: called after each picture of each recipe.
    """
    keys = [key for key in choose_images(results, count=count) if key[0] in benchmarks]
    if not keys:
        return []
    files = {m: file for m, run in shown_runs(results).items() if (file := run.generator)}
    upscalers = {model: Upscaler.from_file(file, device=device) for model, file in files.items()}
    loaded = {model: load_generator(file) for model, file in files.items()}
    attending = {model: g for model, g in loaded.items() if g.attention_layers}
    compared = [model for model in results.models("variant") if model in files]
    examples: list[CropExample] = []
    for key in keys:  # whole results are held of one picture at a time
        try:
            image = _open_image(benchmarks[key[0]], key[1])
        except UserError as error:
            log.warning("Without pictures: %s", error)
            continue
        enlarged: dict[str, Picture] = {}
        for model, upscaler in upscalers.items():
            enlarged[model] = to_array(upscaler.upscale(image.lr_image))
            advance()
        is_small = math.prod(image.lr_image.shape[1:]) <= _ATTENTION_LR_PX
        is_explored = is_small and num_explored > 0
        num_explored -= is_explored
        example = _example(
            key,
            image,
            enlarged,
            compared=compared,
            scale=results.scale,
            crop_size_px=crop_size_px,
            attention={
                model: look(generator, image.lr_image)
                for model, generator in attending.items()
                if is_explored
            },
        )
        examples.append(example)
    return examples


def _open_image(benchmark: Benchmark | Originals, name: str) -> BenchmarkImage | OriginalImage:
    if name not in benchmark.names:
        raise UserError(f"{benchmark.name} has no picture {name} any more.")
    return benchmark[benchmark.names.index(name)]


def _example(
    key: ImageKey,
    image: BenchmarkImage | OriginalImage,
    versions: Mapping[str, Picture],
    *,
    compared: Sequence[str],
    scale: int,
    crop_size_px: int,
    attention: Mapping[str, Sequence[AttentionLayer]],
) -> CropExample:
    """Cuts the crop where the compared versions are most unlike each other."""
    bicubic = to_array(bicubic_upscale(image.lr_image[None], scale=scale)[0])
    versions = {"bicubic": bicubic, **versions}
    truth = to_array(image.hr_image) if isinstance(image, BenchmarkImage) else None
    unlike = _range([versions[name] for name in compared] or [bicubic])
    size = min(crop_size_px, *(side // scale * scale for side in bicubic.shape[:2]))
    ((top, left),) = highest_crops(unlike, size=size, count=1)
    top, left = top // scale * scale, left // scale * scale  # on LR's grid
    here = np.s_[top : top + size, left : left + size]
    in_lr = np.s_[top // scale : (top + size) // scale, left // scale : (left + size) // scale]
    crops = {name: version[here] for name, version in versions.items()}
    step = max(1, math.ceil(max(bicubic.shape) / _OVERVIEW_PX))
    whole = bicubic if truth is None else truth
    return CropExample(
        image=key,
        size_px=(bicubic.shape[0], bicubic.shape[1]),
        place=(top, left, size),
        overview=_reduced(whole, step),
        lr_crop=to_array(image.lr_image)[in_lr],
        crops=crops,
        hr_crop=None if truth is None else truth[here],
        crop_scores={} if truth is None else _score_crops(crops, truth[here]),
        change=float(unlike[here].mean()),
        attention=attention,
    )


def _range(pictures: Sequence[Picture]) -> NDArray[np.float32]:
    """How far pictures lie apart at each pixel, mean over R, G and B: (H, W)."""
    low, high = (
        extreme.reduce(pictures).astype(np.float32) for extreme in (np.minimum, np.maximum)
    )
    return (high - low).mean(axis=2)


def _reduced(picture: Picture, step: int) -> Picture:
    return to_array(F.avg_pool2d(to_tensor(picture), step, ceil_mode=True))


def _score_crops(crops: Mapping[str, Picture], truth: Picture) -> dict[str, dict[str, float]]:
    hr_image = to_tensor(truth)[None]
    functions = {"psnr_y_db": psnr_y, "ssim_y": ssim_y}
    return {
        name: {
            metric: function(to_tensor(crop)[None], hr_image, border=0).item()
            for metric, function in functions.items()
        }
        for name, crop in crops.items()
    }


@torch.inference_mode()
def look(generator: SRGANGenerator, lr_image: Tensor) -> list[AttentionLayer]:
    """Where each FSA layer of a generator looks in a picture, from a grid of points.

    Args:
        generator: in eval mode, on the CPU.
        lr_image: (3, H, W) in [0, 1].
    """
    found: list[AttentionLayer] = []
    places = {layer: place for place, layer in generator.attention_layers.items()}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, FlexibleSelfAttention)
        found.append(_layer(places[layer], layer, inputs[0], output))

    handles = [layer.register_forward_hook(note) for layer in places]
    run = (
        generator if any(p.startswith("upsample") for p in places.values()) else generator.features
    )
    try:
        run(lr_image[None])
    finally:
        for handle in handles:
            handle.remove()
    return found


def _layer(
    place: str, layer: FlexibleSelfAttention, features: Tensor, output: Tensor
) -> AttentionLayer:
    height, width = (math.ceil(side / layer.pool_size) for side in features.shape[-2:])
    down, across = _grid(height, width, most=_NUM_QUERIES)
    rows = ((torch.arange(down) + 0.5) * height / down).long()
    columns = ((torch.arange(across) + 0.5) * width / across).long()
    positions = (rows[:, None] * width + columns).flatten()
    attention = layer.attention_map(features, positions=positions)[0]
    entropy = torch.special.entr(attention).sum(dim=1)
    keys = _grid(height, width, most=_NUM_KEYS)
    maps = F.adaptive_avg_pool2d(attention.view(-1, 1, height, width), keys)[:, 0]
    maps = (maps / maps.amax(dim=(1, 2), keepdim=True)).sqrt()
    return AttentionLayer(
        place=place,
        gamma=float(layer.gamma),
        share=float((output - features).norm() / features.norm()),
        maps=maps.mul(255).round().to(torch.uint8).view(down, across, *keys).numpy(),
        breadth=(entropy.exp() / (height * width)).view(down, across).double().numpy(),
    )


def _grid(height: int, width: int, *, most: int) -> tuple[int, int]:
    """As many cells as there are positions, and at most so many along the long side."""
    step = max(1.0, max(height, width) / most)
    return max(1, round(height / step)), max(1, round(width / step))
