from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from asrgan.studies.folder import Attempt, CellFolder, CellPlan, CellState, StudyFolder, StudyPlan
from asrgan.studies.watch import Watch, count, duration

HEAD = "iteration,train/images_per_s,train/peak_memory_mib,val/Set5/ssim_y,val/Set14/ssim_y\n"


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    study = StudyFolder(tmp_path)
    paths = [f"variants/A/seed_{seed}" for seed in (1, 2, 3)]
    for path in paths:
        plan = CellPlan(
            path=path,
            kind="variant",
            model="A",
            seed=1,
            identity="x",
            config={},
            data={},
            code={"version": "v", "commit": None},
            start=None,
            max_iterations=100,
            num_devices=1,
            images_per_iteration=8,
            train=["x"],
            evaluate=["x"],
            evaluation="e",
        )
        study.cell(path).write_plan(plan)
    study.write_plan(
        StudyPlan(
            name="toy",
            question="?",
            baseline="A",
            metric="ssim_y",
            difference=0.1,
            seeds=[1, 2, 3],
            scale=4,
            benchmarks={},
            cells=paths,
            home=str(tmp_path),
            sources="",
        )
    )
    return study


def write(cell: CellFolder, name: str, text: str) -> None:
    (cell.folder / name).parent.mkdir(exist_ok=True)
    (cell.folder / name).write_text(text, encoding="utf-8")


def attempt(step: str, code: int | None = None, seconds: float = 1800.0) -> Attempt:
    return Attempt(step=step, started="now", host="here", seconds=seconds, exit_code=code)


def test_a_running_cell_tells_its_pace_its_end_and_its_score(study: StudyFolder):
    cell = study.cells()[0]
    cell.write_state(CellState(attempts=[attempt("train")]))
    rows = "25,,,0.5,0.7\n25,16,100,,\n50,20,300,,\n50,,,0.6,0.8\n75,12,200"  # being written
    write(cell, "metrics.csv", HEAD + rows)
    assert cell.lock.acquire()
    standing = Watch(study).look()[0]
    cell.lock.release()
    assert (standing.status, standing.description) == ("running", "training")
    assert (standing.iteration, standing.progress) == (50, "50/100")
    assert standing.iterations_per_s == 2.5
    assert standing.seconds_left == 20
    assert standing.score == pytest.approx(0.7)
    assert standing.hours == 0.5


def test_only_the_end_of_a_long_table_is_read(study: StudyFolder):
    cell = study.cells()[0]
    rows = "".join(f"{i},16,100,0.{i:06d},0.5\n" for i in range(20000))
    write(cell, "metrics.csv", HEAD + rows)
    standing = Watch(study).look()[0]
    assert (standing.iteration, standing.status) == (19999, "waiting")


def test_a_finished_cell_tells_what_it_scored_on_all_pictures(study: StudyFolder):
    cell = study.cells()[0]
    table = "model,benchmark,image,psnr_y_db,ssim_y\nA,Set5,a,20,0.5\nA,Set14,b,20,0.8\nA,x,c,20,\n"
    write(cell, "evaluation/per_image.csv", table)
    state = CellState(attempts=[attempt("evaluate", 0)], trained={}, evaluated={}, evaluation="e")
    cell.write_state(state)
    watch = Watch(study)
    assert watch.look()[0].score == pytest.approx(0.65)
    assert count(watch.look()) == "1 finished, 2 waiting"
    cell.write_state(replace(state, evaluation="another"))
    assert watch.look()[0].status == "finished"  # looked at once
    assert Watch(study).look()[0].status == "interrupted"


def test_an_exact_picture_does_not_hide_the_others(study: StudyFolder):
    plan = study.plan()
    assert plan is not None
    study.write_plan(replace(plan, metric="psnr_y_db"))
    running, finished, _ = study.cells()
    head = "iteration,val/Dark/psnr_y_db,val/Set5/psnr_y_db\n"
    write(running, "metrics.csv", f"{head}25,inf,30\n")
    table = "model,benchmark,image,psnr_y_db\nA,Set5,a,20\nA,Set5,b,inf\nA,x,c,22\n"
    write(finished, "evaluation/per_image.csv", table)
    finished.write_state(CellState(attempts=[], trained={}, evaluated={}, evaluation="e"))
    assert [standing.score for standing in Watch(study).look()] == [30.0, 21.0, None]


def test_a_log_gets_a_line_for_each_change_and_a_terminal_a_table(study: StudyFolder):
    first, second, third = study.cells()
    watch = Watch(study)
    before = watch.look()
    assert list(watch.news(before, before)) == []
    first.write_state(CellState(attempts=[attempt("train", 1)], failure="loss [nan]"))
    second.write_state(CellState(attempts=[attempt("train", -9)]))
    write(third, "metrics.csv", HEAD + "50,20,300,,\n50,,,0.6,0.8\n")
    third.write_state(CellState(attempts=[attempt("train")]))
    assert third.lock.acquire()
    now = watch.look()
    assert list(watch.news(before, now)) == [
        "variants/A/seed_1: failed: loss [nan], 0/100",
        "variants/A/seed_2: interrupted: killed by SIGKILL, 0/100",
        "variants/A/seed_3: training, 50/100, 0 min 20 s left, ssim_y 0.7000",
    ]
    third.lock.release()
    assert count(now) == "1 running, 1 failed, 1 interrupted"
    console = Console(width=120)
    with console.capture() as captured:
        console.print(watch.table(now))
    text = captured.get()
    assert "failed: loss [nan]" in text
    assert "50/100   2.50   0 min 20 s   0.7000" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (3.4, "0 min 03 s"), (250, "4 min 10 s"), (3900, "1 h 05 min")],
)
def test_a_duration_has_two_units(seconds: float | None, text: str):
    assert duration(seconds) == text
