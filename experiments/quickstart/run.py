"""Does attention help a super-resolution GAN? A first answer on photographs that pip installed.

    make quickstart [QUICKSTART="--perceptual FILE ..."]

Writes the photographs, runs the study in study.yaml, and draws curves and pictures of its cells.
What is finished is not done again.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from skimage import data

from asrgan.configuration import as_override
from asrgan.data import Benchmark
from asrgan.files import read_table
from asrgan.imaging import read_image, to_array, write_image
from asrgan.studies import StudyFolder, plot_comparison, plot_curves

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
    run_study(
        output,
        content_iterations=arguments.content_iterations,
        gan_iterations=arguments.gan_iterations,
        perceptual=arguments.perceptual,
    )
    cells = {plan.model: c.folder for c in StudyFolder(output).cells() if (plan := c.plan())}
    draw(output, cells)
    print(f"Curves      {output}/curves.png")
    print(f"Pictures    {output}/comparison.png")
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


def run_study(
    output: Path, *, content_iterations: int, gan_iterations: int, perceptual: Path | None
) -> None:
    """Trains and evaluates what is not finished yet; shows the command, ends if it fails."""
    held_out = str(output / "photographs" / "held_out")
    overrides = {
        "data.train": str(output / "photographs" / "train"),
        "data.validation": held_out,
        "benchmarks": [held_out],
        "values.content_iterations": content_iterations,
        "values.gan_iterations": gan_iterations,
        "output_dir": str(output),
    }
    if perceptual:
        weights = as_override("loss.perceptual.network.weights", str(perceptual))
        overrides["variant_overrides"] = ["loss/perceptual=distilled_vgg19", weights]
    study = str(Path(__file__).parent)
    words = ["study", "run", study, *(as_override(*item) for item in overrides.items())]
    print(f"$ asrgan {shlex.join(words)}", flush=True)
    code = subprocess.call([sys.executable, "-m", "asrgan", *words])
    if code:
        sys.exit(code)


def draw(output: Path, cells: Mapping[str, Path]) -> None:
    """Draws the training curves, and the models side by side."""
    tables = {model: folder / "metrics.csv" for model, folder in cells.items()}
    plot_curves(
        {model: table for model, table in tables.items() if table.exists()},
        columns=["val/held_out/psnr_y_db", "val/held_out/ssim_y", "train/d_real", "train/d_fake"],
        path=output / "curves.png",
    )
    _, rows = read_table(output / "per_image.csv")
    captions = {
        (row["image"], row["model"]): f"{float(row['psnr_y_db']):.2f} dB"
        f" / {float(row['ssim_y']):.3f}"
        for row in rows
    }
    images = {}
    for name, lr_image, hr_image in Benchmark(output / "photographs" / "held_out", scale=SCALE):
        pictures = {
            model: folder / "evaluation" / "images" / "held_out" / model / f"{name}.png"
            for model, folder in cells.items()
        }
        images[name] = {
            "LR": to_array(lr_image).repeat(SCALE, axis=0).repeat(SCALE, axis=1),
            **{model: read_image(picture) for model, picture in pictures.items()},
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


if __name__ == "__main__":
    main()
