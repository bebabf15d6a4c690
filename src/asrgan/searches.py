"""A search by Optuna: how it lies on disk, and what it has found so far.

::

    OUTPUT_DIR/
      search.json             where Optuna keeps the search: URL of the storage, its name there;
                              the folder's id, since two machines may have folders of one path
      search.db               the storage, unless the URL leads elsewhere
      search.lock             held by the `asrgan train` that works here
      trials.csv              all trials of the storage, also those of other folders
      trial_N/                what `asrgan train` writes; trial.json: where it reports
      report/                 of `asrgan study report`
"""

import csv
import importlib.util
import json
import secrets
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from asrgan.errors import UserError
from asrgan.files import atomic_path

if TYPE_CHECKING:
    import optuna

PLACE = "search.json"
"""File of a search's folder that says where its storage is."""
FOLDER = "folder"
"""A trial's attribute: the search's folder where it is trained."""
OWNER = "owner"
"""Another: the id of that folder."""
FAILURE = "failure"
"""Another: why it failed."""
OBJECTIVES = "objectives"
"""The search's attribute: the names of its scores."""
EXAMPLE = "example"
"""Another: overrides of a first trial, and what they say that decides its scores."""
EXHAUSTED = "exhausted"
"""Another: the space of which each point has been tried, and its sampler; another one goes on."""

Axis = Literal["linear", "log", "words"]
_FEW_TRIALS = 10  # fewer say nothing of what matters: the best tenth of them is not one


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of overrides, and what came of it.

    Attributes:
        number: in the search.
        state: in Optuna's words: ``complete``, ``pruned``, ``fail``, ``running``, ``waiting``.
        values: of the objectives; empty: the trial did not come to its end.
        is_best: the best one, or one of the Pareto front.
        params: searched key -> its value.
        folder: where it is trained.
        failure: why it failed; or None.
        reports: iteration -> first objective, of each validation that a pruner has seen.
    """

    number: int
    state: str
    values: Sequence[float]
    is_best: bool
    params: Mapping[str, object]
    folder: Path
    failure: str | None
    reports: Mapping[int, float]

    @property
    def overrides(self) -> list[str]:
        """Of ``asrgan train``."""
        return [f"{key}={value}" for key, value in self.params.items()]


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search, ended or not.

    Attributes:
        name: in its storage.
        objectives: names of validation scores.
        directions: of each: 1 where higher is better, -1 where lower is.
        axes: searched key -> the axis on which it was searched.
        trials: in order.
        importances: objective -> key -> its share of what makes a trial one of the best, by
            PED-ANOVA (Watanabe, Bansal and Hutter 2023); empty while there are few trials.
    """

    name: str
    objectives: Sequence[str]
    directions: Sequence[int]
    axes: Mapping[str, Axis]
    trials: Sequence[Trial]
    importances: Mapping[str, Mapping[str, float]]

    @property
    def best(self) -> list[Trial]:
        """The best trial, or those of the Pareto front."""
        return [trial for trial in self.trials if trial.is_best]

    def count(self) -> str:
        """How many trials are in which state: ``7 complete, 2 pruned``."""
        states = [trial.state for trial in self.trials]
        return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def trial_folder(folder: Path, number: int) -> Path:
    """Where a search has a trial trained."""
    return folder / f"trial_{number}"


def storage_url(folder: Path) -> str:
    """Of the storage that a search keeps in its own folder."""
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(folder / "search.db")).render_as_string()


def write_place(folder: Path, *, storage: str | None, name: str) -> str:
    """Writes ``search.json``.

    Args:
        folder: of the search.
        storage: URL; None: the search's own, wherever the folder will be.
        name: of the search in the storage.

    Returns:
        The folder's id, which it keeps.
    """
    path = folder / PLACE
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    identity: str = earlier.get("id") or secrets.token_hex(8)
    write_private(path, {"storage": storage, "name": name, "id": identity})
    return identity


def write_private(path: Path, content: Mapping[str, object]) -> None:
    """Writes JSON that nobody else may read: a URL may have a password. See `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_search(folder: Path) -> Search:
    """What the search of a folder has found so far, while it runs, too.

    Raises:
        UserError: its storage cannot be opened, or Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("a search needs another package; try: pip install 'asrgan[optuna]'.")
    import optuna

    place = json.loads((folder / PLACE).read_text(encoding="utf-8"))
    if place["storage"] is None and not (folder / "search.db").is_file():
        raise UserError(f"`{folder / 'search.db'}` is gone, and with it all trials.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = place["storage"] or storage_url(folder)
    try:
        return read_search(optuna.load_study(study_name=place["name"], storage=url))
    except Exception as error:  # of any storage and its driver
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the storage of `{folder}` cannot be read: {reason}") from error


def read_search(study: "optuna.Study") -> Search:
    """What Optuna knows of a search."""
    from optuna.distributions import CategoricalDistribution
    from optuna.study import StudyDirection

    objectives: list[str] = study.user_attrs[OBJECTIVES]
    directions = [1 if way == StudyDirection.MAXIMIZE else -1 for way in study.directions]
    trials = study.get_trials(deepcopy=False)
    axes: dict[str, Axis] = {}
    for trial in trials:
        for key, distribution in trial.distributions.items():
            is_number = not isinstance(distribution, CategoricalDistribution)
            is_log = is_number and getattr(distribution, "log", False)
            axes[key] = "log" if is_log else "linear" if is_number else "words"
    best = _best(study)
    return Search(
        name=study.study_name,
        objectives=objectives,
        directions=directions,
        axes=axes,
        trials=[
            Trial(
                number=trial.number,
                state=trial.state.name.lower(),
                values=trial.values or (),
                is_best=trial.number in best,
                params=trial.params,
                folder=trial_folder(Path(trial.user_attrs.get(FOLDER, "")), trial.number),
                failure=trial.user_attrs.get(FAILURE),
                reports=trial.intermediate_values,
            )
            for trial in trials
        ],
        importances=_importances(study, dict(zip(objectives, directions, strict=True))),
    )


def _best(study: "optuna.Study") -> list[int]:
    from optuna.trial import TrialState

    if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        return []
    if len(study.directions) == 1:
        return [study.best_trial.number]
    return [trial.number for trial in study.best_trials]


def _importances(
    study: "optuna.Study", objectives: Mapping[str, int]
) -> dict[str, Mapping[str, float]]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import FrozenTrial, TrialState

    if len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])) < _FEW_TRIALS:
        return {}
    found: dict[str, Mapping[str, float]] = {}
    for place, (name, direction) in enumerate(objectives.items()):

        def loss(trial: FrozenTrial, place: int = place, direction: int = direction) -> float:
            return -direction * trial.values[place]

        with warnings.catch_warnings():
            # It says so of every target.
            warnings.filterwarnings("ignore", "PedAnova.* to achieve low `target` values")
            found[name] = get_param_importances(
                study, evaluator=PedAnovaImportanceEvaluator(), target=loss
            )
    return found


def write_trials(path: Path, search: Search) -> None:
    """Writes all trials as CSV; ``is_best`` marks the best, or the Pareto front."""
    head = ["trial", "state", "is_best", *search.objectives, *search.axes, FOLDER, FAILURE]
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        for trial in search.trials:
            values = trial.values or [None] * len(search.objectives)
            params = (trial.params.get(key) for key in search.axes)
            names = (trial.number, trial.state, trial.is_best)
            writer.writerow([*names, *values, *params, trial.folder, trial.failure])
