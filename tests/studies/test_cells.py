"""Cells, and many of them, whatever happens: with a program that counts instead of training."""

import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from asrgan.errors import PreemptedRunError, UserError
from asrgan.studies.cells import Share, run_cell
from asrgan.studies.folder import CellFolder, CellPlan, StudyFolder, StudyPlan
from asrgan.studies.local import Agenda, run_locally, shares
from asrgan.studies.results import hours, read_results, write_results

TOY = (sys.executable, str(Path(__file__).with_name("toy_asrgan.py")))

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def plan_cell(
    folder: Path, kind: str, model: str, seed: int, *settings: str, start: str | None = None
) -> CellPlan:
    path = f"{kind}s/{model}/seed_{seed}"
    where = folder / path
    return CellPlan(
        path=path,
        kind=kind,
        model=model,
        seed=seed,
        identity=f"{model} {seed}",
        config={},
        data={},
        code={"version": "v", "commit": "c"},
        start=start,
        max_iterations=6,
        num_devices=1,
        images_per_iteration=1,
        train=["max_iterations=6", f"seed={seed}", *settings, f"output_dir={where}"],
        evaluate=[
            f"models=[{model}:{where}/generator.safetensors]",
            f"output_dir={where}/evaluation",
        ],
        evaluation="on Set5",
    )


def make_study(folder: Path, *plans: CellPlan) -> StudyFolder:
    study = StudyFolder(folder)
    for plan in plans:
        study.cell(plan.path).write_plan(plan)
    study.write_plan(
        StudyPlan(
            name="toy",
            question="Does it count?",
            baseline="A",
            metric="psnr_y_db",
            difference=0.1,
            seeds=[1, 2],
            scale=4,
            benchmarks={},
            cells=[plan.path for plan in plans],
            home=str(folder),
            sources="",
        )
    )
    return study


def make_cell(folder: Path, *settings: str) -> CellFolder:
    plan = plan_cell(folder, "variant", "A", 1, *settings)
    return make_study(folder, plan).cell(plan.path)


def run(cell: CellFolder, **options: object) -> None:
    run_cell(cell, program=TOY, **options)


def run_all(study: StudyFolder, *, jobs: int = 1, retry: bool = False) -> None:
    run_locally(
        Agenda(study, retry=retry),
        lambda cell, share, stop: run(cell, share=share, stop=stop),
        jobs=jobs,
        num_devices=1,
    )


def lines(cell: CellFolder, name: str) -> list[str]:
    path = cell.folder / name
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def wait_until(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_cell_is_trained_and_evaluated_once(tmp_path: Path):
    cell = make_cell(tmp_path)
    assert cell.status() == "waiting"
    run(cell)
    run(cell)
    assert cell.status() == "finished"
    assert lines(cell, "steps.txt") == ["1", "2", "3", "4", "5", "6"]
    assert lines(cell, "evaluation/evaluations.txt") == ["A"]
    assert [(a.step, a.exit_code) for a in cell.state().attempts] == [("train", 0), ("evaluate", 0)]
    assert hours(cell.state()) > 0


def test_other_benchmarks_need_another_evaluation_only(tmp_path: Path):
    cell = make_cell(tmp_path)
    run(cell)
    plan = cell.plan()
    assert plan is not None
    cell.write_plan(replace(plan, evaluation="on Set14, too"))
    assert cell.status() == "interrupted"
    run(cell)
    assert cell.status() == "finished"
    assert len(lines(cell, "starts.txt")) == 1
    assert lines(cell, "evaluation/evaluations.txt") == ["A", "A"]


def test_a_table_that_an_ended_evaluation_left_is_written_again(tmp_path: Path):
    cell = make_cell(tmp_path)
    run(cell)
    plan = cell.plan()
    assert plan is not None
    (cell.folder / "generator.safetensors").write_text("0", encoding="utf-8")  # another score
    cell.write_state(replace(cell.state(), trained={}))
    cell.write_plan(replace(plan, evaluation="another", evaluate=[*plan.evaluate, "require=1"]))
    run(cell)
    assert cell.status() == "failed"
    cell.check_files()
    cell.write_plan(replace(plan, evaluation="another"))
    run(cell)
    assert cell.status() == "finished"


def test_a_cell_that_is_asked_to_stop_saves_and_goes_on_later(tmp_path: Path):
    hold = tmp_path / "hold"
    hold.touch()
    cell = make_cell(tmp_path, f"hold={hold}")
    stop = threading.Event()
    thread = threading.Thread(target=run, args=[cell], kwargs={"stop": stop})
    thread.start()
    wait_until(lambda: lines(cell, "starts.txt"))
    assert cell.status() == "running"
    stop.set()
    wait_until(lambda: lines(cell, "signals.txt"))
    hold.unlink()
    thread.join()
    assert cell.status() == "interrupted"
    assert lines(cell, "steps.txt") == ["1"]
    assert cell.state().failure is None
    run(cell)
    assert cell.status() == "finished"
    assert lines(cell, "steps.txt") == ["1", "2", "3", "4", "5", "6"]


def test_a_cell_that_was_killed_is_interrupted_and_goes_on_from_its_checkpoint(tmp_path: Path):
    cell = make_cell(tmp_path, "killed_at=5")
    half = cell.folder / "evaluation" / ".per_image.123.csv"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    run(cell)
    assert cell.status() == "interrupted"
    assert cell.state().attempts[-1].exit_code == -signal.SIGKILL
    run(cell)
    assert cell.status() == "finished"
    assert lines(cell, "steps.txt") == ["1", "2", "3", "4", "5", "5", "6"]
    assert not half.exists()


def test_a_cell_that_a_scheduler_preempts_is_interrupted_and_goes_on(tmp_path: Path):
    cell = make_cell(tmp_path, "preempted_at=3")
    run(cell)
    assert cell.status() == "interrupted"
    assert cell.state().attempts[-1].exit_code == PreemptedRunError.exit_code
    run(cell)
    assert cell.status() == "finished"
    assert lines(cell, "steps.txt") == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("diverge_at=3", "`loss` is no longer finite (nan) at iteration 3."),
        ("crash_at=3", "ZeroDivisionError: a bug (exit code 1; see "),
    ],
)
def test_a_failure_is_told_in_one_line_and_not_tried_again_unasked(
    tmp_path: Path, setting: str, reason: str
):
    cell = make_cell(tmp_path, setting)
    study = StudyFolder(tmp_path)
    run_all(study)
    assert cell.status() == "failed"
    assert str(cell.state().failure).startswith(reason)
    run_all(study)
    assert len(cell.state().attempts) == 1
    plan = cell.plan()
    assert plan is not None
    cell.write_plan(replace(plan, train=[word for word in plan.train if word != setting]))
    run_all(study, retry=True)
    assert cell.status() == "finished"
    assert cell.state().failure is None


def test_a_cell_in_other_hands_is_left_to_them(tmp_path: Path):
    cell, same = make_cell(tmp_path), make_cell(tmp_path)
    assert cell.lock.acquire()
    run(same)
    assert not cell.state().attempts
    cell.lock.release()
    run(same)
    assert cell.status() == "finished"


def test_a_result_that_was_edited_is_noticed(tmp_path: Path):
    cell = make_cell(tmp_path)
    run(cell)
    cell.check_files()
    table = cell.folder / "evaluation" / "per_image.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("0.", "1."), encoding="utf-8")
    with pytest.raises(UserError, match=r"per_image.csv` is not .*evaluation to score it again"):
        cell.check_files()
    table.unlink()
    cell.check_files()
    run(cell)
    assert cell.status() == "finished"
    (cell.folder / "generator.safetensors").unlink()
    with pytest.raises(UserError, match=r"generator.safetensors` is not what .* to train it anew"):
        cell.check_files()


def toy_study(folder: Path, *settings: str) -> StudyFolder:
    stage = plan_cell(folder, "stage", "S", 1, *settings)
    variants = [
        plan_cell(folder, "variant", model, seed, *settings, start=stage.path)
        for model in ("A", "B")
        for seed in (1, 2)
    ]
    return make_study(folder, stage, *variants)


def test_what_starts_from_a_stage_waits_for_it(tmp_path: Path):
    study = toy_study(tmp_path)
    run_all(study, jobs=2)
    stage, *variants = study.cells()
    end = (stage.folder / "evaluation" / "per_image.csv").stat().st_mtime_ns
    for cell in variants:
        assert cell.status() == "finished"
        assert (cell.folder / "train.log").stat().st_ctime_ns > end


def test_what_starts_from_a_failed_stage_is_not_started(tmp_path: Path):
    study = toy_study(tmp_path, "crash_at=1")
    run_all(study)
    assert [cell.status() for cell in study.cells()] == ["failed", *["waiting"] * 4]


def test_a_first_signal_lets_cells_save_and_a_second_ends_at_once(tmp_path: Path):
    hold = tmp_path / "hold"
    hold.touch()
    study = toy_study(tmp_path / "study", f"hold={hold}")
    stage = study.cells()[0]
    fork = multiprocessing.get_context("fork")
    driver = fork.Process(target=run_all, args=[study])
    driver.start()
    wait_until(lambda: lines(stage, "starts.txt"))
    os.kill(driver.pid, signal.SIGINT)
    wait_until(lambda: lines(stage, "signals.txt"))
    hold.unlink()
    driver.join()
    assert driver.exitcode == 0
    assert [cell.status() for cell in study.cells()] == ["interrupted", *["waiting"] * 4]
    assert lines(stage, "steps.txt") == ["1"]

    hold.touch()
    driver = fork.Process(target=run_all, args=[study])
    driver.start()
    wait_until(lambda: len(lines(stage, "starts.txt")) == 2)
    os.kill(driver.pid, signal.SIGTERM)
    wait_until(lambda: len(lines(stage, "signals.txt")) == 2)
    os.kill(driver.pid, signal.SIGTERM)
    driver.join()
    assert driver.exitcode == 130
    hold.unlink()
    wait_until(lambda: stage.status() == "interrupted")


def test_a_study_killed_again_and_again_ends_like_an_undisturbed_one(tmp_path: Path):
    undisturbed = toy_study(tmp_path / "undisturbed")
    run_all(undisturbed, jobs=2)
    study = toy_study(tmp_path / "killed", "step_s=0.25")
    dice = random.Random(5)
    fork = multiprocessing.get_context("fork")
    for _ in range(5):
        driver = fork.Process(target=run_all, args=[study], kwargs={"jobs": 2})
        driver.start()
        time.sleep(dice.uniform(0.05, 0.6))
        driver.kill()
        driver.join()
        assert driver.exitcode == -signal.SIGKILL  # it was still at work
    run_all(study, jobs=2)
    assert write_results(study) == write_results(undisturbed)
    assert read_results(study) == read_results(undisturbed)
    for cell in study.cells():
        # The death of the study asks each training to stop, and it saves: nothing is done twice.
        assert lines(cell, "steps.txt") == ["1", "2", "3", "4", "5", "6"]


def test_trainings_end_with_a_killed_study_and_keep_their_cells_until_then(tmp_path: Path):
    hold = tmp_path / "hold"
    hold.touch()
    cell = make_cell(tmp_path, f"hold={hold}")
    driver = multiprocessing.get_context("fork").Process(target=run, args=[cell])
    driver.start()
    wait_until(lambda: lines(cell, "starts.txt"))
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    assert cell.status() == "running"
    hold.unlink()
    wait_until(lambda: cell.status() == "interrupted")
    assert lines(cell, "steps.txt") == ["1"]
    assert lines(cell, "checkpoint.txt")


@pytest.mark.parametrize(
    ("jobs", "cores", "gpus", "expected"),
    [
        (1, [0, 1, 2, 3], [], [([], None)]),
        (2, [0, 1, 2, 3], [], [([0, 1], None), ([2, 3], None)]),
        (2, [4, 5, 6], ["0", "1"], [([4], ["0"]), ([5, 6], ["1"])]),
        (2, [0, 1], ["0", "1", "2", "3"], [([0], ["0", "1"]), ([1], ["2", "3"])]),
        (3, [0, 1], ["7"], [([0], ["7"]), ([1], ["7"]), ([0], ["7"])]),
    ],
)
def test_a_machine_is_divided(
    jobs: int,
    cores: Sequence[int],
    gpus: Sequence[str],
    expected: Sequence[tuple[Sequence[int], Sequence[str] | None]],
):
    divided = shares(jobs, cores=cores, gpus=gpus)
    assert [(share.cores, share.gpus) for share in divided] == expected


def test_a_share_becomes_threads_and_visible_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Share().environment(num_processes=1) == {}
    share = Share(cores=[0, 1, 2, 3], gpus=["2", "3"])
    assert share.environment(num_processes=2) == {
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "2,3",
    }
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert share.environment(num_processes=1)["OMP_NUM_THREADS"] == "1"


def test_a_cell_gets_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cell = make_cell(tmp_path)
    core = min(os.sched_getaffinity(0))
    run(cell, share=Share(cores=[core]))
    assert lines(cell, "starts.txt") == ["0 1"]
