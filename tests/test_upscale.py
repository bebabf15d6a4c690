import csv
import errno
import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from skimage import data

from asrgan import upscale
from asrgan.configuration import compose, quoted
from asrgan.errors import FailedPicturesError, InterruptedRunError, UserError
from asrgan.files import file_digest
from asrgan.imaging import read_image, write_image
from asrgan.inference import Upscaler
from asrgan.inference.jobs import Worker
from asrgan.inference.jobs.folders import Folder
from asrgan.inference.jobs.worker import Work
from asrgan.pictures import Picture, read_picture, write_picture

Upscale = Callable[..., None]


@pytest.fixture
def run(tiny_weights: Callable[[int], Path]) -> Upscale:
    def run(given: Path, output: Path, *overrides: str) -> None:
        if not any(override.startswith("weights=") for override in overrides):
            overrides = (f"weights={tiny_weights(2)}", *overrides)
        paths = [f"input={quoted(given)}", f"output={quoted(output)}"]
        config = compose("upscale", ["device=cpu", *paths, *overrides])
        upscale.run(OmegaConf.create(config), Path())

    return run


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    folder = tmp_path / "originals"
    for number, name in enumerate(["a.png", "b.jpg", "sub/c d ü.png"]):
        write_image(folder / name, data.chelsea()[100:120, 10 * number : 10 * number + 24])
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert len({row["output"] for row in table}) == len(table)
    return {row["input"]: row for row in table}


def test_a_folder_becomes_a_folder_of_the_same_structure(
    run: Upscale, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    run(originals, out, "format=png")
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == [
        "a.png",
        "b.png",
        "recipe.json",
        "results.csv",
        "results.lock",
        "sub/c d ü.png",
    ]
    assert read_image(out / "b.png").shape == (40, 48, 3)
    assert set(rows(out)) == {"a.png", "b.jpg", "sub/c d ü.png"}
    assert "3/3" in capsys.readouterr().err


def test_files_that_are_no_pictures_are_counted(
    run: Upscale, originals: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for name in ("x.heic", "y.HEIC", "notes", ".hidden"):
        (originals / name).touch()
    with caplog.at_level(logging.INFO):
        run(originals, tmp_path / "out")
    expected = "Left out  2 .heic, 1 without a suffix: each is no image file by its name"
    assert expected in caplog.messages


def test_the_second_run_does_nothing(
    run: Upscale, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    run(originals, out)
    before = (out / "results.csv").read_bytes()

    def fail(*_: object) -> None:
        raise AssertionError("nothing is to be read")

    monkeypatch.setattr(Worker, "read", fail)
    run(originals, out)
    assert (out / "results.csv").read_bytes() == before
    with pytest.raises(UserError, match="`scale_to` was None for the pictures"):
        run(originals, out, "scale_to=30")


def test_an_interrupted_folder_goes_on_where_it_stopped(
    run: Upscale, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    enlarge = Worker.enlarge
    seen: list[str] = []

    def interrupted(worker: Worker, work: Work, **_: int) -> Work:
        seen.append(work.job.name)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return enlarge(worker, work)

    monkeypatch.setattr(Worker, "enlarge", interrupted)
    with pytest.raises(InterruptedRunError, match=r"Interrupted; the same command goes on"):
        run(originals, out)
    assert list(rows(out)) == ["a.png"]
    run(originals, out)
    assert seen == ["a.png", "b.jpg", "b.jpg", "sub/c d ü.png"]
    assert list(rows(out)) == ["a.png", "b.jpg", "sub/c d ü.png"]
    assert not list(out.rglob(".*"))


def test_bad_files_are_rows_and_exit_code_1(run: Upscale, originals: Path, tmp_path: Path):
    out = tmp_path / "out"
    (originals / "b.jpg").write_bytes((originals / "b.jpg").read_bytes()[:-300])
    with pytest.raises(
        FailedPicturesError, match=r"^1 of 3 pictures failed, .*b\.jpg .*[Tt]runcat"
    ):
        run(originals, out)
    assert FailedPicturesError.exit_code == 1
    assert [bool(row["error"]) for row in rows(out).values()] == [False, True, False]
    write_image(originals / "b.jpg", data.chelsea()[:20, :24])
    run(originals, out)
    assert [row["error"] for row in rows(out).values()] == ["", "", ""]


def test_one_picture_gets_the_name_asked_for(
    run: Upscale, originals: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    out = tmp_path / "new" / "large.webp"
    run(originals / "b.jpg", out, "scale_to=30")
    assert read_image(out).shape == (25, 30, 3)
    assert names(out.parent) == ["large.webp"]
    assert "large.webp  24x20 -> 30x25" in caplog.text
    with pytest.raises(UserError, match=r"large\.webp\) is there already; overwrite=true"):
        run(originals / "b.jpg", out)
    run(originals / "b.jpg", out, "overwrite=true")
    assert read_image(out).shape == (40, 48, 3)
    run(originals / "b.jpg", tmp_path / "folder")
    assert names(tmp_path / "folder") == ["b.jpg", "recipe.json", "results.csv", "results.lock"]


def test_without_weights_and_output_a_published_generator_enlarges(
    asrgan: Callable[..., Any],
    tiny_weights: Callable[[int], Path],
    publish: Callable[[str, Path], Path],
    originals: Path,
    tmp_path: Path,
):
    result = asrgan("upscale", f"input={originals}/b.jpg")
    assert (result.code, result.out) == (2, "")
    assert result.err.endswith(
        "`asrgan_x4` does not exist; check the path (none comes with asrgan).\n"
    )
    assert not (tmp_path / "upscaled").exists()
    file = publish("asrgan_x4", tiny_weights(4))
    (tmp_path / "asrgan_x4").mkdir()  # as a run may be called
    result = asrgan("upscale", f"input={originals}/b.jpg", "device=cpu")
    assert result.code == 0, result.err
    assert result.out.startswith("Weights   asrgan_x4\n")
    assert read_image(tmp_path / "upscaled" / "b.jpg").shape == (80, 96, 3)
    recipe = json.loads((tmp_path / "upscaled" / "recipe.json").read_text("utf-8"))["recipe"]
    assert recipe["weights"] == "asrgan_x4"
    assert recipe["weights_sha256"] == file_digest(file)
    publish("asrgan_x4", tiny_weights(2))  # of another version of asrgan
    result = asrgan("upscale", f"input={originals}/b.jpg", "device=cpu")
    assert "were made with other weights (asrgan_x4); name another `output`" in result.err


def test_mistakes_are_found_before_any_work(
    run: Upscale, originals: Path, tmp_path: Path, tiny_weights: Callable[[int], Path]
):
    picture, out = originals / "a.png", tmp_path / "out"
    (tmp_path / "text.pth").write_text("no weights")
    for given, output, override, message in [
        (picture, picture, "overwrite=true", r"a\.png\) is the original; name another file"),
        (originals, originals, "overwrite=true", "is the folder of the originals"),
        (picture, originals, "overwrite=true", r"would put a\.png in the place of an original"),
        (originals, out, "weights=absent.pth", "`absent.pth` does not exist"),
        (originals, out, f"weights={tmp_path}/text.pth", "text.pth` is "),
        (originals, out, "scale=4", "enlarge by 2, but `scale` is 4; give weights of that scale"),
        (originals, out, "format=gif", r"`format` \(=gif\) must be one of"),
        (originals, out / "x.png", "bits=8", "names one picture, but `input` many; name a folder"),
        (picture, out / "x.gif", "bits=8", "names no image format"),
        (picture, out / "x.png", "format=jpg", "is no name for format=jpg"),
        (picture, tmp_path / "text.pth" / "x.png", "bits=8", "leads through a file; name a folder"),
        (originals, tmp_path / "text.pth", "bits=8", r"text\.pth\) is a file; name a folder"),
        (originals, out, "engine=spark", r"`engine` \(=spark\) must be local or ray"),
        (originals / "z.png", out / "x.png", "bits=8", r"z\.png\) does not exist"),
        (originals / "z", out, "bits=8", r"z\) does not exist"),
        (originals, out, "memory=many", r"`memory` \(=many\) must be an amount like 4GiB"),
    ]:
        with pytest.raises(UserError, match=message):
            run(given, output, override)
    assert not out.exists()
    assert sorted(path.name for path in originals.rglob("*.*")) == ["a.png", "b.jpg", "c d ü.png"]


def test_a_single_picture_that_is_bad_is_one_line(run: Upscale, tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.png cannot be read: not a known image format\.$"):
        run(tmp_path / "a.png", tmp_path / "large.png")
    assert names(tmp_path) == ["a.png"]


def test_the_odd_formats_stay_what_they_are(run: Upscale, shared_folder: Path, tmp_path: Path):
    folder = shared_folder / "data" / "real" / "odd_formats"
    run(folder, tmp_path / "out")
    for name in rows(tmp_path / "out"):
        original, enlarged = read_picture(folder / name), read_picture(tmp_path / "out" / name)
        assert enlarged.colour.shape == (
            2 * original.height,
            2 * original.width,
            *original.colour.shape[2:],
        )
        assert enlarged.colour.dtype == original.colour.dtype
        assert (enlarged.alpha is None) == (original.alpha is None)
        assert enlarged.icc_profile == original.icc_profile
        assert (enlarged.exif is None) == (original.exif is None)


def test_the_python_interface_makes_the_same_pixels(
    run: Upscale, originals: Path, tmp_path: Path, tiny_weights: Callable[[int], Path]
):
    run(originals / "a.png", tmp_path / "large.png")
    upscaler = Upscaler.from_file(tiny_weights(2), device="cpu")
    array = upscaler(read_image(originals / "a.png"))
    np.testing.assert_array_equal(read_image(tmp_path / "large.png"), array)


def test_a_folder_without_the_right_to_write_is_told_in_one_line(
    run: Upscale, originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Folder, "write_text", refuse)
    with pytest.raises(UserError, match=r"out cannot be written: Permission denied\. The same"):
        run(originals, tmp_path / "out")


def test_ctrl_c_ends_the_command_in_one_line(
    asrgan: Callable[..., Any],
    tiny_weights: Callable[[int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    rng = np.random.default_rng(0)
    for number in range(8):
        noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        write_picture(tmp_path / "in" / f"{number}.png", Picture(noise))
    enlarge = Worker.enlarge

    def interrupted(worker: Worker, work: Work, **arguments: int) -> Work:
        if work.job.name == "5.png":
            signal.raise_signal(signal.SIGINT)
        return enlarge(worker, work, **arguments)

    monkeypatch.setattr(Worker, "enlarge", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        words = [f"weights={tiny_weights(2)}", "input=in", "output=out", "device=cpu"]
        result = asrgan("upscale", *words)
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.code == 130
    assert result.err.splitlines()[-1] == "asrgan: Interrupted; the same command goes on from here."
    assert "Traceback" not in result.err
    pictures = [f"{number}.png" for number in range(5)]
    assert [row["output"] for row in rows(tmp_path / "out").values()] == pictures
    assert names(tmp_path / "out") == [
        *pictures,
        "recipe.json",
        "results.csv",
        "results.lock",
        "unfinished.json",
    ]
    for name in pictures:
        assert read_image(tmp_path / "out" / name).shape == (128, 128, 3)


def test_output_by_a_link_into_the_input_holds_no_originals(
    run: Upscale, originals: Path, tmp_path: Path
):
    (tmp_path / "large disk").mkdir()
    (originals / "upscaled").symlink_to(tmp_path / "large disk")
    for _ in range(2):
        run(originals, originals / "upscaled")
        assert set(rows(tmp_path / "large disk")) == {"a.png", "b.jpg", "sub/c d ü.png"}


@pytest.mark.parametrize("name", ["my photos (2024)", "a,b", "l'été", "C#1 [x]", "a=b"])
def test_a_folder_may_be_called_anything(
    name: str, asrgan: Callable[..., Any], tiny_weights: Callable[[int], Path], tmp_path: Path
):
    write_image(tmp_path / name / "a.png", data.chelsea()[:8, :9])
    words = [f"weights={tiny_weights(2)}", f"input={name}", f"output={name} x2", "device=cpu"]
    assert asrgan("upscale", *words).code == 0
    assert read_image(tmp_path / f"{name} x2" / "a.png").shape == (16, 18, 3)


def test_a_tilde_is_the_home(
    asrgan: Callable[..., Any],
    tiny_weights: Callable[[int], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_image(tmp_path / "a.png", data.chelsea()[:8, :9])
    words = [f"weights={tiny_weights(2)}", "input=~/a.png", "output=~/b.png", "device=cpu"]
    assert asrgan("upscale", *words).code == 0
    assert (tmp_path / "b.png").is_file()


def test_one_picture_is_not_put_into_an_object_store(run: Upscale, originals: Path):
    config = compose("upscale", [f"input={originals}/a.png", "output='s3://bucket/a.png'"])
    with pytest.raises(UserError, match=r"output=s3://bucket/a\.png in an object store"):
        upscale.run(OmegaConf.create(config), Path())


def test_one_picture_that_fails_is_no_mistake_in_the_command(
    run: Upscale, originals: Path, tmp_path: Path
):
    (originals / "a.png").write_bytes(b"no picture")
    with pytest.raises(FailedPicturesError, match="not a known image format"):
        run(originals / "a.png", tmp_path / "a.png")
    with pytest.raises(UserError, match=r"`bits` \(=16\) is more than `output` .* holds"):
        run(originals / "b.jpg", tmp_path / "b.jpg", "bits=16")
