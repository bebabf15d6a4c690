"""Publishes a trained generator: its file within the package, then its model card.

    python publish.py weights NAME RUN
    python publish.py card NAME RUN --machine TEXT --evaluation DIR --precision DIR --pictures DIR

RUN is a finished folder of `asrgan train`. `weights` writes NAME.safetensors in half precision, and
its line into the table; it is what is evaluated then. `card` writes NAME.md beside it, and curves
and pictures into docs/weights/. README.md has all commands from the data to the card.
"""

import argparse
import json
import re
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jinja2
import torch
from skimage import data
from squeezenet import TABLE as DISTANCES

from asrgan import weights
from asrgan.configuration import compose
from asrgan.console import markdown_table
from asrgan.data import Benchmark
from asrgan.errors import UserError
from asrgan.files import atomic_path, file_digest, read_table, write_text
from asrgan.imaging import quantize, read_image, to_array, to_tensor
from asrgan.models import load_generator, read_metadata, save_generator
from asrgan.studies import Row, as_markdown, plot_comparison, plot_curves

HERE = Path(__file__).parent
FAILURES = HERE / "known_failures"  # NAME.md: what a look at the pictures found
DOCS = HERE.parents[1] / "docs" / "weights"
LARGEST_MB = 7.0
LARGEST_LOSS_DB = 0.02  # of PSNR-Y, by half precision

_SHOWN = (
    "psnr_y_db",
    "ssim_y",
    "lpips_alex",
    "dists",
    "feature_distance",
    "niqe",
    "consistency_db",
    "colour_shift",
)
# Of `metrics.csv`, where there are such columns.
_CURVES = r"val/.+/psnr_y_db|train/loss_g/total|train/d_(real|fake)"
# The crop of scikit-image's astronaut whose values a card tells: top, left, side.
_CROP_PX = (8, 136, 40)
_PICTURE_CROP_PX = 128


def main() -> None:
    """Does one of the two steps, and says what was written."""
    parser = argparse.ArgumentParser(description="Publish a trained generator.")
    steps = parser.add_subparsers(dest="step", required=True)
    for step in (steps.add_parser("weights"), card := steps.add_parser("card")):
        step.add_argument("name")
        step.add_argument("run", type=Path)
    card.add_argument("--machine", required=True, help="on which it was trained")
    for option, what in {
        "evaluation": "of the published files, with pictures and squeezenet.csv",
        "precision": "of NAME and NAME_float32, psnr_y_db",
        "pictures": "the benchmark whose pictures are shown",
    }.items():
        card.add_argument(f"--{option}", type=Path, required=True, help=what)
    arguments = vars(parser.parse_args())
    step = write_card if arguments.pop("step") == "card" else write_weights
    try:
        step(**arguments)
    except (OSError, UserError) as error:
        sys.exit(f"publish: {error}")


def write_weights(name: str, run: Path) -> None:
    """Writes the generator into the package, and its line into the table."""
    if not re.fullmatch(r"[a-z]\w*", name):
        raise UserError(f"`name` (={name}) must be a word, as srgan_x4: it is given as weights=.")
    trained = run / "generator.safetensors"
    metadata = read_metadata(trained)
    generator = load_generator(trained)
    generator.architecture = metadata["architecture"]  # as trained, with its spectral norm
    path = weights.FOLDER / f"{name}.safetensors"
    recipe = _without_machine(metadata["recipe"])
    with atomic_path(path) as temporary:
        save_generator(temporary, generator, recipe=recipe, precision=torch.float16)
        if temporary.stat().st_size > 1e6 * LARGEST_MB:
            raise UserError(f"{path} is larger than {LARGEST_MB} MB; publish a smaller network.")
    digests = dict(sorted({**weights.published(), name: file_digest(path)}.items()))
    lines = [f"{digest}  {stem}.safetensors\n" for stem, digest in digests.items()]
    write_text(weights.FOLDER / weights.TABLE, "".join(lines))
    print(f"Weights  {path} ({path.stat().st_size / 1e6:.1f} MB)")


def write_card(
    name: str, run: Path, *, machine: str, evaluation: Path, precision: Path, pictures: Path
) -> None:
    """Draws curves and pictures, and writes the card."""
    found = FAILURES / f"{name}.md"
    if not found.is_file():
        raise UserError(f"`{found}` is missing: look at the pictures, and write what fails.")
    path = weights.find_weights(name)
    metadata, generator = read_metadata(name), load_generator(name)
    config = metadata["recipe"]["config"]
    _, metrics = read_table(run / "metrics.csv")
    iterations = int(metrics[-1]["iteration"])
    speeds = [float(r["train/images_per_s"]) for r in metrics if r.get("train/images_per_s")]
    iterations_per_s = statistics.median(speeds) / config["data"]["batch_size"]
    starts = json.loads((run / "run.json").read_text(encoding="utf-8"))["starts"]
    loss_db, compared = _loss_of_half_precision(name, precision)
    draw_curves(name, run / "metrics.csv")
    ranked = draw_pictures(name, evaluation, pictures, scale=generator.scale)
    summary = _read_summary(evaluation)
    metrics_shown = [metric for metric in _SHOWN if metric in summary[0]]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("card.md.jinja").render(
        name=name,
        size_mb=path.stat().st_size / 1e6,
        num_parameters=sum(p.numel() for p in generator.parameters()),
        architecture=metadata["architecture"],
        config=config,
        losses=_losses(config["loss"]),
        recipe=metadata["recipe"],
        command=shlex.join(["asrgan", *metadata["recipe"]["command"][1:]]).replace(
            f"output_dir={name}", f"output_dir=runs/{name}"
        ),
        machine=machine,
        iterations=iterations,
        full_iterations=compose("train", [f"experiment={config['experiment']}"])["max_iterations"],
        iterations_per_s=iterations_per_s,
        hours=iterations / iterations_per_s / 3600,
        resumes=len(starts) - 1,
        loss_db=loss_db,
        compared=compared,
        benchmarks={
            benchmark: as_markdown(summary, [], benchmark=benchmark, metrics=metrics_shown)
            for benchmark in dict.fromkeys(str(row["benchmark"]) for row in summary)
        },
        images={row["benchmark"]: row["images"] for row in summary},
        distances=_distances(
            evaluation / DISTANCES, models=list(dict.fromkeys(str(row["model"]) for row in summary))
        ),
        ranked=ranked,
        shown=pictures.name,
        crop_px=_CROP_PX,
        crop=_crop_values(name),
        failures=found.read_text(encoding="utf-8").strip(),
    )
    write_text(path.with_suffix(".md"), text)
    print(f"Card     {path.with_suffix('.md')}\nPictures {DOCS}")


def draw_curves(name: str, table: Path) -> None:
    """Draws what a training's table has of losses and validation."""
    columns = [column for column in read_table(table)[0] if re.fullmatch(_CURVES, column)]
    plot_curves({name: table}, columns=columns, path=DOCS / f"{name}_curves.png")


def draw_pictures(name: str, evaluation: Path, folder: Path, *, scale: int) -> dict[str, str]:
    """Draws the pictures with the least, the median and the largest gain over bicubic.

    Args:
        name: the model that gains.
        evaluation: its pictures, and its rows.
        folder: the benchmark.
        scale: of the benchmark.

    Returns:
        ``worst``, ``median``, ``best`` -> the picture and its gain of PSNR-Y.
    """
    _, rows = read_table(evaluation / "per_image.csv")
    rows = [row for row in rows if row["benchmark"] == folder.name]
    values = {(row["image"], row["model"]): row for row in rows}
    models = list(dict.fromkeys(row["model"] for row in rows))
    gains = {
        image: float(row["psnr_y_db"]) - float(values[image, "bicubic"]["psnr_y_db"])
        for (image, model), row in values.items()
        if model == name
    }
    ranking = sorted(gains, key=lambda image: gains[image])
    chosen = {"worst": ranking[0], "median": ranking[len(ranking) // 2], "best": ranking[-1]}
    benchmark = Benchmark(folder, scale=scale)
    images: dict[str, dict[str, Any]] = {}
    for image in dict.fromkeys(chosen.values()):
        made = evaluation / "images" / folder.name
        images[image] = {model: read_image(made / model / f"{image}.png") for model in models}
        images[image]["HR"] = to_array(benchmark[benchmark.names.index(image)].hr_image)
    captions = {key: f"{float(row['psnr_y_db']):.2f} dB" for key, row in values.items()}
    plot_comparison(
        images,
        captions=captions,
        baseline="bicubic",
        crop_size_px=_PICTURE_CROP_PX,
        num_crops=1,
        path=DOCS / f"{name}_pictures.jpg",
    )
    return {rank: f"{image} ({gains[image]:+.2f} dB)" for rank, image in chosen.items()}


def _read_summary(evaluation: Path) -> list[Row]:
    _, rows = read_table(evaluation / "summary.csv")
    return [{name: _as_value(name, text) for name, text in row.items()} for row in rows]


def _as_value(name: str, text: str) -> str | float | None:
    if name in ("benchmark", "model"):
        return text
    if name == "images" or name.endswith("_images"):
        return int(text)
    return float(text) if text else None


def _loss_of_half_precision(name: str, evaluation: Path) -> tuple[float, list[str]]:
    """The largest difference in PSNR-Y from the trained file, in dB, and the benchmarks compared.

    Raises:
        UserError: it is too large, or was not measured.
    """
    means = {
        (row["benchmark"], row["model"]): cast("float", row["psnr_y_db"])
        for row in _read_summary(evaluation)
    }
    losses = {
        str(benchmark): abs(mean - means[benchmark, f"{name}_float32"])
        for (benchmark, model), mean in means.items()
        if model == name and (benchmark, f"{name}_float32") in means
    }
    if not losses:
        raise UserError(f"{evaluation} has no models {name} and {name}_float32; evaluate both.")
    loss_db = max(losses.values())
    if loss_db > LARGEST_LOSS_DB:
        raise UserError(
            f"half precision costs {name} {loss_db:.3f} dB, and may cost {LARGEST_LOSS_DB}."
        )
    return loss_db, list(losses)


def _distances(table: Path, *, models: Sequence[str]) -> str:
    """A line for each benchmark, a column for each model."""
    _, rows = read_table(table)
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        mean, low, high = (f"{float(row[column]):.2f}" for column in ("distance", "low", "high"))
        lines.setdefault(row["benchmark"], {})[row["model"]] = f"{mean} [{low}, {high}]"
    cells = [[benchmark, *(line[model] for model in models)] for benchmark, line in lines.items()]
    return markdown_table([["benchmark", *models], *cells])


def _losses(node: Mapping[str, Any]) -> str:
    """``L1Loss x 1, NonSaturatingLoss x 0.005``."""
    parts = [
        f"{loss['_target_'].rpartition('.')[2]} x {loss['weight']:g}"
        + (
            f" ({loss['network']['_target_'].rpartition('.')[2]}, {', '.join(loss['layers'])})"
            if "network" in loss
            else ""
        )
        for loss in node.values()
        if loss is not None
    ]
    return ", ".join(parts)


def _crop_values(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of R, G and B of an enlarged crop, in grey levels."""
    top, left, size = _CROP_PX
    crop = to_tensor(data.astronaut()[top : top + size, left : left + size])
    with torch.inference_mode():
        levels = 255 * quantize(load_generator(name)(crop[None])[0]).double()
    return levels.mean(dim=(1, 2)).tolist(), levels.std(dim=(1, 2)).tolist()


def _without_machine(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without the folders and the system of the machine it ran on."""
    return {key: _named(value) for key, value in recipe.items() if key != "platform"}


def _named(node: Any) -> Any:
    """Plain values in which a path that leads out of the working directory is its last name."""
    if isinstance(node, dict):
        return {key: _named(value) for key, value in cast("dict[str, Any]", node).items()}
    if isinstance(node, list):
        return [_named(item) for item in cast("list[Any]", node)]
    if isinstance(node, str):
        outside = r"(?:^|(?<=[=,:\[({'\"\s]))(?:~|\.\.)?/(?!/)[^,\]}'\"]*"
        return re.sub(outside, lambda match: Path(match[0]).name, node)
    return node


if __name__ == "__main__":
    main()
