"""``hydra/sweeper=optuna``: a search for good overrides. Hydra looks for sweepers in this place."""

import importlib.util
import io
import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
)
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import InstantiationException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from asrgan.configuration import as_override, as_texts, cause_of, compose, flatten
from asrgan.errors import DivergedError, InterruptedRunError, PrunedError, UserError
from asrgan.files import DISK_ERRORS
from asrgan.searches import (
    EXAMPLE,
    EXHAUSTED,
    FAILURE,
    FOLDER,
    OBJECTIVES,
    OWNER,
    Search,
    read_search,
    storage_url,
    trial_folder,
    write_place,
    write_private,
    write_trials,
)
from asrgan.subprocesses import Lock

if TYPE_CHECKING:  # Hydra imports this module whenever it starts
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

_NUM_EXAMPLES = 5  # one of them has to be possible; in some spaces not every point is

# Where trials run and how they are watched, which a resumed one may change as well.
_MAY_DIFFER = ("trainer", "devices", "num_nodes")


class OptunaSweeper(Sweeper):
    """Asks Optuna for overrides, trains with them, and tells it the scores.

    Each trial is trained in ``trial_N`` below the sweep's folder. A search that was stopped or
    killed goes on by the same command with the same ``output_dir``: its unfinished trials go on
    from their last checkpoints. Writes ``trials.csv``, where ``is_best`` marks the best trial, or
    those of the Pareto front.

    Args:
        objectives: validation scores at the end of a training, means over the benchmarks; each is
            sought in the direction in which it is better.
        num_trials: of the whole search.
        num_jobs: trials that the launcher gets at a time.
        storage: URL of Optuna's; None: ``search.db`` in the sweep's folder.
        study_name: of the search within the storage.
        params: key -> what it may be, in Hydra's grammar; the command line comes later.
        sampler: node of an Optuna sampler.
        pruner: node of an Optuna pruner, or None; several objectives are never pruned.
    """

    def __init__(
        self,
        *,
        objectives: Sequence[str],
        num_trials: int,
        num_jobs: int,
        storage: str | None,
        study_name: str,
        params: Mapping[str, str],
        sampler: DictConfig,
        pruner: DictConfig | None,
    ) -> None:
        self.objectives = list(objectives)
        self.num_trials = num_trials
        self.num_jobs = num_jobs
        self.storage = storage
        self.study_name = study_name
        self.params = params
        self.sampler = sampler
        self.pruner = pruner
        self.launcher: Launcher | None = None
        self.folder = Path()
        self._grid: dict[str, object] = {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Hydra hands over what a sweeper works with."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.folder = Path(config.hydra.sweep.dir).absolute()

    def sweep(self, arguments: list[str]) -> None:
        """Searches until there are ``num_trials`` trials.

        Raises:
            UserError: something is wrong with the space or the objectives, another search works in
                the folder, or no trial came to its end.
            InterruptedRunError: a trial was asked to stop.
            OSError: a disk is full.
        """
        if importlib.util.find_spec("optuna") is None:
            raise UserError(
                "`hydra/sweeper` (=optuna) needs another package; try: pip install"
                " 'asrgan[optuna]'."
            )
        space, fixed = self._read(arguments)
        directions, example = self._check(space, list(fixed.values()))
        lock = Lock(self.folder / "search.lock")
        if not lock.acquire():
            raise UserError(f"`{self.folder}` is in the hands of another search ({lock.holder}).")
        try:
            self._search(space, fixed, directions, example)
        finally:
            lock.release()

    # Before the first trial

    def _read(
        self, arguments: Sequence[str]
    ) -> tuple[dict[str, "BaseDistribution"], dict[str, str]]:
        """The search space, and the overrides of all trials, both by their keys."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        words = [f"{key}={value}" for key, value in self.params.items()] + list(arguments)
        space: dict[str, BaseDistribution] = {}
        fixed: dict[str, str] = {}
        for override, word in zip(parser.parse_overrides(words), words, strict=True):
            key = override.get_key_element()
            space.pop(key, None)
            fixed.pop(key, None)
            if override.is_sweep_override():
                space[key] = _distribution(key, override)
            else:
                fixed[key] = word
        if not space:
            raise UserError(
                "a search needs something to look for; try"
                " optimizer.generator.lr='tag(log,interval(1e-5,1e-3))'."
            )
        return space, fixed

    def _check(
        self, space: Mapping[str, "BaseDistribution"], fixed: Sequence[str]
    ) -> tuple[list["StudyDirection"], dict[str, object]]:
        """Builds what a trial would train; returns each objective's direction, and a point."""
        import optuna
        from optuna.study import StudyDirection

        from asrgan.building import build_training, check_settings, count_devices
        from asrgan.engine import DIRECTIONS
        from asrgan.metrics import METRICS, Protocol

        for key in ("num_trials", "num_jobs"):
            if getattr(self, key) < 1:
                raise UserError(
                    f"`hydra.sweeper.{key}` (={getattr(self, key)}) must be at least 1."
                )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        examples = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
        trials = [examples.ask(dict(space)) for _ in range(_NUM_EXAMPLES)]
        config = self._compose([*fixed, *_words(trials[0].params)])
        if config.verb != "train" or config.data.validation is None:
            raise UserError(
                "a search needs `asrgan train` with data.validation, whose scores decide."
            )
        scored = [*config.trainer.metrics, "content_loss"]
        for name in self.objectives:
            if name not in scored or self.objectives.count(name) > 1:
                raise UserError(
                    f"`hydra.sweeper.objectives` (={self.objectives}) must be different ones of"
                    f" {', '.join(scored)}; trainer.metrics has more."
                )
        if not self.objectives:
            raise UserError("`hydra.sweeper.objectives` names none; try [psnr_y_db].")
        judged = [name for name in self.objectives if name in METRICS]
        for name in Protocol(scale=config.scale, metrics=judged).missing:
            raise UserError(
                f"`hydra.sweeper.objectives` (={self.objectives}): {name} cannot be computed"
                " without its weights; put them where the line above says, or leave it out."
            )
        fault: Exception | None = None
        for trial in trials:
            config = self._compose([*fixed, *_words(trial.params), "data.cache_mib=0"])
            try:
                check_settings(config, num_devices=count_devices(config))
                build_training(config, num_workers=0, has_weights=True)
                break
            except (UserError, InstantiationException) as error:
                fault = error
        else:
            assert fault is not None
            raise fault
        ways = {1: StudyDirection.MAXIMIZE, -1: StudyDirection.MINIMIZE}
        return [ways[DIRECTIONS[name]] for name in self.objectives], trial.params

    def _compose(self, words: Sequence[str]) -> DictConfig:
        """The configuration of a trial, resolved."""
        assert self.config is not None
        return OmegaConf.create(compose(self.config.hydra.job.config_name, words))

    def _open(self, storage: "BaseStorage", directions: Sequence["StudyDirection"]) -> "Study":
        import optuna

        sampler = instantiate(self.sampler)
        study = optuna.create_study(
            storage=storage,
            study_name=self.study_name,
            sampler=sampler,
            directions=directions,
            load_if_exists=True,
        )
        earlier = study.user_attrs.get(OBJECTIVES, self.objectives)
        if earlier != self.objectives:
            raise UserError(
                f"`hydra.sweeper.objectives` (={self.objectives}) of this search have been"
                f" {earlier}; keep them, or take another hydra.sweeper.study_name."
            )
        study.set_user_attr(OBJECTIVES, self.objectives)
        if study.trials:
            sampler.reseed_rng()  # else it would propose again what it proposed first
        return study

    def _check_settings(
        self,
        study: "Study",
        space: Mapping[str, object],
        fixed: Mapping[str, str],
        example: Mapping[str, object],
    ) -> None:
        """Trials differ in what is searched alone; else their scores could not be compared."""
        words = {**fixed, **{key: f"{key}={value}" for key, value in example.items()}}
        earlier = study.user_attrs.get(EXAMPLE)
        if earlier is None:
            decisive = self._decisive(list(words.values()))
            study.set_user_attr(EXAMPLE, {"words": words, "decisive": decisive})
            return
        # The first one's point of the space, whatever has become of that, with what is fixed now.
        trials = study.get_trials(deepcopy=False)
        searched = {*space, *(key for trial in trials for key in trial.params)}
        again = [word for key, word in fixed.items() if key not in searched]
        again += [word for key, word in earlier["words"].items() if key in searched]
        then, now = earlier["decisive"], self._decisive(again)
        for key in [*then, *now]:
            if then.get(key) != now.get(key):
                raise UserError(
                    f"`{key}` of this search has been {then.get(key)} and is now {now.get(key)};"
                    " keep it, or take another output_dir and hydra.sweeper.study_name."
                )

    def _decisive(self, words: Sequence[str]) -> dict[str, object]:
        """What decides a trial's scores; files by their content, wherever they are."""
        from asrgan.building import build_data
        from asrgan.studies.identity import Fingerprints, science

        config = self._compose([*words, "data.cache_mib=0"])
        flat = flatten(config)
        decisive = {
            key: value
            for key, value in science(flat).items()
            if key.partition(".")[0] not in _MAY_DIFFER
        }
        for key in ("seed", "data.validation_crop_size_px", "data.validation_limit"):
            decisive[key] = flat[key]
        fingerprints = Fingerprints(self.folder / "fingerprints.json")
        for key in ("data.validation", "generator.weights", "loss.perceptual.network.weights"):
            if flat.get(key) is not None:
                found = [fingerprints.of(path, key=key) for path in as_texts(flat[key])]
                decisive[key] = f"files with the checksum {' '.join(found)}"
        config.data.validation = None
        data = build_data(config, num_workers=0, minimum_size_px=1)
        data.setup("fit")
        decisive["data.train"] = f"files with the checksum {data.fingerprint}"
        return decisive

    # The trials

    def _search(
        self,
        space: Mapping[str, "BaseDistribution"],
        fixed: Mapping[str, str],
        directions: Sequence["StudyDirection"],
        example: Mapping[str, object],
    ) -> None:
        from optuna.distributions import distribution_to_json
        from optuna.storages import get_storage
        from optuna.trial import TrialState

        url = self.storage or storage_url(self.folder)
        storage = get_storage(url)
        study = self._open(storage, directions)
        self._check_settings(study, space, fixed, example)
        self._grid = {
            "space": {key: distribution_to_json(kind) for key, kind in space.items()},
            "sampler": OmegaConf.to_container(self.sampler),
        }
        owner = write_place(self.folder, storage=self.storage, name=self.study_name)
        unfinished = [
            trial
            for trial in study.get_trials(states=[TrialState.RUNNING])
            # In a storage of our own they are ours, wherever the folder has been before.
            if self.storage is None or trial.user_attrs.get(OWNER) == owner
        ]
        while True:
            batch, unfinished = unfinished[: self.num_jobs], unfinished[self.num_jobs :]
            while len(batch) < self.num_jobs and self._has_more(study):
                batch.append(self._ask(study, space, owner))
            if not batch:
                break
            self._train(study, storage, url, batch, list(fixed.values()))
            self._write(study)
        self._conclude(study)

    def _has_more(self, study: "Study") -> bool:
        from optuna.trial import TrialState

        if study.user_attrs.get(EXHAUSTED) == self._grid:
            return False
        trials = study.get_trials(deepcopy=False)
        return sum(trial.state != TrialState.WAITING for trial in trials) < self.num_trials

    def _ask(
        self, study: "Study", space: Mapping[str, "BaseDistribution"], owner: str
    ) -> "FrozenTrial":
        try:
            trial = study.ask(dict(space))
        except ValueError as error:
            raise UserError(
                f"this search has had another space ({' '.join(str(error).split())}); keep it, or"
                " take another hydra.sweeper.study_name."
            ) from error
        trial.set_user_attr(FOLDER, str(self.folder))
        trial.set_user_attr(OWNER, owner)
        return study.get_trials()[trial.number]

    def _train(
        self,
        study: "Study",
        storage: "BaseStorage",
        url: str,
        trials: Sequence["FrozenTrial"],
        fixed: Sequence[str],
    ) -> None:
        """Trains through the launcher, and tells Optuna how each trial ended."""
        assert self.launcher is not None
        jobs: list[list[str]] = []
        for trial in trials:
            place = trial_folder(self.folder, trial.number) / "trial.json"
            self._describe(place, url, trial.number)
            subdir = f"hydra.sweep.subdir={place.parent.name}"
            words = [*fixed, *_words(trial.params), "resume=true", subdir]
            jobs.append([*words, as_override("search", str(place))])
            log.info("Trial %d: %s", trial.number, " ".join(_words(trial.params)))
        results = self.launcher.launch(jobs, initial_job_idx=trials[0].number)
        interruption: BaseException | None = None
        for trial, result in zip(trials, results, strict=True):
            failure = _error_of(result)
            if isinstance(failure, InterruptedRunError) or _is_of_disk(failure):
                interruption = failure  # it stays unfinished, and goes on later
            else:
                self._tell(study, storage, trial, failure)
        if interruption is not None:
            raise interruption

    def _describe(self, path: Path, url: str, number: int) -> None:
        """Tells a trial's training where to report; a URL may have a password, so in a file."""
        is_pruned = self.pruner is not None and len(self.objectives) == 1
        content = {
            "storage": url,
            "study": self.study_name,
            "trial": number,
            "objective": self.objectives[0],
            "pruner": OmegaConf.to_container(self.pruner) if is_pruned else None,
        }
        write_private(path, content)

    def _tell(
        self,
        study: "Study",
        storage: "BaseStorage",
        trial: "FrozenTrial",
        failure: BaseException | None,
    ) -> None:
        from optuna.trial import TrialState

        from asrgan.studies import last_scores

        if isinstance(failure, PrunedError):
            self._end(study, trial.number, state=TrialState.PRUNED)
            log.info("Trial %d: pruned. %s", trial.number, failure)
            return
        reason: str | None = None
        values: list[float] = []
        if failure is not None:
            kind = "diverged" if isinstance(failure, DivergedError) else type(failure).__name__
            text = " ".join(str(failure).split())
            reason = text if type(failure) is UserError else f"{kind}: {text}"
        else:
            scores = last_scores(trial_folder(self.folder, trial.number) / "metrics.csv")
            values = [scores.get(name, math.nan) for name in self.objectives]
            if not all(map(math.isfinite, values)):
                reason = f"{', '.join(self.objectives)} ended at {', '.join(map(str, values))}"
        if reason is not None:
            trial_id = storage.get_trial_id_from_study_id_trial_number(
                storage.get_study_id_from_name(self.study_name), trial.number
            )
            storage.set_trial_user_attr(trial_id, FAILURE, reason)
            self._end(study, trial.number, state=TrialState.FAIL)
            log.warning("Trial %d failed: %s", trial.number, reason)
            return
        self._end(study, trial.number, values=values)
        log.info("Trial %d: %s", trial.number, self._scores(values))

    def _end(self, study: "Study", number: int, **how: Any) -> None:
        try:
            study.tell(number, **how)
        except RuntimeError:
            # Samplers of a finite grid stop the study behind its last point, which Optuna allows
            # in its own loop alone; the trial is told by then.
            if not study.get_trials(deepcopy=False)[number].state.is_finished():
                raise
            study.set_user_attr(EXHAUSTED, self._grid)

    # What comes out

    def _scores(self, values: Sequence[float]) -> str:
        return ", ".join(f"{n} {v:.6g}" for n, v in zip(self.objectives, values, strict=True))

    def _write(self, study: "Study") -> Search:
        """Writes ``trials.csv``."""
        search = read_search(study)
        write_trials(self.folder / "trials.csv", search)
        return search

    def _conclude(self, study: "Study") -> None:
        search = self._write(study)
        log.info("%d trials: %s", len(search.trials), search.count())
        if not search.best:
            reasons = [trial.failure for trial in search.trials if trial.failure is not None]
            last = f"; the last: {reasons[-1]}" if reasons else ""
            raise UserError(f"no trial came to its end{last}")
        log.info("%s", "Best:" if len(self.objectives) == 1 else "Pareto front:")
        for trial in search.best:
            words = " ".join(trial.overrides)
            log.info("Trial %d: %s: %s", trial.number, self._scores(trial.values), words)
        log.info("%-12s%s", "Table", self.folder / "trials.csv")
        log.info("%-12s%s", "Report", shlex.join(["asrgan", "study", "report", str(self.folder)]))
        if self.storage is None:
            log.info("%-12s%s", "Storage", storage_url(self.folder))


def _distribution(key: str, override: Override) -> "BaseDistribution":
    """What Hydra's grammar says of a key, in Optuna's terms."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    sweep = override.value()
    if isinstance(sweep, ChoiceSweep | RangeSweep):
        sweep.shuffle = False  # an order means nothing to a search, and must stay
    try:
        if isinstance(sweep, IntervalSweep):
            kind = IntDistribution if isinstance(sweep.start, int) else FloatDistribution
            low: Any = sweep.start
            return kind(low, type(low)(sweep.end), log="log" in sweep.tags)
        if isinstance(sweep, RangeSweep):
            numbers: list[Any] = sorted(sweep.range())
            if not numbers:
                raise ValueError("it is empty")
            kind = IntDistribution if isinstance(numbers[0], int) else FloatDistribution
            step: Any = abs(sweep.step)
            return kind(numbers[0], numbers[-1], step=step)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        raise UserError(f"`{key}` cannot be searched: {' '.join(str(error).split())}") from error


def _words(params: Mapping[str, object]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def _is_of_disk(error: BaseException | None) -> bool:
    """Whether a disk was full, broken or closed: whatever is tried next would fail as well."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return True
    return error is not None and _is_of_disk(error.__cause__)


def _error_of(result: JobReturn) -> BaseException | None:
    try:
        with redirect_stderr(io.StringIO()):  # Hydra repeats the overrides there
            _ = result.return_value
    except Exception as error:  # whatever the training raised
        return cause_of(error)
    return None
