"""Does attention help a super-resolution GAN? A first answer on photographs that pip installed.

    make quickstart [QUICKSTART="--perceptual FILE ..."]

Trains a small SRResNet, and from it a small SRGAN and a small A-SRGAN for the same number of
iterations; evaluates them beside bicubic on photographs that no network has seen. Every step is
an `asrgan` command, which is shown. What is finished is not done again.
"""

import argparse
import csv
import shlex
import subprocess
import sys
import time
from pathlib import Path

from skimage import data

from asrgan.configuration import quoted
from asrgan.data import Benchmark
from asrgan.imaging import read_image, to_array, write_image
from asrgan.studies import plot_comparison, plot_curves

# Photographs within scikit-image's wheel; nothing is downloaded.
TRAIN = (
    "brick",
    "camera",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "rocket",
)
HELD_OUT = ("astronaut", "chelsea")
SCALE = 4
EXPERIMENTS = {"SRResNet": "srresnet_x4", "SRGAN": "srgan_x4", "A-SRGAN": "asrgan_x4"}


def main() -> None:
    """Runs every step that is not done yet, then shows the table and where everything is."""
    parser = argparse.ArgumentParser(description="Compare SRGAN with A-SRGAN in minutes.")
    parser.add_argument("--output", type=Path, default=Path("outputs/quickstart"))
    parser.add_argument(
        "--perceptual", type=Path, help="distilled VGG-19: the GANs use the perceptual loss, too"
    )
    parser.add_argument("--content-iterations", type=int, default=2000, help="of SRResNet")
    parser.add_argument(
        "--gan-iterations", type=int, default=300, help="of SRGAN and A-SRGAN, each"
    )
    arguments = parser.parse_args()
    start_s = time.monotonic()
    output: Path = arguments.output
    write_photographs(output / "photographs")
    runs = train(
        output,
        content_iterations=arguments.content_iterations,
        gan_iterations=arguments.gan_iterations,
        perceptual=arguments.perceptual,
    )
    evaluate(output, runs)
    draw(output, runs)
    print(f"\nTable     {output}/summary.md, summary.csv, per_image.csv")
    print(f"Curves    {output}/curves.png")
    print(f"Pictures  {output}/comparison.png, images/")
    print(f"Runs      {', '.join(str(run) for run in runs.values())}")
    print(f"{(time.monotonic() - start_s) / 60:.1f} minutes")


def write_photographs(folder: Path) -> None:
    """Copies scikit-image's photographs into a training and a held-out folder."""
    left, right = data.stereo_motorcycle()[:2]
    photographs = {name: getattr(data, name)() for name in (*TRAIN, *HELD_OUT)}
    photographs |= {"motorcycle_left": left, "motorcycle_right": right}
    for name, photograph in photographs.items():
        path = folder / ("held_out" if name in HELD_OUT else "train") / f"{name}.png"
        if not path.exists():
            rgb = photograph if photograph.ndim == 3 else photograph[..., None].repeat(3, axis=2)
            write_image(path, rgb)


def train(
    output: Path, *, content_iterations: int, gan_iterations: int, perceptual: Path | None
) -> dict[str, Path]:
    """Trains the three networks; a finished or interrupted run is taken up."""
    runs = {name: output / experiment for name, experiment in EXPERIMENTS.items()}
    for name, run in runs.items():
        overrides = [f"max_iterations={content_iterations}", "optimizer.average_decay=0.95"]
        if name != "SRResNet":
            overrides = [
                f"max_iterations={gan_iterations}",
                f"generator.weights={quoted(runs['SRResNet'] / 'generator.safetensors')}",
            ]
            if perceptual:
                overrides += [
                    "loss/perceptual=distilled_vgg19",
                    f"loss.perceptual.network.weights={quoted(perceptual)}",
                ]
        call(
            "train",
            f"experiment={EXPERIMENTS[name]}",
            "size=small",
            f"data.train={quoted(output / 'photographs' / 'train')}",
            f"data.validation={quoted(output / 'photographs' / 'held_out')}",
            *overrides,
            "data.crop_size_px=64",  # small crops: more steps within the minutes there are
            "validate_every=100",
            "resume=true",
            f"output_dir={quoted(run)}",
        )
    return runs


def evaluate(output: Path, runs: dict[str, Path]) -> None:
    """Scores bicubic and the networks on the held-out photographs."""
    files = {name: run / "generator.safetensors" for name, run in runs.items()}
    models = ["bicubic", *(quoted(f"{name}:{file}") for name, file in files.items())]
    call(
        "evaluate",
        f"models=[{','.join(models)}]",
        f"benchmarks=[{quoted(output / 'photographs' / 'held_out')}]",
        "metrics=[psnr_y_db,ssim_y,psnr_rgb_db,ssim_rgb]",
        "save_images=true",
        f"output_dir={quoted(output)}",
    )


def draw(output: Path, runs: dict[str, Path]) -> None:
    """Draws the training curves, and the models side by side."""
    plot_curves(
        {name: run / "metrics.csv" for name, run in runs.items()},
        columns=["val/held_out/psnr_y_db", "val/held_out/ssim_y", "train/d_real", "train/d_fake"],
        path=output / "curves.png",
    )
    with (output / "per_image.csv").open(encoding="utf-8") as file:
        captions = {
            (
                row["image"],
                row["model"],
            ): f"{float(row['psnr_y_db']):.2f} dB / {float(row['ssim_y']):.3f}"
            for row in csv.DictReader(file)
        }
    images = {}
    for name, lr_image, hr_image in Benchmark(output / "photographs" / "held_out", scale=SCALE):
        folder = output / "images" / "held_out"
        images[name] = {
            "LR": to_array(lr_image).repeat(SCALE, axis=0).repeat(SCALE, axis=1),
            **{model: read_image(folder / model / f"{name}.png") for model in ("bicubic", *runs)},
            "HR": to_array(hr_image),
        }
    plot_comparison(
        images,
        captions=captions,
        baseline="bicubic",
        crop_size_px=64,
        num_crops=2,
        path=output / "comparison.png",
    )


def call(*arguments: str) -> None:
    """Shows an `asrgan` command and runs it; ends with its exit code if it fails."""
    print(f"\n$ asrgan {shlex.join(arguments)}", flush=True)
    code = subprocess.call([sys.executable, "-m", "asrgan", *arguments])
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
