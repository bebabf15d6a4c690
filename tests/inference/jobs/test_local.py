import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from skimage import data
from torch import Tensor

from asrgan.errors import UserError
from asrgan.imaging import write_image
from asrgan.inference import MemoryBudgetError, Upscaler
from asrgan.inference.jobs import Job, LocalEngine, Recipe, Result, Worker
from asrgan.inference.jobs.worker import Work
from asrgan.pictures import Picture, read_picture, write_picture

MakeWorker = Callable[..., Worker]


@pytest.fixture
def make_worker(tiny_weights: Callable[[int], Path], tmp_path: Path) -> MakeWorker:
    def make(**values: object) -> Worker:
        recipe = Recipe(str(tiny_weights(2)), **values)  # pyright: ignore[reportArgumentType]
        return Worker(
            recipe, recipe_id="id", output=str(tmp_path / "out"), memory=None, device="cpu"
        )

    return make


def job(path: Path, suffix: str | None = None) -> Job:
    return Job(str(path), path.name, path.with_suffix(suffix or path.suffix).name)


def do(worker: Worker, *jobs: Job) -> list[Result]:
    return list(LocalEngine(num_writers=1).run(jobs, worker))


@pytest.fixture
def originals(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        write_image(path, data.chelsea()[100:120, 10 * number : 10 * number + 24])
    return paths


@pytest.mark.parametrize("num_writers", [1, 3])
def test_every_original_becomes_a_row_and_a_picture(
    num_writers: int, make_worker: MakeWorker, originals: list[Path], tmp_path: Path
):
    originals[2].write_bytes(b"no picture")
    jobs = [job(path) for path in originals]
    rows = list(LocalEngine(num_writers=num_writers).run(jobs, make_worker()))
    assert [row.input for row in rows] == [path.name for path in originals]
    assert [bool(row.error) for row in rows] == [False, False, True, False, False]
    assert "cannot be read: not a known image format" in rows[2].error
    for row in rows[:2] + rows[3:]:
        assert (row.width_px, row.height_px) == (24, 20)
        assert (row.output_width_px, row.output_height_px) == (48, 40)
        assert None not in (row.read_s, row.network_s, row.write_s, row.consistency_db)
        assert row.recipe == "id"
        assert read_picture(tmp_path / "out" / row.output).colour.shape == (40, 48, 3)
    assert len(list((tmp_path / "out").iterdir())) == 4  # and nothing half-written


def test_an_error_of_the_network_is_a_row(
    make_worker: MakeWorker, originals: list[Path], monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("asrgan.inference.jobs.worker.enlarge", fail)
    (row,) = do(make_worker(), job(originals[0]))
    assert row.error.startswith("RuntimeError: out of memory (fail, line")
    assert row.output_width_px is None


def test_a_full_disk_ends_the_work_in_one_line(
    make_worker: MakeWorker,
    originals: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fill)
    with pytest.raises(UserError, match=r"out/0\.png cannot be written: No space left on device\."):
        do(make_worker(), *map(job, originals))
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interruption_keeps_what_has_been_computed(
    make_worker: MakeWorker, originals: list[Path], tmp_path: Path
):
    worker = make_worker()
    enlarge, number = worker.enlarge, iter(range(9))

    def interrupted(work: Work, **_: int) -> Work:
        if next(number) == 2:
            raise KeyboardInterrupt
        return enlarge(work)

    vars(worker)["enlarge"] = interrupted
    rows: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        rows.extend(LocalEngine().run([job(path) for path in originals], worker))
    assert [row.input for row in rows] == ["0.png", "1.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png"]


def test_few_pictures_are_in_memory(make_worker: MakeWorker, originals: list[Path]):
    worker = make_worker()
    read, write, alive, most = worker.read, worker.write, 0, 0
    lock = threading.Lock()

    def counted_read(job: Job) -> object:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return read(job)

    def counted_write(work: object) -> Result:
        nonlocal alive
        row = write(work)  # pyright: ignore[reportArgumentType]
        with lock:
            alive -= 1
        return row

    vars(worker).update(read=counted_read, write=counted_write)
    do(worker, *[job(path) for path in originals * 3])
    assert most <= 3


def test_a_picture_that_does_not_fit_beside_others_waits_until_it_is_alone(
    make_worker: MakeWorker, originals: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    worker = make_worker()
    beside: list[int] = []
    read: list[str] = []
    is_last_tried = threading.Event()

    def crowded(upscaler: Upscaler, lr_image: Tensor, *, caller_bytes: int) -> Iterator[Tensor]:
        beside.append(caller_bytes - 4 * lr_image.numel())  # without its own result, of x2
        if len(beside) == 5:
            is_last_tried.set()
        if beside[-1] > 0:
            raise MemoryBudgetError("too little", needed_bytes=0)
        return bands(upscaler, lr_image)

    def noted(job: Job) -> Work:
        read.append(job.name)
        return Worker.read(worker, job)

    def slowly_written(work: Work) -> Result:
        if work.job.name == "1.png":
            assert is_last_tried.wait(60)
        return Worker.write(worker, work)

    bands = Upscaler.bands
    monkeypatch.setattr(Upscaler, "bands", crowded)
    vars(worker).update(read=noted, write=slowly_written)
    rows = do(worker, *[job(path) for path in originals[:3]])
    assert [row.error for row in rows] == ["", "", ""]
    # Once with the next one's reading beside it, the last one with the one before's writing; then
    # alone, and what was read meanwhile is read again.
    assert [number > 0 for number in beside] == [True, False] * 3
    assert read == ["0.png", "1.png", "1.png", "2.png", "2.png"]


def test_a_picture_that_can_never_fit_is_not_even_read(make_worker: MakeWorker, tmp_path: Path):
    write_image(tmp_path / "large.png", np.zeros((2000, 2000, 3), np.uint8))
    worker = replace(make_worker(), memory="20MiB")
    (row,) = do(worker, job(tmp_path / "large.png"))
    assert "`memory` (=20MiB) can never hold a picture of 2000x2000 px" in row.error
    assert row.width_px is None


def test_16_bits_are_enlarged_in_float32(make_worker: MakeWorker, tmp_path: Path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    write_picture(tmp_path / "ramp.png", Picture(ramp))
    (row,) = do(make_worker(), job(tmp_path / "ramp.png"))
    deep = read_picture(tmp_path / "out" / row.output).colour
    exact = Upscaler.from_file(make_worker().recipe.weights, device="cpu", precision="float32")
    np.testing.assert_array_equal(deep, exact(ramp))


def test_what_grows_in_height_alone_is_enlarged(make_worker: MakeWorker, tmp_path: Path):
    write_image(tmp_path / "narrow.png", data.chelsea()[:60, :12])
    (row,) = do(make_worker(scale_to=61), job(tmp_path / "narrow.png"))
    assert (row.output_width_px, row.output_height_px) == (12, 61)
    assert row.note == ""
    assert row.consistency_db is not None


def test_what_is_said_of_reading_is_not_said_of_a_copy(make_worker: MakeWorker, tmp_path: Path):
    Image.new("CMYK", (80, 60)).save(tmp_path / "print.jpg")
    (row,) = do(make_worker(scale_to=80), job(tmp_path / "print.jpg"))
    assert row.note == "large enough, not enlarged"
    (row,) = do(make_worker(scale_to=80), job(tmp_path / "print.jpg", ".png"))
    assert "CMYK" in row.note


def test_an_original_that_is_large_enough_is_copied(make_worker: MakeWorker, tmp_path: Path):
    write_image(tmp_path / "large.jpg", data.chelsea()[:60, :80])
    (row,) = do(make_worker(scale_to=80), job(tmp_path / "large.jpg"))
    assert row.note == "large enough, not enlarged"
    assert row.consistency_db is None
    assert (tmp_path / "out" / "large.jpg").read_bytes() == (tmp_path / "large.jpg").read_bytes()
    (row,) = do(make_worker(scale_to=80), job(tmp_path / "large.jpg", ".png"))
    colour = read_picture(tmp_path / "out" / "large.png").colour
    np.testing.assert_array_equal(colour, read_picture(tmp_path / "large.jpg").colour)
    (row,) = do(make_worker(scale_to=80, bits=16), job(tmp_path / "large.jpg", ".png"))
    assert read_picture(tmp_path / "out" / "large.png").bits == 16


def test_notes_say_what_is_not_as_in_the_original(make_worker: MakeWorker, tmp_path: Path):
    deep = Picture(
        data.chelsea()[:20, :24].astype(np.uint16) * 257, np.full((20, 24), 65535, np.uint16)
    )
    write_picture(tmp_path / "deep.png", deep)
    (row,) = do(make_worker(), job(tmp_path / "deep.png", ".jpg"))
    assert (
        row.note == "16 bits became 8, JPEG holds no more; its alpha, wholly opaque, was left out"
    )
    (row,) = do(make_worker(scale_to=100), job(tmp_path / "deep.png"))
    assert row.note == "the last step, from 48 px, is bicubic interpolation"
    assert (row.output_width_px, row.output_height_px) == (100, 83)
    Image.new("CMYK", (24, 20)).save(tmp_path / "inks.jpg")
    (row,) = do(make_worker(), job(tmp_path / "inks.jpg"))
    assert row.note == "CMYK became RGB without a profile"


def test_what_cannot_be_written_is_said_before_the_network_works(
    make_worker: MakeWorker, tmp_path: Path
):
    half = Picture(np.zeros((20, 24, 3), np.uint8), np.full((20, 24), 128, np.uint8))
    write_picture(tmp_path / "half.png", half)
    (row,) = do(make_worker(), job(tmp_path / "half.png", ".jpg"))
    assert "JPEG holds no transparency" in row.error
    assert row.network_s is None
    wide = Picture(np.zeros((1, 9000), np.uint8))
    write_picture(tmp_path / "wide.png", wide)
    (row,) = do(make_worker(), job(tmp_path / "wide.png", ".webp"))
    assert "WebP holds sides of at most 16383 px" in row.error
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    (row,) = do(make_worker(), job(tmp_path / "moving.png"))
    assert "moving.png holds 2 pictures; give a file of one." in row.error


def test_the_smallest_picture_is_enlarged(make_worker: MakeWorker, tmp_path: Path):
    write_picture(tmp_path / "one.png", Picture(np.full((1, 1, 3), 7, np.uint8)))
    (row,) = do(make_worker(), job(tmp_path / "one.png"))
    assert not row.error
    assert (row.output_width_px, row.output_height_px) == (2, 2)


def test_weights_that_are_sent_along_need_no_file(
    make_worker: MakeWorker, tiny_weights: Callable[[int], Path], tmp_path: Path
):
    rng = np.random.default_rng(0)
    for name, depth in {"flat.png": np.uint8, "deep.png": np.uint16}.items():
        noise = rng.integers(0, np.iinfo(depth).max, (20, 24, 3), dtype=depth)
        write_picture(tmp_path / name, Picture(noise))
    jobs = [job(tmp_path / "flat.png"), job(tmp_path / "deep.png")]
    here = make_worker()
    sent = replace(
        here,
        recipe=replace(here.recipe, weights="/elsewhere/x2.safetensors"),
        weights=tiny_weights(2).read_bytes(),
    )
    pictures: list[bytes] = []
    for worker in (here, sent):
        assert [row.error for row in do(worker, *jobs)] == ["", ""]
        pictures.append(b"".join((tmp_path / "out" / job.target).read_bytes() for job in jobs))
    assert pictures[0] == pictures[1]


def test_an_original_on_a_broken_disk_is_a_row(
    make_worker: MakeWorker, originals: list[Path], tmp_path: Path
):
    broken = tmp_path / "broken.png"
    broken.symlink_to("/proc/self/mem")  # reading its first page is an input/output error
    rows = do(make_worker(), *(job(path) for path in (originals[0], broken, originals[1])))
    assert [bool(row.error) for row in rows] == [False, True, False]
    assert "Input/output error" in rows[1].error


def test_exif_that_a_format_cannot_hold_are_left_out_with_a_note(
    make_worker: MakeWorker, tmp_path: Path
):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = bytes(70_000)
    Image.new("RGB", (24, 20)).save(tmp_path / "large.png", exif=exif)
    as_jpeg, as_png = do(
        make_worker(), job(tmp_path / "large.png", ".jpg"), job(tmp_path / "large.png")
    )
    assert as_jpeg.note == "its EXIF, more than JPEG holds, were left out"
    assert read_picture(tmp_path / "out" / "large.jpg").exif is None
    assert as_png.note == ""
    assert len(read_picture(tmp_path / "out" / "large.png").exif or b"") > 70_000


def test_bits_that_a_format_lacks_are_noted(make_worker: MakeWorker, originals: list[Path]):
    (row,) = do(make_worker(bits=16), job(originals[0], ".jpg"))
    assert row.note == "16 bits became 8, JPEG holds no more"
    (row,) = do(make_worker(bits=16), job(originals[0]))
    assert row.note == ""
