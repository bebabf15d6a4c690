"""`asrgan train -m hydra/sweeper=optuna`, with networks that are trained in a moment."""

import csv
import errno
import logging
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
import pytorch_lightning as pl
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from pytorch_lightning.callbacks import Callback

from asrgan.searches import write_place
from asrgan.subprocesses import Lock
from hydra_plugins.asrgan_search import _distribution

pytestmark = pytest.mark.filterwarnings("ignore:.*GPU available but not used")

LR = "optimizer.generator.lr"


Search = Callable[..., Any]


@pytest.fixture
def search(asrgan: Callable[..., Any], photographs: Path, tiny: Sequence[str]) -> Search:
    """A search in this process, into a folder ``out``."""
    data = [f"data.train={photographs}/train", f"data.validation={photographs}/Val"]
    common = ["experiment=srresnet_x4", "size=small", *data, *tiny, "output_dir=out"]
    plain = ["optimizer.generator_schedule=null", "validate_every=2", "max_iterations=4"]
    return partial(asrgan, "train", "-m", "hydra/sweeper=optuna", *common, *plain)


def trials_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def open_study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/search.db")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=interval(0.1,1)", FloatDistribution(0.1, 1.0)),
        ("a=tag(log,interval(1e-5,1e-3))", FloatDistribution(1e-5, 1e-3, log=True)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=int(tag(log,interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("a=range(1,9,2)", IntDistribution(1, 7, step=2)),
        ("a=range(8,1,-2)", IntDistribution(2, 8, step=2)),
        ("a=range(0.0,1.0,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("a=1,null,x", CategoricalDistribution(["1", "null", "x"])),
        ("a=shuffle(x,y)", CategoricalDistribution(["x", "y"])),
        ("+a=choice([{b:1}],[])", CategoricalDistribution(["[{b:1}]", "[]"])),
    ],
)
def test_hydras_grammar_spans_the_space(word: str, expected: object):
    (override,) = OverridesParser.create().parse_overrides([word])
    assert _distribution("a", override) == expected


BRUTE = "hydra.sweeper.sampler._target_=optuna.samplers.BruteForceSampler"


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
def test_a_diverged_trial_is_recorded_as_such_and_the_same_command_adds_nothing(
    search: Search, tmp_path: Path
):
    words = [f"{LR}=1e-3,1e30", BRUTE, "hydra.sweeper.num_trials=9", "hydra.sweeper.pruner=null"]
    result = search(*words)
    assert result.code == 0, result.err
    trials = {trial[LR]: trial for trial in trials_of(tmp_path / "out")}
    good, bad = trials["0.001"], trials["1e+30"]
    assert (good["state"], good["is_best"], good["failure"]) == ("complete", "True", "")
    assert (bad["state"], bad["is_best"], bad["psnr_y_db"]) == ("fail", "False", "")
    assert bad["failure"].startswith("diverged: ")
    with (Path(good["folder"]) / "metrics.csv").open(encoding="utf-8", newline="") as file:
        scores = [row["val/Val/psnr_y_db"] for row in csv.DictReader(file)]
    assert good["psnr_y_db"] == [score for score in scores if score][-1]
    study = open_study(tmp_path / "out")
    assert study.best_params == {LR: "0.001"}
    assert f"psnr_y_db {study.best_value:.6g}: {LR}=0.001" in result.out
    again = search(*words)
    assert again.code == 0, again.err
    assert len(open_study(tmp_path / "out").trials) == 2


def test_a_pruner_ends_a_trial_after_a_validation(search: Search, tmp_path: Path):
    pruner = "{_target_:optuna.pruners.ThresholdPruner,lower:1000}"
    words = [f"{LR}=interval(1e-4,1e-3)", "hydra.sweeper.num_trials=1"]
    result = search(*words, "~hydra.sweeper.pruner", f"+hydra.sweeper.pruner={pruner}")
    assert result.code == 2
    assert "no trial came to its end" in result.err
    (trial,) = open_study(tmp_path / "out").trials
    assert trial.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == [2]
    with (tmp_path / "out" / "trial_0" / "metrics.csv").open(encoding="utf-8") as file:
        assert file.read().splitlines()[-1].startswith("2,")


def test_several_objectives_have_a_pareto_front_and_a_report(
    search: Search, asrgan: Callable[..., Any], tmp_path: Path
):
    objectives = "hydra.sweeper.objectives=[psnr_y_db,content_loss]"
    result = search(f"{LR}=tag(log,interval(1e-5,1e-1))", objectives, "hydra.sweeper.num_trials=3")
    assert result.code == 0, result.err
    assert "Pareto front:" in result.out
    rows = trials_of(tmp_path / "out")
    scores = [(float(row["psnr_y_db"]), -float(row["content_loss"])) for row in rows]
    for row, own in zip(rows, scores, strict=True):
        is_beaten = any(o != own and o[0] >= own[0] and o[1] >= own[1] for o in scores)
        assert row["is_best"] == str(not is_beaten)
    report = asrgan("study", "report", "out")
    assert report.code == 0, report.err
    best = [row["trial"] for row in rows if row["is_best"] == "True"]
    assert report.out.splitlines()[0].endswith(f"on the Pareto front: {', '.join(best)}.")
    assert {path.name for path in (tmp_path / "out" / "report").iterdir()} == {
        "report.html",
        "report.md",
    }
    other = search(f"{LR}=interval(0,1)", "hydra.sweeper.objectives=[psnr_y_db]")
    assert other.code == 2
    assert "have been ['psnr_y_db', 'content_loss']; keep them" in other.err


def test_an_unfinished_trial_goes_on_and_two_machines_share_a_storage(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = f"sqlite:///{tmp_path}/shared.db"
    own = write_place(tmp_path / "out", storage=url, name="search")
    other = write_place(tmp_path / "on_another_machine", storage=url, name="search")
    study = optuna.create_study(study_name="search", storage=url, direction="maximize")
    space = {LR: CategoricalDistribution(["0.001"])}
    for owner in (own, other):
        trial = study.ask(space)
        trial.set_user_attr("folder", str(tmp_path / "out"))  # of both, by the same path
        trial.set_user_attr("owner", owner)
    shared = f"hydra.sweeper.storage={url}"
    left_behind = Lock(tmp_path / "out" / "trial_0" / "trial.lock")
    assert left_behind.acquire()

    def let_go(record: logging.LogRecord) -> bool:
        if "still trained by process" in record.getMessage():
            left_behind.release()
        return True

    monkeypatch.setattr(logging.getLogger("asrgan.train"), "filters", [let_go])
    result = search(f"{LR}=choice(0.001)", shared, "hydra.sweeper.num_trials=3")
    assert result.code == 0, result.err
    assert "This trial is still trained by process" in result.out
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.COMPLETE]
    assert [row["state"] for row in trials_of(tmp_path / "out")][1] == "running"


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
def test_a_full_disk_ends_the_search_and_the_same_command_goes_on(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    # What no training takes is recorded as a failed trial, as long as there is something else.
    words = ["data.batch_size=2,0", BRUTE, "hydra.sweeper.num_trials=9"]
    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "save_checkpoint", fill)
        result = search(*words)
    assert result.code == 2
    assert "No space left on device" in result.err
    trials = open_study(tmp_path / "out").trials
    assert [trial.state for trial in trials][-1] == TrialState.RUNNING
    result = search(*words)
    assert result.code == 0, result.err
    trials = {trial["data.batch_size"]: trial for trial in trials_of(tmp_path / "out")}
    assert trials["2"]["state"] == "complete"
    assert trials["0"]["failure"].startswith("`data.batch_size` (=0) must be a whole number")


def test_a_search_compares_only_what_can_be_compared(
    search: Search, tmp_path: Path, photographs: Path
):
    space = f"{LR}=interval(1e-4,1e-3)"
    assert search(space, "hydra.sweeper.num_trials=1").code == 0
    shutil.copytree(photographs / "Val", tmp_path / "moved" / "Val")
    shutil.copytree(photographs / "Val", tmp_path / "less" / "Val")
    (tmp_path / "less" / "Val" / "left.png").unlink()
    for word, message in [
        ("max_iterations=8", "`max_iterations` of this search has been 4 and is now 8; keep it"),
        ("seed=2", "`seed` of this search has been 1 and is now 2; keep it"),
        ("data.validation=less/Val", "`data.validation` of this search has been files with the"),
    ]:
        result = search(space, word, "hydra.sweeper.num_trials=2")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert message in result.err
    wider = [f"{LR}=interval(1e-5,1e-3)", "generator.num_features=4,12"]
    elsewhere = ["data.validation=moved/Val", "trainer.log_every=1", "data.cache_mib=1"]
    result = search(*wider, *elsewhere, "hydra.sweeper.num_trials=2")
    assert result.code == 0, result.err
    assert [row["state"] for row in trials_of(tmp_path / "out")] == ["complete", "complete"]
    assert search(space, "generator.num_features=4", "hydra.sweeper.num_trials=2").code == 0


class Terminate(Callback):
    """SIGTERM in the third iteration."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.lightning_module.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_search_that_was_asked_to_stop_starts_nothing_more_and_goes_on_later(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = [f"{LR}=interval(1e-4,1e-3)", "hydra.sweeper.num_trials=2", "hydra.sweeper.num_jobs=2"]
    trainer = pl.Trainer
    with monkeypatch.context() as patch:
        patch.setattr(
            pl,
            "Trainer",
            lambda callbacks, **how: trainer(callbacks=[*callbacks, Terminate()], **how),
        )
        result = search(*words)
    assert result.code == 130
    assert "asrgan: Stopped at iteration 3 of 4 and saved" in result.err
    states = [trial.state for trial in open_study(tmp_path / "out").trials]
    assert states == [TrialState.RUNNING, TrialState.RUNNING]
    assert not (tmp_path / "out" / "trial_1" / "metrics.csv").exists()
    result = search(*words)
    assert result.code == 0, result.err
    assert [row["state"] for row in trials_of(tmp_path / "out")] == ["complete", "complete"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "a search needs something to look for; try optimizer.generator.lr="),
        ([f"{LR}=interval(1,0.1)"], f"`{LR}` cannot be searched: "),
        (["optimizer.lr=interval(0.1,1)"], "`optimizer.lr` is no key of `asrgan train`"),
        ([f"{LR}=interval(0,1)", "hydra.sweeper.num_jobs=0"], "`hydra.sweeper.num_jobs` (=0) must"),
        ([f"{LR}=interval(0,1)", "data.validation=null"], "with data.validation, whose scores"),
        ([f"{LR}=interval(0,1)", "data.train=no_photographs"], "no_photographs"),
        ([f"{LR}=interval(0,1)", "data.validation=no_photographs"], "no_photographs"),
        ([f"{LR}=interval(0,1)", "optimizer.accumulate=3"], "`max_iterations` (=4) must be divis"),
        (
            [f"{LR}=interval(0,1)", "hydra.sweeper.objectives=[beauty]"],
            "`hydra.sweeper.objectives` (=['beauty']) must be different ones of psnr_y_db, ",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_before_anything_is_trained(
    search: Search, tmp_path: Path, words: list[str], message: str
):
    result = search(*words)
    assert result.code == 2
    assert result.err.startswith("asrgan: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_objective_without_its_weights_is_told_before_anything_is_trained(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    objectives = ["hydra.sweeper.objectives=[lpips_alex]", "trainer.metrics=[lpips_alex]"]
    result = search(f"{LR}=interval(0,1)", *objectives)
    assert result.code == 2
    assert "(=['lpips_alex']): lpips_alex cannot be computed without its weights" in result.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status"], "`out` holds a search; try asrgan study report out."),
        (["report", "wandb=me/sr"], "`wandb` (=me/sr) takes a study; "),
        (["report"], "search.db` is gone, and with it all trials."),
    ],
    ids=" ".join,
)
def test_what_a_search_cannot_tell_is_one_line(
    asrgan: Callable[..., Any], tmp_path: Path, words: list[str], message: str
):
    write_place(tmp_path / "out", storage=None, name="search")
    result = asrgan("study", words[0], "out", *words[1:])
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_storage_that_cannot_be_read_is_one_line(asrgan: Callable[..., Any], tmp_path: Path):
    write_place(tmp_path / "out", storage=f"sqlite:///{tmp_path}/other.db", name="search")
    result = asrgan("study", "report", "out")
    assert result.code == 2
    assert "the storage of `" in result.err
    assert result.err.count("\n") == 1


def test_nobody_else_reads_where_the_storage_is(tmp_path: Path):
    write_place(tmp_path, storage="mysql://me:secret@db/search", name="search")
    assert (tmp_path / "search.json").stat().st_mode & 0o077 == 0


def test_a_full_disk_leaves_the_place_of_the_storage_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_place(tmp_path, storage=None, name="search")
    earlier = (tmp_path / "search.json").read_bytes()

    def fill(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text[:5].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(OSError, match=r"No space left on device.*search\.json"):
        write_place(tmp_path, storage=None, name="another")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"search.json": earlier}


def test_a_folder_belongs_to_one_search(search: Search, tmp_path: Path):
    lock = Lock(tmp_path / "out" / "search.lock")
    assert lock.acquire()
    result = search(f"{LR}=interval(1e-4,1e-3)")
    lock.release()
    assert result.code == 2
    assert "is in the hands of another search (process " in result.err
