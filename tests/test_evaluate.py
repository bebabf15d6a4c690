import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from asrgan import evaluate
from asrgan.configuration import compose
from asrgan.data import Benchmark
from asrgan.errors import UserError
from asrgan.imaging import bicubic_upscale, read_image, to_array, write_image
from asrgan.models import SRGANGenerator, save_generator

METRICS = "psnr_y_db,ssim_y,psnr_rgb_db,ssim_rgb"


def run(output_dir: Path, *overrides: str) -> list[dict[str, str]]:
    config = compose("evaluate", [f"metrics=[{METRICS}]", "device=cpu", *overrides])
    output_dir.mkdir()
    evaluate.run(OmegaConf.create(config), output_dir)
    with (output_dir / "per_image.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def generator_file(tmp_path: Path) -> Callable[[int], Path]:
    def save(scale: int) -> Path:
        generator = SRGANGenerator(
            scale=scale,
            num_features=8,
            num_blocks=1,
            norm="batch",
            trunk_end="norm",
            output="linear",
            spectral_norm=True,
            spectral_norm_output=False,
            attention=[{"after": "trunk"}],
            pool_size=2,
            attention_resize="transposed",
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
