"""From a study's definition to its cells: what each is, and whether it still is what ran."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asrgan.data import is_prepared, open_source, split_benchmark
from asrgan.errors import UserError
from asrgan.studies.definition import Overrides, Study, model_name
from asrgan.studies.folder import CellPlan, Kind, StudyFolder
from asrgan.studies.identity import FILES, Fingerprints, digest, science
from asrgan.studies.names import GENERATOR

Config = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Composer:
    """What the planning needs of Hydra.

    Attributes:
        override: a key and a plain value -> ``key=value`` in Hydra's grammar.
        compose: overrides of ``asrgan train``, and seeds -> a flat configuration for each.
        check: finds what is wrong with a flat configuration; with that of the stage it starts from,
            or None.
    """

    override: Callable[[str, object], str]
    compose: Callable[[Sequence[str], Sequence[int]], Sequence[Config]]
    check: Callable[[Config, Config | None], None]

    def overrides(self, values: Overrides) -> list[str]:
        """Several keys with their values."""
        return [self.override(key, value) for key, value in values.items()]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the cells of one stage or variant share.

    Attributes:
        kind: which of the two.
        model: its name.
        seeds: one cell each.
        words: overrides of ``asrgan train``, without seed and folder.
    """

    kind: Kind
    model: str
    seeds: Sequence[int]
    words: Sequence[str]

    @property
    def path(self) -> str:
        """Where its cells are, below the study's folder."""
        return f"{self.kind}s/{self.model}"


def trainings(study: Study, folder: StudyFolder, *, composer: Composer) -> list[Training]:
    """Stages and variants, with the overrides that make them."""
    data = composer.overrides({"data.train": study.train, "data.validation": study.validation})
    stages = [
        Training(
            kind="stage",
            model=name,
            seeds=study.seeds if stage.seed is None else [stage.seed],
            words=[*composer.overrides(stage.overrides), *data, *study.overrides],
        )
        for name, stage in study.stages.items()
    ]
    starts: dict[str, str] = {}
    for variant, stage in study.start.items():
        seed = study.stages[stage].seed
        # Hydra puts each run's seed into the place.
        cell = folder.folder / "stages" / stage / f"seed_{'${seed}' if seed is None else seed}"
        starts[variant] = composer.override("generator.weights", str(cell / GENERATOR))
    common = [*composer.overrides(study.base), *data]
    variants = [
        Training(
            kind="variant",
            model=name,
            seeds=study.seeds,
            words=[
                *common,
                *([starts[name]] if name in starts else []),
                *study.variant_overrides,
                *study.overrides,
                *composer.overrides(own),
            ],
        )
        for name, own in study.variants.items()
    ]
    return [*stages, *variants]


class Planner:
    """Makes the cells of a study.

    Args:
        study: the definition.
        folder: where its cells are, or will be.
        composer: Hydra's side.
        fingerprints: of the data.
        code: see `CellPlan`.
        flags: of each `asrgan train`, before its overrides.
    """

    def __init__(
        self,
        study: Study,
        folder: StudyFolder,
        *,
        composer: Composer,
        fingerprints: Fingerprints,
        code: Mapping[str, str | None],
        flags: Sequence[str],
    ) -> None:
        self._study = study
        self._folder = folder
        self._composer = composer
        self._fingerprints = fingerprints
        self._code = code
        self._flags = flags
        self._identities: dict[str, str] = {}  # of cells planned so far, by their path
        self._configs: dict[str, Config] = {}  # the same
        self._groups: dict[str, object] = {}  # in W&B, of those cells that it watches
        self._benchmarks: dict[str, str] = {}
        for text in study.benchmarks:
            kind, path = split_benchmark(text)
            fingerprint = fingerprints.of(path, key="benchmarks")
            self._benchmarks[Path(path).name] = f"{kind} {fingerprint}"
        self._prepared: dict[str, str] = {}
        if not is_prepared(study.train):
            fingerprints.of(study.train, key="data.train")  # told without a variant's name

    def cells(self, *, accepts_other_code: bool) -> list[CellPlan]:
        """References, stages, variants, in the order of tables.

        Args:
            accepts_other_code: cells that other code has begun stay as they are.

        Raises:
            UserError: a variant cannot be composed, equals another one, or is no longer what began
                to run under its name.
        """
        trained: list[CellPlan] = []
        for training in trainings(self._study, self._folder, composer=self._composer):
            # Stages come first: what starts from them has to know which they are.
            plans = [self._labelled(self._settled(plan)) for plan in self._plans(training)]
            self._identities |= {plan.path: plan.identity for plan in plans}
            trained += plans
        self._check_differences(trained)
        others = [p for p in trained if p.code["version"] != self._code["version"]]
        if others and not accepts_other_code:
            raise UserError(
                f"{len(others)} cells were begun by other code (commit {others[0].code['commit']};"
                f" this is {self._code['commit']}), {others[0].path} for one; mixed_code=true goes"
                " on with them as they are, another output_dir starts anew."
            )
        scales = {plan.config["scale"] for plan in trained}
        if len(scales) > 1:
            raise UserError(
                f"`scale` must be the same for all variants, and is {', '.join(map(str, scales))}."
            )
        return [*self._references(scales.pop()), *trained]

    def _plans(self, training: Training) -> list[CellPlan]:
        try:
            configs = self._composer.compose(training.words, training.seeds)
            return [
                self._plan(training, seed, config)
                for seed, config in zip(training.seeds, configs, strict=True)
            ]
        except UserError as error:
            raise UserError(f"{training.kind} `{training.model}`: {error}") from error

    def _plan(self, training: Training, seed: int, config: Config) -> CellPlan:
        for key, value in config.items():
            if value == "???":
                raise UserError(f"`{key}` has no value; give it in the study, or behind --.")
        path = f"{training.path}/seed_{seed}"
        words = [*training.words, self._composer.override("seed", seed)]
        stages = {str(self._generator(path)): path for path in self._identities}
        data: dict[str, str] = {}
        start: str | None = None
        for key in FILES:
            file = config.get(key)
            if file is None:
                continue
            stage = stages.get(str(file))
            if stage is not None:
                start, data[key] = stage, self._identities[stage]
            elif key == "data.train" and is_prepared(str(file)):
                data[key] = self._of_prepared(str(file), config)
            else:
                data[key] = self._fingerprints.of(str(file), key=key)
        self._configs[path] = config
        if seed == training.seeds[0]:  # the others differ by it alone
            self._composer.check(config, None if start is None else self._configs[start])
        if "logger.wandb.group" in config:
            self._groups[path] = config["logger.wandb.group"] or self._study.name
        decisive = science(config)
        return CellPlan(
            path=path,
            kind=training.kind,
            model=training.model,
            seed=seed,
            identity=digest([decisive, seed, data, self._code["version"]]),
            config=decisive,
            data=data,
            code=self._code,
            start=start,
            max_iterations=_number(config, "max_iterations"),
            num_devices=_number(config, "trainer.devices"),
            images_per_iteration=_number(config, "trainer.devices")
            * _number(config, "data.batch_size"),
            train=[*self._flags, *words, self._output_dir(path)],
            evaluation=self._evaluation(config["scale"], data={}),
            evaluate=self._evaluate(
                f"{training.model}:{self._generator(path)}", path, config["scale"]
            ),
        )

    def _of_prepared(self, place: str, config: Config) -> str:
        """What prepared data says of its content, which may be large, or elsewhere."""
        if place not in self._prepared:
            settings: Any = {
                name: config[f"data.{name}"]
                for name in ("shuffle_shards", "stream_cache_dir", "stream_cache_mib")
            }
            source = open_source(place, minimum_size_px=1, cache_mib=0, **settings)
            self._prepared[place] = source.fingerprint
        return self._prepared[place]

    def _generator(self, path: str) -> Path:
        return self._folder.folder / path / GENERATOR

    def _references(self, scale: object) -> list[CellPlan]:
        plans: list[CellPlan] = []
        for specification in self._study.references:
            name = model_name(specification)
            file = specification.partition(":")[2] or specification
            data: dict[str, str] = {}
            if file != "bicubic":
                data = {"references": self._fingerprints.of(file, key="references")}
            path = f"references/{name}"
            evaluation = self._evaluation(scale, data=data)
            plans.append(
                CellPlan(
                    path=path,
                    kind="reference",
                    model=name,
                    seed=None,
                    identity=evaluation,
                    config={"scale": scale},
                    data=data,
                    code=self._code,
                    start=None,
                    max_iterations=0,
                    num_devices=1,
                    images_per_iteration=0,
                    train=[],
                    evaluation=evaluation,
                    evaluate=self._evaluate(f"{name}:{file}", path, scale),
                )
            )
        return plans

    def _evaluation(self, scale: object, *, data: Mapping[str, str]) -> str:
        study = self._study
        how = [scale, study.evaluate, self._benchmarks, data, self._code["version"]]
        return digest(how)

    def _evaluate(self, model: str, path: str, scale: object) -> list[str]:
        overrides = {
            "models": [model],
            "benchmarks": self._study.benchmarks,
            "scale": scale,
            **self._study.evaluate,
        }
        return [*self._composer.overrides(overrides), self._output_dir(f"{path}/evaluation")]

    def _output_dir(self, path: str) -> str:
        return self._composer.override("output_dir", str(self._folder.folder / path))

    def _settled(self, plan: CellPlan) -> CellPlan:
        """The plan, as the code that began its cell would have made it."""
        cell = self._folder.cell(plan.path)
        earlier = cell.plan()
        if earlier is None or not cell.state().attempts:
            return plan
        way_out = f"rename the {plan.kind}, or remove {cell.folder} to train it anew."
        is_same_code = earlier.code["version"] == plan.code["version"]
        for key in [*earlier.config, *plan.config]:
            then, now = earlier.config.get(key), plan.config.get(key)
            is_of_both = key in earlier.config and key in plan.config
            if then != now and (is_same_code or is_of_both):  # else the code has another key
                raise UserError(
                    f"{plan.path} ran with `{key}`={then}, and the study now says {now}; {way_out}"
                )
        for key in [*earlier.data, *plan.data]:
            if earlier.data.get(key) != plan.data.get(key):
                raise UserError(f"{plan.path} ran with other content of `{key}`; {way_out}")
        return replace(plan, identity=earlier.identity, code=earlier.code)

    def _labelled(self, plan: CellPlan) -> CellPlan:
        """The plan, with what tells W&B which cell its run is."""
        if plan.path not in self._groups:
            return plan
        labels = {"study": self._study.name, plan.kind: plan.model, "cell": plan.identity}
        words = self._composer.overrides(
            {
                "logger.wandb.group": self._groups[plan.path],
                "logger.wandb.name": f"{plan.model} seed {plan.seed}",
                "++logger.wandb.labels": labels,
            }
        )
        return replace(plan, train=[*plan.train, *words])

    def _check_differences(self, plans: Sequence[CellPlan]) -> None:
        """No two variants may be the same."""
        seen: dict[str, str] = {}
        for plan in plans:
            if plan.kind == "variant" and plan.seed == self._study.seeds[0]:
                same = seen.setdefault(digest([plan.config, plan.data]), plan.model)
                if same != plan.model:
                    raise UserError(
                        f"variants `{same}` and `{plan.model}` resolve to the same configuration;"
                        " remove one, or make them differ."
                    )


def _number(config: Config, key: str) -> int:
    value = config[key]
    if type(value) is not int or value < 1:
        raise UserError(f"`{key}` (={value}) must be a whole number of at least 1.")
    return value
