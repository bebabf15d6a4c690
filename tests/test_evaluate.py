import csv
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from asrgan import evaluate
from asrgan.configuration import compose
from asrgan.data import Benchmark
from asrgan.engine.processes import Processes
from asrgan.errors import DivergedError, RequirementsMissedError, UserError
from asrgan.imaging import bicubic_upscale, read_image, to_array, write_image
from asrgan.metrics import Protocol
from asrgan.models import SRGANGenerator, save_generator
from small_networks import small_generator

METRICS = "psnr_y_db,ssim_y,psnr_rgb_db,ssim_rgb"


def run(output_dir: Path, *overrides: str) -> list[dict[str, str]]:
    settings = [f"metrics=[{METRICS}]", "device=cpu", "gallery=null"]
    config = compose("evaluate", [*settings, *overrides])
    output_dir.mkdir()
    evaluate.run(OmegaConf.create(config), output_dir)
    return read_rows(output_dir / "per_image.csv")


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def originals(tmp_path: Path, photographs: Path) -> Path:
    """A benchmark of which only LR is there."""
    shutil.copytree(photographs / "Val", tmp_path / "small" / "LRx4")
    return tmp_path / "small"


@pytest.fixture
def generator_file(tmp_path: Path) -> Callable[[int], Path]:
    def save(scale: int) -> Path:
        generator = small_generator(
            scale=scale, num_blocks=1, spectral_norm=True, attention=[{"after": "trunk"}]
        )
        path = tmp_path / f"x{scale}" / "generator.safetensors"
        save_generator(path, generator, recipe={})
        return path

    return save


def test_a_row_for_each_model_benchmark_and_image(
    tmp_path: Path, photographs: Path, generator_file: Callable[[int], Path]
):
    out = tmp_path / "out"
    models = f"models=[bicubic,ours:{generator_file(4)}]"
    rows = run(out, models, f"benchmarks=[{photographs}/Val,{photographs}/train]")
    assert (out / "per_image.csv").read_text("utf-8").splitlines()[
        0
    ] == f"model,benchmark,image,{METRICS}"
    val, train = ["left", "right"], ["astronaut", "coffee", "rocket"]
    assert [(row["model"], row["benchmark"], row["image"]) for row in rows] == [
        (model, benchmark, image)
        for model in ("bicubic", "ours")
        for benchmark, images in (("Val", val), ("train", train))
        for image in images
    ]


def test_the_summary_averages_the_rows_and_states_the_protocol(tmp_path: Path, photographs: Path):
    out = tmp_path / "out"
    rows = run(out, "models=[bicubic]", f"benchmarks=[{photographs}/Val]")
    with (out / "summary.csv").open(encoding="utf-8") as file:
        (summary,) = csv.DictReader(file)
    mean = sum(float(row["psnr_y_db"]) for row in rows) / 2
    assert float(summary["psnr_y_db"]) == pytest.approx(mean)
    assert (summary["model"], summary["benchmark"], summary["images"]) == ("bicubic", "Val", "2")
    text = (out / "summary.md").read_text("utf-8")
    assert "Y: BT.601" in text
    assert f"{mean:.2f}" in text


def test_pictures_are_kept_when_asked(tmp_path: Path, photographs: Path):
    out = tmp_path / "out"
    run(out, "models=[bicubic]", f"benchmarks=[{photographs}/Val]", "save_images=true")
    image = Benchmark(photographs / "Val", scale=4)[0]
    expected = to_array(bicubic_upscale(image.lr_image[None], scale=4)[0])
    kept = read_image(out / "images" / "Val" / "bicubic" / "left.png")
    assert (kept == expected).all()


def test_networks_of_another_scale_are_refused(
    tmp_path: Path, photographs: Path, generator_file: Callable[[int], Path]
):
    with pytest.raises(UserError, match=r"enlarges by 2, and `scale` is 4"):
        run(tmp_path / "o", f"models=[{generator_file(2)}]", f"benchmarks=[{photographs}/Val]")


def test_a_folder_twice_is_refused(tmp_path: Path, photographs: Path):
    with pytest.raises(UserError, match="two folders named `Val`"):
        run(tmp_path / "o", "models=[bicubic]", f"benchmarks=[{photographs}/Val,{photographs}/Val]")


def test_pairs_whose_sizes_do_not_match_are_refused(tmp_path: Path):
    for folder, size in {"HR": 40, "LRx4": 12}.items():
        picture = to_array(torch.zeros(3, size, size))
        write_image(tmp_path / "Pairs" / folder / "a.png", picture)
    with pytest.raises(UserError, match=r"40x40\) must be 4 times as large as .* \(12x12\)"):
        run(tmp_path / "o", "models=[bicubic]", f"benchmarks=[{tmp_path}/Pairs]")


def test_a_folder_with_lr_alone_is_scored_without_ground_truth(
    tmp_path: Path, originals: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    metrics = "metrics=[psnr_y_db,consistency_db]"
    rows = run(tmp_path / "o", "models=[bicubic]", f"benchmarks=[{originals}]", metrics)
    assert [(row["image"], row["psnr_y_db"]) for row in rows] == [("left", ""), ("right", "")]
    assert all(float(row["consistency_db"]) > 20 for row in rows)
    assert "small: 2 originals without ground truth; columns: consistency_db" in caplog.messages
    text = (tmp_path / "o" / "summary.md").read_text("utf-8")
    assert "## small: 2 originals without ground truth" in text
    assert "| psnr_y_db" not in text


def test_a_plain_folder_is_taken_for_hr_and_says_how_it_is_not(
    tmp_path: Path, photographs: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    folder, metrics = photographs / "Val", "metrics=[psnr_y_db,consistency_db]"
    hint = f"without ground truth: benchmarks=[lr:{folder}]"
    rows = run(tmp_path / "plain", "models=[bicubic]", f"benchmarks=[{folder}]", metrics)
    assert all(float(row["psnr_y_db"]) > 20 for row in rows)
    assert hint in caplog.text
    caplog.clear()
    as_hr = run(tmp_path / "hr", "models=[bicubic]", f"benchmarks=['hr:{folder}']", metrics)
    assert as_hr == rows
    assert "lr:" not in caplog.text
    rows = run(tmp_path / "lr", "models=[bicubic]", f"benchmarks=['lr:{folder}']", metrics)
    assert {row["psnr_y_db"] for row in rows} == {""}


def test_metrics_that_all_need_ground_truth_are_refused_where_there_is_none(
    tmp_path: Path, originals: Path
):
    with pytest.raises(UserError, match="none of `metrics` can be had of small, which has no gro"):
        run(tmp_path / "o", "models=[bicubic]", f"benchmarks=[{originals}]")


def test_damaged_pictures_are_named_and_left_out(tmp_path: Path, photographs: Path):
    for kind in ("HR", "LRx4"):
        shutil.copytree(photographs / "train", tmp_path / "Set ü" / kind)
    for kind, side in {"HR": 72, "LRx4": 18}.items():
        for path in (tmp_path / "Set ü" / kind).iterdir():
            write_image(path, np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
    cut_in_half(tmp_path / "Set ü" / "LRx4" / "coffee.png")
    (tmp_path / "Set ü" / "HR" / "rocket.png").write_text("no picture")
    rows = run(tmp_path / "o", "models=[bicubic]", f"benchmarks=['{tmp_path}/Set ü']")
    assert [row["image"] for row in rows] == ["astronaut"]
    text = (tmp_path / "o" / "summary.md").read_text("utf-8")
    assert f"Left out: {tmp_path}/Set ü/HR/rocket.png cannot be read: not a known image" in text
    assert f"Left out: {tmp_path}/Set ü/LRx4/coffee.png cannot be read: " in text


def test_a_benchmark_of_damaged_pictures_is_an_error_after_the_others_are_written(
    tmp_path: Path, photographs: Path
):
    shutil.copytree(photographs / "Val", tmp_path / "broken")
    for path in (tmp_path / "broken").iterdir():
        cut_in_half(path)
    broken, good = tmp_path / "broken", photographs / "Val"
    with pytest.raises(UserError, match=r"^no picture can be scored: .*left\.png cannot be read"):
        run(tmp_path / "none", "models=[bicubic]", f"benchmarks=[{broken}]")
    with pytest.raises(UserError, match="no picture of broken can be scored"):
        run(tmp_path / "o", "models=[bicubic]", f"benchmarks=[{broken},{good}]")
    assert [row["benchmark"] for row in read_rows(tmp_path / "o" / "summary.csv")] == ["Val"]


def test_a_model_that_makes_no_numbers_is_an_error(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
):
    nothing = torch.full((3, 40, 48), float("nan"))
    stream = "asrgan.inference.upscaler.BicubicStream.run"
    monkeypatch.setattr(stream, lambda *_: iter([nothing]))
    with pytest.raises(
        DivergedError, match=r"^bicubic, left.*: the network makes values that are no"
    ):
        run(tmp_path / "o", "models=[bicubic]", f"benchmarks=[{photographs}/Val]")


def test_a_picture_that_a_model_cannot_enlarge_is_left_out_with_the_reason(
    tmp_path: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
):
    def enlarge(_: object, lr_image: torch.Tensor) -> torch.Tensor:
        if lr_image.shape[-1] == 18:
            raise UserError("too large for `memory` (=1KiB).")
        return bicubic_upscale(lr_image[None], scale=4)[0]

    monkeypatch.setattr("asrgan.inference.Upscaler.upscale", enlarge)
    shutil.copytree(photographs / "Val", tmp_path / "mixed")
    shutil.copy(photographs / "train" / "coffee.png", tmp_path / "mixed")
    rows = run(tmp_path / "o", "models=[bicubic]", f"benchmarks=[{tmp_path}/mixed]")
    assert [row["image"] for row in rows] == ["left", "right"]
    text = (tmp_path / "o" / "summary.md").read_text("utf-8")
    assert "Left out: coffee: too large for `memory` (=1KiB)." in text


def test_results_that_would_not_fit_into_memory_are_left_out(tmp_path: Path, photographs: Path):
    with pytest.raises(UserError, match=r"left\.png needs a result of 192x160 px, 0\.0307 megapix"):
        run(
            tmp_path / "o",
            "models=[bicubic]",
            f"benchmarks=['lr:{photographs}/Val']",
            "maximum_mpx=0.03",
        )


def test_differences_are_paired_and_taken_from_the_baseline(
    tmp_path: Path, photographs: Path, generator_file: Callable[[int], Path]
):
    out = tmp_path / "out"
    models = f"models=[bicubic,ours:{generator_file(4)}]"
    rows = run(out, models, f"benchmarks=[{photographs}/train]", "baseline=ours")
    values = {(row["model"], row["image"]): float(row["psnr_y_db"]) for row in rows}
    images = ["astronaut", "coffee", "rocket"]
    gains = [values["bicubic", image] - values["ours", image] for image in images]
    difference = read_rows(out / "differences.csv")[0]
    assert float(difference["difference"]) == pytest.approx(sum(gains) / 3)
    assert min(gains) <= float(difference["low"]) <= float(difference["high"]) <= max(gains)
    assert (difference["model"], difference["baseline"], difference["images"]) == (
        "bicubic",
        "ours",
        "3",
    )
    assert "Difference from ours:\n\n| metric" in (out / "summary.md").read_text("utf-8")


def test_a_baseline_that_is_no_model_is_refused(tmp_path: Path, photographs: Path):
    with pytest.raises(UserError, match=r"`baseline` \(=srgan\) must be one of bicubic\."):
        run(
            tmp_path / "o",
            "models=[bicubic]",
            f"benchmarks=[{photographs}/Val]",
            "baseline=srgan",
        )


def test_runs_are_named_after_their_folders(
    tmp_path: Path, generator_file: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
):
    file = generator_file(4)
    for run_name in ("b", "a"):
        (tmp_path / "runs" / run_name / "checkpoints").mkdir(parents=True)
        shutil.copy(file, tmp_path / "runs" / run_name)
    shutil.copy(file, tmp_path / "runs" / "a" / "other.safetensors")
    (tmp_path / "runs" / "log.txt").write_text("no model")
    (tmp_path / "runs" / "unfinished").mkdir()
    monkeypatch.chdir(tmp_path)
    for specification, names in {
        "runs/*": ["a", "b"],
        "runs/*/generator.safetensors": ["a", "b"],
        "runs/?": ["a", "b"],
        "runs/a": ["a"],
        "runs/a/": ["a"],
        f"{tmp_path}/runs/a/*.safetensors": ["a", "other"],
        "name:runs/a": ["name"],
        "bicubic": ["bicubic"],
        "cubic:bicubic": ["cubic"],
    }.items():
        assert list(evaluate.load_models([specification], scale=4)) == names, specification
    for specifications, message in {
        ("runs/a", "x:runs/a", "runs/a"): "two models named `a`; name one: other:runs/a",
        ("x:runs/*",): r"2 files cannot all be named `x` \(x:runs/\*\)",
        ("runs/*/best.ckpt",): r"`runs/\*/best\.ckpt` does not exist",
        ("../x:bicubic",): r"`\.\./x` cannot name a folder",
    }.items():
        with pytest.raises(UserError, match=message):
            evaluate.load_models(specifications, scale=4)


def test_a_published_name_is_a_word_as_bicubic_is(
    tmp_path: Path,
    generator_file: Callable[[int], Path],
    publish: Callable[[str, Path], Path],
    tiny_weights: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    publish("toy", tiny_weights(4))
    monkeypatch.chdir(tmp_path)
    models = evaluate.load_models(["bicubic", "toy", "other:toy"], scale=4)
    assert list(models) == ["bicubic", "toy", "other"]
    (tmp_path / "toy").mkdir()
    shutil.copy(generator_file(4), tmp_path / "toy" / "generator.safetensors")
    with caplog.at_level(logging.INFO):
        models = evaluate.load_models(["toy", "run:./toy"], scale=4)
    assert "`toy` is a name and no path; what is here is ./toy." in caplog.messages
    published, run = (model for model in models.values() if isinstance(model, SRGANGenerator))
    assert (published.architecture["output"], run.architecture["output"]) == ("tanh", "linear")
    with pytest.raises(UserError, match=r"`tot` does not exist; .* published generator: toy"):
        evaluate.load_models(["tot"], scale=4)


def test_a_requirement_that_is_missed_ends_with_code_3_once_the_tables_are_written(
    tmp_path: Path, photographs: Path, originals: Path
):
    benchmarks = f"benchmarks=[{photographs}/Val,{originals}]"
    require = "require={ssim_y: '>=0.99', consistency_db: '>=10'}"
    with pytest.raises(RequirementsMissedError) as missed:
        run(tmp_path / "o", "models=[bicubic,cubic:bicubic]", benchmarks, require)
    assert missed.value.exit_code == 3
    summary = read_rows(tmp_path / "o" / "summary.csv")
    value = f"{float(summary[0]['ssim_y']):.7g}"
    assert str(missed.value) == (
        f"`require` is missed: bicubic on Val: ssim_y {value}, not >=0.99;"
        f" cubic on Val: ssim_y {value}, not >=0.99."
    )
    assert "consistency_db" in summary[0]  # what is required is computed, too


def test_a_requirement_that_is_met_is_told(
    tmp_path: Path, photographs: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    require = "require={ssim_y: '>=0.1'}"
    run(tmp_path / "o", "models=[bicubic]", f"benchmarks=[{photographs}/Val]", require)
    assert caplog.messages[-1] == "`require` is met by every model on every benchmark."


def test_requirements_that_cannot_be_checked_are_refused_before_any_work(
    tmp_path: Path, originals: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
):
    metrics = "metrics=[consistency_db]"
    with pytest.raises(UserError, match=r"`require\.ssim_y` needs ground truth, and no benchmark"):
        run(
            tmp_path / "a",
            "models=[bicubic]",
            f"benchmarks=[{originals}]",
            metrics,
            "require={ssim_y: '>=0.1'}",
        )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse_to_download)
    with pytest.raises(UserError, match=r"`require\.lpips_alex` cannot be checked: its weights"):
        run(
            tmp_path / "b",
            "models=[bicubic]",
            f"benchmarks=[{photographs}/Val]",
            "require={lpips_alex: '<=0.1'}",
        )
    assert not list((tmp_path / "a").iterdir())
    assert not list((tmp_path / "b").iterdir())


def refuse_to_download(url: str, *_: object, **__: object) -> None:
    raise OSError(f"no network for {url}")


def test_a_gallery_is_drawn_for_each_benchmark(
    tmp_path: Path, photographs: Path, originals: Path, generator_file: Callable[[int], Path]
):
    run(
        tmp_path / "o",
        f"models=[bicubic,ours:{generator_file(4)}]",
        f"benchmarks=[{photographs}/train,{originals}]",
        "metrics=[psnr_y_db,consistency_db]",
        "gallery={metrics: [psnr_y_db, consistency_db], num_crops: 1, crop_size_px: 32}",
    )
    with_truth, without = (
        read_image(tmp_path / "o" / "galleries" / f"{name}.png") for name in ("train", "small")
    )
    assert with_truth.shape[1] > without.shape[1]  # a column for HR
    with pytest.raises(UserError, match=r"`gallery\.crop_size_px` \(=60\).*multiple of 8.*try 56"):
        run(
            tmp_path / "p",
            "models=[bicubic]",
            f"benchmarks=[{photographs}/Val]",
            "gallery={metrics: [psnr_y_db], num_crops: 1, crop_size_px: 60}",
        )


def test_processes_that_measure_different_things_are_refused(monkeypatch: pytest.MonkeyPatch):
    protocol = Protocol(scale=4, metrics=["psnr_y_db"])
    processes = Processes(rank=1, local_rank=1, count=2)
    monkeypatch.setattr(Processes, "from_first", lambda *_: ("psnr_y_db", "lpips_alex"))
    with pytest.raises(UserError, match=r"process 1 and the first .* metrics \(lpips_alex\): wei"):
        evaluate._check_same_metrics(protocol, processes)


def test_two_processes_share_the_pictures_and_write_what_one_writes(
    tmp_path: Path, photographs: Path, generator_file: Callable[[int], Path]
):
    train = tmp_path / "train"
    shutil.copytree(photographs / "train", train)
    shutil.copy(photographs / "Val" / "left.png", train / "broken.png")
    cut_in_half(train / "broken.png")
    overrides = [
        f"models=[bicubic,ours:{generator_file(4)}]",
        f"benchmarks=[{train},lr:{photographs}/Val]",
        "metrics=[psnr_y_db,consistency_db]",
        "device=cpu",
        "gallery={metrics: [psnr_y_db, consistency_db], num_crops: 1, crop_size_px: 32}",
    ]
    run(tmp_path / "one", *overrides)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    # No output_dir: each process makes a fresh folder, and one of them is left.
    done = subprocess.run(
        [*launch, "-m", "asrgan", "evaluate", *overrides],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Tables ") == 1
    (two,) = (tmp_path / "outputs" / "evaluate").iterdir()
    one, two = ({p.relative_to(o): p for p in o.rglob("*.*")} for o in (tmp_path / "one", two))
    assert sorted(map(str, two)) == [
        *("differences.csv", "galleries/Val.png", "galleries/train.png"),
        *("per_image.csv", "summary.csv", "summary.md"),
    ]
    for name, path in one.items():
        assert two[name].read_bytes() == path.read_bytes(), name


@pytest.mark.parametrize(
    ("benchmark", "bicubic_db", "srgan_db", "srgan_ssim"),
    [("Set5", 28.43, 30.657, 0.8642), ("Set14", 26.09, 27.690, 0.7541)],
)
def test_bicubic_and_the_published_srgan_reach_the_published_numbers(
    tmp_path: Path,
    shared_folder: Path,
    benchmark: str,
    bicubic_db: float,
    srgan_db: float,
    srgan_ssim: float,
):
    weights = shared_folder / "weights" / "srgan_leftthomas" / "netG_epoch_4_100.pth"
    run(
        tmp_path / "out",
        f"models=[bicubic,srgan:{weights}]",
        f"benchmarks=[{shared_folder}/data/benchmarks/{benchmark}]",
    )
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8") as file:
        bicubic, srgan = csv.DictReader(file)
    assert float(bicubic["psnr_y_db"]) == pytest.approx(bicubic_db, abs=0.02)
    assert float(srgan["psnr_y_db"]) == pytest.approx(srgan_db, abs=0.02)
    assert float(srgan["ssim_y"]) == pytest.approx(srgan_ssim, abs=0.001)
