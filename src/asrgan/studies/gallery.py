"""A benchmark at a glance: its worst, its best and its most changed crops."""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from asrgan.data import BenchmarkImage, OriginalImage
from asrgan.imaging import bicubic_upscale, to_array
from asrgan.metrics import METRICS
from asrgan.studies.figures import Picture, highest_crops, save_figure, show_place

_CELL_IN = (1.9, 2.15)  # width and height of a crop with its captions
_LETTERS_PER_IN = 14  # of the title
_OVERVIEW_PX = 512  # long side of the picture that shows where a crop is, at most


@dataclass(frozen=True)
class Example:
    """The crop of a picture where its versions differ most.

    Attributes:
        name: the picture's.
        value: of the metric that decides about worst and best, over the models that are judged.
        change: by how much the versions differ within the crop, in grey levels.
        overview: the whole picture, reduced.
        place: top, left and size of the crop in the overview.
        crops: column -> crop.
        captions: column -> what stands below its name.
    """

    name: str
    value: float | None
    change: float
    overview: Picture
    place: tuple[int, int, int]
    crops: Mapping[str, Picture]
    captions: Mapping[str, str]


class Gallery:
    """Collects examples of one benchmark, picture by picture, and draws the telling ones.

    The rule chooses, not taste. Worst and best are the pictures where the models' mean of a metric
    is; the most changed are those with the crop in which bicubic and the models differ most. Of
    each picture this same crop is shown. Only what may be drawn is kept.

    Args:
        metric: key of `METRICS`; None: only the most changed are shown.
        judged: the models whose mean of the metric decides.
        crop_size_px: side of a crop of SR, a multiple of twice the scale.
        num_crops: of each kind.
    """

    def __init__(
        self, *, metric: str | None, judged: Sequence[str], crop_size_px: int, num_crops: int
    ) -> None:
        self._metric = metric
        self._judged = judged
        self._crop_size_px = crop_size_px
        self._num_crops = num_crops
        self.examples: list[Example] = []

    def add(
        self,
        image: BenchmarkImage | OriginalImage,
        versions: Mapping[str, Picture],
        *,
        scores: Mapping[str, Mapping[str, float | None]],
    ) -> None:
        """Takes note of a picture.

        Args:
            image: what was enlarged, and its ground truth where there is one.
            versions: model -> result, uint8 (H, W, 3).
            scores: model -> metric -> value.
        """
        lr_image = to_array(image.lr_image)
        scale = len(next(iter(versions.values()))) // len(lr_image)
        bicubic = to_array(bicubic_upscale(image.lr_image[None], scale=scale)[0])
        versions = {"bicubic": bicubic} | dict(versions)
        truth = {"HR": to_array(image.hr_image)} if isinstance(image, BenchmarkImage) else {}
        spread = _spread(list(versions.values()))
        size = self._crop_size_px
        ((top, left),) = highest_crops(spread, size=size, count=1)
        lr_crop = _crop(lr_image, top // scale, left // scale, size // scale)
        step = math.ceil(max(spread.shape) / _OVERVIEW_PX)
        values = {model: scores[model].get(self._metric or "") for model in scores}
        judged = [value for model in self._judged if (value := values[model]) is not None]
        judged = [value for value in judged if not math.isnan(value)]
        example = Example(
            name=image.name,
            value=sum(judged) / len(judged) if judged else None,
            change=float(_crop(spread, top, left, size).mean()),
            overview=truth.get("HR", bicubic)[::step, ::step],
            place=(top // step, left // step, size // step),
            crops={
                "LR": lr_crop.repeat(scale, axis=0).repeat(scale, axis=1),
                **{n: _crop(p, top, left, size) for n, p in (versions | truth).items()},
            },
            captions={
                model: f"{value:.{METRICS[self._metric].digits}f}"
                for model, value in values.items()
                if self._metric is not None and value is not None
            },
        )
        self.extend([example])

    def extend(self, examples: Iterable[Example]) -> None:
        """Takes over examples; forgets those that are neither worst, best nor most changed."""
        examples = [*self.examples, *examples]
        telling = [e for kind in self._choose(examples, 2 * self._num_crops).values() for e in kind]
        self.examples = [e for e in examples if any(e is other for other in telling)]

    def draw(self, path: Path, *, title: str) -> None:
        """Draws a row for each example, if there are any; one of two kinds is drawn once.

        Args:
            path: the picture, by suffix.
            title: of the figure; the rule is written below it.
        """
        if not self.examples:
            return
        labels: dict[str, list[str]] = {}
        for kind, examples in self._choose(self.examples, self._num_crops).items():
            for example in examples:
                # Of very few pictures the best would be the worst again.
                if kind != "best" or "worst" not in labels.get(example.name, ()):
                    labels.setdefault(example.name, []).append(kind)
        rows = {e.name: e for e in self.examples if e.name in labels}
        columns = list(next(iter(rows.values())).crops)
        width, height = _CELL_IN
        size = (width * (1 + len(columns)), height * len(rows) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        wrapped = textwrap.fill(self._rule(), round(size[0] * _LETTERS_PER_IN))
        figure.suptitle(f"{title}\n{wrapped}", fontsize=8, parse_math=False)
        grid = figure.subplots(len(rows), 1 + len(columns), squeeze=False)
        for panel in grid.flat:
            panel.set_axis_off()
        for panels, (name, kinds) in zip(grid, labels.items(), strict=True):
            example = rows[name]
            top, left, side = example.place
            place = f"{', '.join(kinds)}\n{_shortened(name)}\nchange {example.change:.1f} levels"
            show_place(panels[0], example.overview, top=top, left=left, size=side, title=place)
            for panel, (column, crop) in zip(panels[1:], example.crops.items(), strict=True):
                panel.imshow(crop, interpolation="nearest")
                caption = "\n".join(filter(None, [column, example.captions.get(column)]))
                panel.set_title(caption, fontsize=8, parse_math=False)
        save_figure(figure, path)

    def _choose(self, examples: Sequence[Example], count: int) -> dict[str, list[Example]]:
        rankings: dict[str, Callable[[Example], float]] = {"most changed": lambda e: -e.change}
        if self._metric is not None:
            sign = 1 if METRICS[self._metric].is_higher_better else -1
            by_value: dict[str, Callable[[Example], float]] = {
                "worst": lambda e: sign * (e.value or 0.0),
                "best": lambda e: -sign * (e.value or 0.0),
            }
            rankings = by_value | rankings
        return {
            kind: sorted(
                (e for e in examples if kind == "most changed" or e.value is not None), key=rank
            )[:count]
            for kind, rank in rankings.items()
        }

    def _rule(self) -> str:
        crop = f"the {self._crop_size_px} px crop where bicubic and the models differ most"
        if self._metric is None:
            return f"Of each picture {crop}; the pictures with the largest change."
        judged = ", ".join(_shortened(model) for model in self._judged)
        return (
            f"Worst and best: pictures by {self._metric} ({METRICS[self._metric].definition}) of"
            f" {judged}, whose value of the whole picture stands above each crop."
            f" Of each picture {crop}; most changed: the pictures where they do so most."
        )


def _crop(picture: NDArray[Any], top: int, left: int, size: int) -> NDArray[Any]:
    return picture[top : top + size, left : left + size].copy()


def _spread(pictures: Sequence[Picture]) -> NDArray[np.float32]:
    """How far uint8 (H, W, 3) pictures lie apart at each pixel, (H, W), mean of R, G and B."""
    spread = np.zeros(pictures[0].shape[:2], np.float32)
    for channel in range(3):
        values = [picture[..., channel] for picture in pictures]
        spread += np.maximum.reduce(values) - np.minimum.reduce(values)
    return spread / np.float32(3)


def _shortened(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:12]}…{name[-11:]}"
