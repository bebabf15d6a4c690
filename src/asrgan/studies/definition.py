"""What a study asks, checked: variants, seeds, stages, baseline, and which difference matters."""

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from asrgan.data import split_benchmark
from asrgan.errors import UserError
from asrgan.studies.names import generator_name
from asrgan.weights import published

Overrides = Mapping[str, object]
"""Keys and values of ``asrgan train``: ``{"experiment": "srgan_x4", "generator.pool_size": 4}``."""

_NAME = re.compile(r"[^\W_]([\w .+=-]*[\w+])?")
_RULE = (
    "becomes a folder and a row of tables, so it must consist of letters, digits, spaces and"
    " . _ + = -"
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training that variants start from.

    Attributes:
        overrides: of ``asrgan train``.
        seed: trained once, with this seed; None: once for each seed of the study.
    """

    overrides: Overrides
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study; ``conf/study.yaml`` has the words for each of its keys.

    Attributes:
        name: of the study.
        question: what it is to answer.
        base: overrides of every variant, with those of the size.
        variants: name -> overrides that make it.
        baseline: the variant that the others are compared with.
        seeds: each variant is trained with each.
        stages: name -> what variants may start from.
        start: variant -> the stage that it starts from, unless it sets ``generator.weights``.
        references: models that are evaluated beside, as ``asrgan evaluate`` takes them.
        benchmarks: on which everything is evaluated; ``DIR``, ``hr:DIR`` or ``lr:DIR``.
        train: folder of photographs.
        validation: folders that are looked at during training; None: none.
        metric: the one that decides.
        difference: of the metric, in its unit: less does not matter.
        evaluate: overrides of ``asrgan evaluate``.
        overrides: of every training, as typed: ``key=value``.
        variant_overrides: the same, but not of stages.
    """

    name: str
    question: str
    base: Overrides
    variants: Mapping[str, Overrides]
    baseline: str
    seeds: Sequence[int]
    stages: Mapping[str, Stage]
    start: Mapping[str, str]
    references: Sequence[str]
    benchmarks: Sequence[str]
    train: str
    validation: Sequence[str] | None
    metric: str
    difference: float
    evaluate: Overrides
    overrides: Sequence[str]
    variant_overrides: Sequence[str]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Lays the parts of the verb's resolved configuration together.

        Raises:
            UserError: names the key and what is wrong with it.
        """
        size, sizes = config["size"], config["sizes"]
        if size not in sizes:
            raise UserError(f"`size` (={size}) must be one of {', '.join(sizes)}.")
        if config["begun_size"] not in (None, size):
            raise UserError(
                f"`size` (={size}) is {config['begun_size']} in the folder of this study; name the"
                " study itself for another."
            )
        validation = config["data"]["validation"]
        variants = _named_variants(config["variants"], config["grid"])
        study = cls(
            name=str(config["name"]),
            question=config["question"],
            base={"size": size, **config["base"], **(sizes[size] or {})},
            variants=variants,
            baseline=str(config["baseline"]),
            seeds=_seeds(config["seeds"]),
            stages={name: _stage(name, s, size) for name, s in config["stages"].items()},
            start=_start(config["start"], variants, is_grid=bool(config["grid"])),
            references=[_absolute_model(model) for model in _texts(config["references"])],
            benchmarks=[_absolute_benchmark(text) for text in _texts(config["benchmarks"])],
            train=absolute(config["data"]["train"]),
            validation=None if validation is None else [absolute(v) for v in _texts(validation)],
            metric=config["metric"],
            difference=config["difference"],
            evaluate=config["evaluate"],
            overrides=_texts(config["overrides"]),
            variant_overrides=_texts(config["variant_overrides"]),
        )
        study._check()
        return study

    def _check(self) -> None:
        names = [*self.variants, *self.stages, *map(model_name, self.references)]
        for name in names:
            if not _NAME.fullmatch(name):
                raise UserError(f"`{name}` {_RULE}; rename it.")
            if names.count(name) > 1:
                raise UserError(
                    f"`{name}` names two of the variants, stages and references; rename one."
                )
        if self.baseline not in self.variants:
            raise UserError(
                f"`baseline` (={self.baseline}) must be one of the variants:"
                f" {', '.join(self.variants)}."
            )
        for variant, stage in self.start.items():
            if variant not in self.variants:
                raise UserError(
                    f"`start` names {variant}, which must be one of the variants:"
                    f" {', '.join(self.variants)}."
                )
            if stage not in self.stages:
                known = ", ".join(self.stages) or "there are none"
                raise UserError(f"`start` (={stage}) must be null or one of the stages: {known}.")
        if type(self.difference) not in (int, float) or self.difference < 0:
            raise UserError(f"`difference` (={self.difference}) must be a number of at least 0.")
        if not self.benchmarks:
            raise UserError("`benchmarks` names no folder; try benchmarks=[DIR].")


def model_name(specification: str) -> str:
    """What ``asrgan evaluate`` calls ``NAME:FILE``, ``FILE`` or ``bicubic`` in its tables."""
    name, separator, _ = specification.partition(":")
    is_word = name == "bicubic" or name in published()
    return name if separator or is_word else generator_name(Path(name))


def absolute(path: object) -> str:
    """A path that means the same in any folder; links stay, and so do addresses like s3://..."""
    text = str(path)
    return text if "://" in text else os.path.abspath(text)  # noqa: PTH100 - resolve() follows links


def absolute_weights(weights: str) -> str:
    """The same of a generator's file; a published name is no path."""
    return weights if weights in published() else absolute(weights)


def _absolute_benchmark(text: str) -> str:
    kind, folder = split_benchmark(text)
    return f"{kind}:{absolute(folder)}" if kind else absolute(folder)


def _absolute_model(specification: str) -> str:
    name, separator, file = specification.rpartition(":")
    return name + separator + (file if file == "bicubic" else absolute_weights(file))


def _seeds(seeds: Any) -> list[int]:
    is_list = isinstance(seeds, list) and seeds
    if not is_list or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UserError(f"`seeds` (={seeds}) must be a list of whole numbers.")
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise UserError(f"`seeds` has {seed} twice; a seed is one run of each variant.")
    return seeds


def _named_variants(
    variants: Mapping[str, Any], grid: Mapping[str, Sequence[object]]
) -> dict[str, Overrides]:
    if bool(variants) == bool(grid):
        raise UserError("a study has either `variants` or a `grid`; give one of them.")
    if variants:
        for name, own in variants.items():
            if not isinstance(own, dict | None):
                raise UserError(f"`variants.{name}` (={own}) must hold keys and values.")
        return {str(name): own or {} for name, own in variants.items()}
    short = {key: re.split(r"[./]", key)[-1] for key in grid}
    if len(set(short.values())) < len(short):
        short = {key: key.replace("/", ".") for key in grid}
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"`grid.{key}` (={values}) must be a list of values.")
    named: dict[str, Overrides] = {}
    for values in itertools.product(*grid.values()):
        own = dict(zip(grid, values, strict=True))
        name = " ".join(f"{short[key]}={value}" for key, value in own.items())
        if name in named:
            raise UserError(f"`grid` has {name} twice; each point is one variant.")
        if not _NAME.fullmatch(name):
            raise UserError(
                f"`grid` has {name}, which {_RULE}; give such points as `variants`, which have"
                " names."
            )
        named[name] = own
    return named


def _stage(name: str, stage: Any, size: str) -> Stage:
    parts = {"base", "sizes", "seed"}
    if not isinstance(stage, dict) or not {"base", "seed"} <= stage.keys() <= parts:
        raise UserError(f"`stages.{name}` (={stage}) must have `base` and `seed`; perhaps `sizes`.")
    of_size = (stage.get("sizes") or {}).get(size) or {}
    seed = stage["seed"]
    if seed != "each" and type(seed) is not int:
        raise UserError(f"`stages.{name}.seed` (={seed}) must be a whole number, or `each`.")
    return Stage(
        overrides={"size": size, **stage["base"], **of_size},
        seed=None if seed == "each" else seed,
    )


def _start(start: Any, variants: Iterable[str], *, is_grid: bool) -> dict[str, str]:
    if not isinstance(start, dict):
        start = dict.fromkeys(variants, start)
    elif is_grid:  # one sweep of W&B, with one start
        raise UserError(f"`start` (={start}) must be one stage for a `grid`; or give `variants`.")
    return {str(name): str(stage) for name, stage in start.items() if stage is not None}


def _texts(value: object) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value])]
