import csv
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asrgan.errors import UserError
from asrgan.inference.jobs import Job, Result, Results, folder_at

RECIPE = {"weights": "w.pth", "scale_to": None, "weights_sha256": "1"}


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    names = ["a.png", 'sub/b, "quoted".png', "line\nbreak \u2028.png", os.fsdecode(b"\xff.png")]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("original")
    return [Job(f"{tmp_path}/in/{name}", name, name) for name in names]


def open_results(tmp_path: Path, *, overwrite: bool = False, **changes: object) -> Results:
    return Results(folder_at(str(tmp_path / "out")), RECIPE | changes, overwrite=overwrite)


def do(job: Job, results: Results, tmp_path: Path, error: str = "") -> None:
    if not error:
        target = tmp_path / "out" / job.target
        target.parent.mkdir(exist_ok=True)
        target.write_text("picture")
    state = Path(job.source).stat()
    results.add(
        Result(
            job.name,
            job.target,
            network_s=1 / 3,
            error=error,
            source=job.source,
            input_version=f"{state.st_size}-{state.st_mtime_ns}",
            recipe=results.recipe_id,
        )
    )


@contextmanager
def killed(tmp_path: Path, **changes: Any) -> Iterator[Results]:
    """A run that does not come to its end."""
    with suppress(KeyboardInterrupt), open_results(tmp_path, **changes) as results:
        yield results
        raise KeyboardInterrupt


def rows(tmp_path: Path) -> list[dict[str, str]]:
    path = tmp_path / "out" / "results.csv"
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_done_is_not_done_again(jobs: list[Job], tmp_path: Path):
    with open_results(tmp_path) as results:
        assert results.remaining(jobs) == jobs
        for job in jobs[:3]:
            do(job, results, tmp_path)
    with open_results(tmp_path) as results:
        assert results.remaining(jobs) == jobs[3:]
        do(jobs[3], results, tmp_path)
    with open_results(tmp_path) as results:
        assert results.remaining(jobs) == []
    assert [row["output"] for row in rows(tmp_path)] == [job.target for job in jobs]
    assert rows(tmp_path)[0]["network_s"] == "0.333"


def test_failures_new_originals_and_lost_pictures_are_done_again(jobs: list[Job], tmp_path: Path):
    with open_results(tmp_path) as results:
        results.remaining(jobs)
        do(jobs[0], results, tmp_path, error="it is bad")
        for job in jobs[1:]:
            do(job, results, tmp_path)
        assert [result.error for result in results.failed] == ["it is bad"]
    Path(jobs[1].source).write_text("a new original")
    (tmp_path / "out" / jobs[2].target).unlink()
    with open_results(tmp_path) as results:
        assert results.remaining(jobs) == jobs[:3]
        assert [row["output"] for row in rows(tmp_path)] == [jobs[3].target]
        for job in jobs[:3]:
            do(job, results, tmp_path)
    with open_results(tmp_path) as results:
        assert results.remaining(jobs) == []
    assert sorted(row["output"] for row in rows(tmp_path)) == sorted(job.target for job in jobs)


def test_what_a_killed_run_left_is_replaced_or_removed(jobs: list[Job], tmp_path: Path):
    with killed(tmp_path) as results:
        results.remaining(jobs)
        do(jobs[0], results, tmp_path)
    folder = tmp_path / "out"
    (folder / jobs[3].target).write_text("written, but not noted")
    with (folder / "results.csv").open("a") as file:
        file.write("line\nbrea")  # and the last row is torn
    half_written = [folder / ".a.123.png", folder / "sub" / '.b, "quoted".77.png']
    others = [folder / ".b.123.png", folder / ".hidden.png", folder / "a.123.png"]
    for path in half_written + others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with open_results(tmp_path) as results:
        assert results.remaining([*jobs[1:], jobs[0]]) == jobs[1:]
        assert [row["output"] for row in rows(tmp_path)] == ["a.png"]
        assert not results.failed
    assert [path.exists() for path in half_written] == [True, False]  # a.png is nobody's work
    assert all(path.exists() for path in others)


def test_files_of_others_stay_unless_they_may_be_replaced(jobs: list[Job], tmp_path: Path):
    foreign = tmp_path / "out" / "a.png"
    foreign.parent.mkdir()
    foreign.write_text("of somebody else")
    os.utime(foreign, (1, 1))
    for _ in range(2):  # not the second time either
        with open_results(tmp_path) as results:
            assert results.remaining(jobs[:2]) == jobs[1:2]
            assert "out/a.png is there already; overwrite=true" in results.failed[0].error
    with open_results(tmp_path, overwrite=True) as results:
        assert results.remaining(jobs[:2]) == jobs[:2]


def test_a_file_that_somebody_puts_there_after_a_run_stays(jobs: list[Job], tmp_path: Path):
    with open_results(tmp_path) as results:
        for job in results.remaining(jobs[1:]):
            do(job, results, tmp_path)
    assert not (tmp_path / "out" / "unfinished.json").exists()
    (tmp_path / "out" / jobs[0].target).write_text("by hand")
    with open_results(tmp_path) as results:
        assert results.remaining(jobs) == []
        assert "a.png is there already; overwrite=true" in results.failed[0].error


def test_a_run_that_makes_fewer_leaves_what_another_has_not_finished(
    jobs: list[Job], tmp_path: Path
):
    with killed(tmp_path) as results:
        results.remaining(jobs)
    (tmp_path / "out" / jobs[0].target).write_text("written, but not noted")
    with open_results(tmp_path) as results:
        for job in results.remaining(jobs[1:2]):
            do(job, results, tmp_path)
    with open_results(tmp_path) as results:
        assert results.remaining(jobs[:2]) == jobs[:1]


@pytest.mark.parametrize("name", ["a\rb.png", "a\nb.png", "a\r\nb.png"])
def test_a_line_end_in_a_name_is_no_end_of_its_row(name: str, tmp_path: Path):
    (tmp_path / name).write_text("original")
    job = Job(f"{tmp_path}/{name}", name, name)
    with open_results(tmp_path) as results:
        results.remaining([job])
        do(job, results, tmp_path)
    with open_results(tmp_path) as results:
        assert results.remaining([job]) == []
    assert [row["output"] for row in rows(tmp_path)] == [name]


@pytest.mark.parametrize(
    ("earlier", "now"), [({"sharpen": 1}, {}), ({}, {"sharpen": 1}), ({}, {"sharpen": None})]
)
def test_a_recipe_with_other_keys_is_another_recipe(
    earlier: dict[str, Any], now: dict[str, Any], tmp_path: Path
):
    with open_results(tmp_path, **earlier):
        pass
    with pytest.raises(UserError, match=r"`sharpen` was .* name another `output`"):
        open_results(tmp_path, **now)


def test_another_recipe_is_refused_unless_pictures_may_be_replaced(jobs: list[Job], tmp_path: Path):
    with open_results(tmp_path) as results:
        results.remaining(jobs)
        for job in jobs:
            do(job, results, tmp_path)
    with pytest.raises(UserError, match=r"`scale_to` was None for the pictures in .* and is 2000;"):
        open_results(tmp_path, scale_to=2000)
    with pytest.raises(UserError, match=r"were made with other weights \(w\.pth\); name another"):
        open_results(tmp_path, weights_sha256="2")
    with open_results(tmp_path, weights="moved.pth") as results:
        assert results.remaining(jobs) == []
    for undone in (jobs, jobs[1:]):  # the second time it goes on
        with open_results(tmp_path, overwrite=True, scale_to=2000) as results:
            assert results.remaining(jobs) == undone
            do(undone[0], results, tmp_path)
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert recipe["recipe"]["scale_to"] == 2000
    assert "versions" in recipe


def test_rows_of_other_originals_are_kept(jobs: list[Job], tmp_path: Path):
    with open_results(tmp_path) as results:
        results.remaining(jobs[:1])
        do(jobs[0], results, tmp_path)
    with open_results(tmp_path) as results:
        assert results.remaining(jobs[1:]) == jobs[1:]
    assert [row["output"] for row in rows(tmp_path)] == ["a.png"]


def test_two_runs_do_not_share_a_folder(jobs: list[Job], tmp_path: Path):
    with open_results(tmp_path) as results:
        results.remaining(jobs)
        recipe = (tmp_path / "out" / "recipe.json").read_bytes()
        for changes in ({}, {"scale_to": 2000}):  # with another recipe it would be replaced
            with pytest.raises(
                UserError, match=rf"another run is writing to .*out \(process {os.getpid()} on "
            ):
                open_results(tmp_path, overwrite=True, **changes)
        assert (tmp_path / "out" / "recipe.json").read_bytes() == recipe
    with pytest.raises(UserError, match="`scale_to` was None"):
        open_results(tmp_path, scale_to=2000)
    with open_results(tmp_path) as results:  # those who were refused do not keep it
        assert results.remaining(jobs) == jobs


def test_a_picture_of_another_original_is_not_replaced(tmp_path: Path):
    """Also where both are named alike, as cameras name them."""
    originals: list[Job] = []
    for trip in ("trip1", "trip2"):
        (tmp_path / trip).mkdir()
        (tmp_path / trip / "IMG_0001.jpg").write_text(trip)
        originals.append(Job(f"{tmp_path}/{trip}/IMG_0001.jpg", "IMG_0001.jpg", "IMG_0001.jpg"))
    first, second = originals
    with open_results(tmp_path) as results:
        results.remaining([first])
        do(first, results, tmp_path)
    before = rows(tmp_path)
    message = r"IMG_0001\.jpg is there already, made from .*trip1/IMG_0001\.jpg; name another"
    with open_results(tmp_path) as results, pytest.raises(UserError, match=message):
        results.remaining([second])
    assert rows(tmp_path) == before
    with killed(tmp_path, overwrite=True) as results:
        assert results.remaining([second]) == [second]
    with open_results(tmp_path) as results:  # struck: what is there may be half of either
        assert results.remaining([first]) == [first]


def test_a_folder_of_originals_may_move(jobs: list[Job], tmp_path: Path):
    with open_results(tmp_path) as results:
        for job in results.remaining(jobs):
            do(job, results, tmp_path)
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = [replace(job, source=job.source.replace("/in/", "/moved/")) for job in jobs]
    with open_results(tmp_path) as results:
        assert results.remaining(moved) == []


def test_originals_of_an_object_store_are_known_by_their_address(tmp_path: Path):
    """It tells no versions."""
    first, second = (Job(f"s3://{bucket}/a.png", "a.png", "a.png") for bucket in ("x", "y"))
    with open_results(tmp_path) as results:
        results.remaining([first])
        (tmp_path / "out" / "a.png").write_text("picture")
        row = {"input_version": "None", "recipe": results.recipe_id, "source": first.source}
        results.add(Result("a.png", "a.png", **row))
    with open_results(tmp_path) as results:
        assert results.remaining([first]) == []
        with pytest.raises(UserError, match=r"made from s3://x/a\.png"):
            results.remaining([second])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.csv", "picture,score\na,1\n"),
        ("recipe.json", "no JSON"),
        ("recipe.json", "[1]"),
        ("recipe.json", '{"flour": 500}'),
    ],
)
def test_files_of_something_else_stay_as_they_are(tmp_path: Path, name: str, content: str):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(content)
    for overwrite in (False, True):
        with pytest.raises(UserError, match=f"{name} was not written by this version of"):
            open_results(tmp_path, overwrite=overwrite)
    assert (tmp_path / "out" / name).read_text() == content
    assert {path.name for path in (tmp_path / "out").iterdir()} == {name, "results.lock"}
