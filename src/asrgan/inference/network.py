"""What a generator does, as plain data: segments of convolutions between places of attention."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from asrgan.models import SRGANGenerator

_LONG_SKIP = "head"
IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class Step:
    """One convolution, with all that follows it until the next one.

    Args:
        name: of the convolution in the generator.
        resolution: of its input, as a multiple of LR's.
        in_features: channels of its input.
        out_features: channels of the convolution.
        kernel_size: its side, odd; the result has the input's size.
        activation: name of the PReLU that follows.
        enlarges: whether pixel shuffle by 2 follows.
        keeps: names of the skips that its input starts.
        adds: name of the skip that is added to its result.
    """

    name: str
    resolution: int
    in_features: int
    out_features: int
    kernel_size: int
    activation: str | None = None
    enlarges: bool = False
    keeps: tuple[str, ...] = ()
    adds: str | None = None

    @property
    def halo(self) -> int:
        """Rows above and below a row that its result depends on."""
        return self.kernel_size // 2

    @property
    def num_operations(self) -> int:
        """Operations for one pixel of its input, a multiplication with an addition being two."""
        return 2 * self.in_features * self.out_features * self.kernel_size**2


@dataclass(frozen=True)
class Place:
    """A place of attention.

    Args:
        name: of the place in the generator.
        resolution: of its features, as a multiple of LR's.
        features: channels.
        num_inner: channels of query, key and value.
        pool_size: side of the pooling window.
    """

    name: str
    resolution: int
    features: int
    num_inner: int
    pool_size: int

    @property
    def token_features(self) -> int:
        """Channels of query, key and value with the zeros that the fused kernels want."""
        return -(-self.num_inner // 8) * 8

    def window(self, window_px: int) -> int:
        """Side of a window of LR in positions of the pooled map."""
        return max(1, window_px * self.resolution // self.pool_size)

    def pooled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the pooled map for an LR picture of that size."""
        pool_size, resolution = self.pool_size, self.resolution
        return -(-height * resolution // pool_size), -(-width * resolution // pool_size)


@dataclass(frozen=True)
class Segment:
    """Convolutions without attention between them.

    Args:
        steps: in order.
        place: of the attention that follows; None at the end of the network.
    """

    steps: tuple[Step, ...]
    place: Place | None

    @property
    def halo(self) -> float:
        """Rows of LR above and below that a row of its result depends on."""
        return sum(step.halo / step.resolution for step in self.steps)


@dataclass(frozen=True)
class Skip:
    """Features that are added to others further on.

    Args:
        name: as in `Step.keeps` and `Step.adds`.
        features: channels.
        resolution: as a multiple of LR's.
        start: index of the segment where they are kept.
        stop: index of the segment where they are added.
        delay: rows of them that wait within one segment.
        is_near: whether the step that adds them follows the one that keeps them.
    """

    name: str
    features: int
    resolution: int
    start: int
    stop: int
    delay: int
    is_near: bool


@dataclass(frozen=True)
class Network:
    """A generator as segments.

    Args:
        scale: integer factor.
        segments: in order; what ends one is needed whole before the next can begin.
    """

    scale: int
    segments: tuple[Segment, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        """Of attention, in order."""
        return tuple(s.place for s in self.segments if s.place is not None)

    @property
    def operations_per_px(self) -> int:
        """Operations of all convolutions for one pixel of LR."""
        return sum(
            step.num_operations * step.resolution**2
            for segment in self.segments
            for step in segment.steps
        )

    @property
    def skips(self) -> tuple[Skip, ...]:
        """All skips, by where they begin."""
        steps = [(i, step) for i, segment in enumerate(self.segments) for step in segment.steps]
        skips: list[Skip] = []
        for first, (start, keeper) in enumerate(steps):
            for name in keeper.keeps:
                last = next(n for n, (_, step) in enumerate(steps) if step.adds == name)
                skip = Skip(
                    name=name,
                    features=keeper.in_features,
                    resolution=keeper.resolution,
                    start=start,
                    stop=steps[last][0],
                    delay=sum(step.halo for _, step in steps[first : last + 1]),
                    is_near=last == first + 1,
                )
                skips.append(skip)
        return tuple(skips)


def describe(generator: SRGANGenerator) -> Network:
    """A generator as data; its weights may be on any device, also ``meta``.

    Args:
        generator: without norms, see `asrgan.models.fold_norms`.
    """
    segments: list[Segment] = []
    steps: list[Step] = []
    for step, place_name in _steps(generator):
        steps.append(step)
        layer = generator.attention_layers.get(place_name or "")
        if place_name and layer:
            place = Place(
                name=place_name,
                resolution=step.resolution * (2 if step.enlarges else 1),
                features=layer.query.in_channels,
                num_inner=layer.query.out_channels,
                pool_size=layer.pool_size,
            )
            segments.append(Segment(tuple(steps), place))
            steps = []
    segments.append(Segment(tuple(steps), None))
    return Network(generator.scale, tuple(segments))


def with_attention(generator: SRGANGenerator, attention: Sequence[Mapping[str, object]]) -> Network:
    """What a generator would be with other places of attention; without weights.

    Args:
        generator: has everything else.
        attention: entries as `SRGANGenerator` takes them.

    Raises:
        UserError: a place is unknown or taken twice, or a value is out of range.
    """
    architecture: dict[str, Any] = generator.architecture | {
        "norm": "none",
        "spectral_norm": False,
        "attention": attention,
    }
    with torch.device("meta"):
        return describe(type(generator)(**architecture))


def describe_bicubic(scale: int) -> Network:
    """Bicubic interpolation as one step, whose kernel sees 2 pixels of LR around."""
    features = IMAGE_CHANNELS
    step = Step("bicubic", 1, features, features * scale**2, kernel_size=5)
    return Network(scale, (Segment((step,), None),))


def _steps(generator: SRGANGenerator) -> Iterator[tuple[Step, str | None]]:
    """The convolutions in order, each with the name of the place behind it."""

    def step(name: str, resolution: int = 1, **options: Any) -> Step:
        conv = cast("nn.Conv2d", generator.get_submodule(name))
        features = {"in_features": conv.in_channels, "out_features": conv.out_channels}
        kernel_size = conv.kernel_size[0]
        return Step(name, resolution, **features, kernel_size=kernel_size, **options)

    yield step("head.0", activation="head.1"), "head"
    for number in range(1, len(generator.blocks) + 1):
        name, skip = f"blocks.{number - 1}", f"block{number}"
        keeps = (skip, _LONG_SKIP) if number == 1 else (skip,)
        yield step(f"{name}.conv1", keeps=keeps, activation=f"{name}.prelu"), None
        yield step(f"{name}.conv2", adds=skip), f"block{number}"
    has_prelu = isinstance(generator.trunk[1], nn.PReLU)
    yield step("trunk.0", activation="trunk.1" if has_prelu else None, adds=_LONG_SKIP), "trunk"
    for number in range(1, len(generator.upsamples) + 1):
        name = f"upsamples.{number - 1}"
        options = {"activation": f"{name}.prelu", "enlarges": True}
        yield step(f"{name}.conv", 2 ** (number - 1), **options), f"upsample{number}"
    yield step("tail", generator.scale), None
