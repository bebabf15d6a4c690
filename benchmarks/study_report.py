"""Time and memory of a report over many runs, of synthetic numbers.

    python benchmarks/study_report.py FOLDER [--variants 20] [--seeds 10] [--images 100]

Writes a finished study with 8 metrics and 2000 logged iterations of each run below FOLDER, and
runs `asrgan study report` on it three times. Pictures are left out: they cost what the networks do.
"""

import argparse
import csv
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from hydra.utils import instantiate

from asrgan.configuration import compose
from asrgan.files import file_digest
from asrgan.metrics import METRICS
from asrgan.models import save_generator
from asrgan.studies.folder import Attempt, CellFolder, CellPlan, CellState, StudyFolder, StudyPlan

NUM_METRICS = 8
CURVES = ("train/loss_g/total", "train/loss_d/total", "train/d_real", "train/d_fake")
ROWS = range(100, 200_001, 100)  # logged every 100th of 200,000 iterations
ROUNDS = 3


def main() -> None:
    """Writes the study, then times its report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--images", type=int, default=100)
    asked = parser.parse_args()
    study = write_study(asked.folder.absolute() / "study", asked)
    for _ in range(ROUNDS):
        start_s = time.monotonic()
        command = [sys.executable, "-m", "asrgan", "study", "report", str(study.folder)]
        subprocess.run([*command, "report.pictures=0"], check=True, capture_output=True)
        print(f"{time.monotonic() - start_s:.1f} s")
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{asked.variants * asked.seeds} runs, at most {peak_mib:.0f} MiB")


def write_study(folder: Path, asked: argparse.Namespace) -> StudyFolder:
    """A finished study whose variants differ by a tenth of a dB from one to the next."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    generator = folder / "generator.safetensors"
    small = ["generator.num_features=8", "generator.num_blocks=1"]
    arguments = compose("train", [*small, "data.train=null", "data.validation=null"])["generator"]
    del arguments["weights"]
    save_generator(generator, instantiate(arguments), recipe={})
    study = StudyFolder(folder)
    of_image = rng.normal(27, 3, (asked.images, 1))
    cells: list[str] = []
    for number in range(asked.variants):
        for seed in range(1, asked.seeds + 1):
            cell = study.cell(f"variants/variant_{number}/seed_{seed}")
            of_run = 0.1 * number + rng.normal(0, 0.03)
            noise = rng.normal(0, 0.1, (asked.images, NUM_METRICS))
            write_cell(cell, f"variant_{number}", seed, of_image + of_run + noise, generator, rng)
            cells.append(f"variants/variant_{number}/seed_{seed}")
    study.definition_path.write_text("question: How long does it take?\n", encoding="utf-8")
    study.write_plan(
        StudyPlan(
            name="many",
            question="How long does it take?",
            baseline="variant_0",
            metric="psnr_y_db",
            difference=0.05,
            seeds=list(range(1, asked.seeds + 1)),
            scale=4,
            benchmarks={},
            cells=cells,
            home=str(folder),
            sources="",
        )
    )
    return study


def write_cell(
    cell: CellFolder,
    model: str,
    seed: int,
    values: np.ndarray,
    generator: Path,
    rng: np.random.Generator,
) -> None:
    """A finished run with its per-image values, (images, metrics), and its history."""
    evaluation = cell.folder / "evaluation"
    evaluation.mkdir(parents=True)
    with (evaluation / "per_image.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["model", "benchmark", "image", *list(METRICS)[:NUM_METRICS]])
        table.writerows([model, "Many", f"image_{i}", *row] for i, row in enumerate(values))
    with (cell.folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["iteration", *CURVES])
        table.writerows([row, *rng.random(len(CURVES))] for row in ROWS)
    (evaluation / "summary.md").write_text("Synthetic.\n\nMeans over pictures\n", encoding="utf-8")
    shutil.copy(generator, cell.folder / generator.name)
    cell.write_plan(
        CellPlan(
            path=str(cell.folder),
            kind="variant",
            model=model,
            seed=seed,
            identity=f"{model} {seed}",
            config={},
            data={},
            code={"version": "", "commit": None},
            start=None,
            max_iterations=ROWS[-1],
            num_devices=1,
            images_per_iteration=16,
            train=[f"seed={seed}"],
            evaluate=[],
            evaluation="",
        )
    )
    started = "2026-01-01T00:00:00+00:00"
    cell.write_state(
        CellState(
            attempts=[Attempt(step="train", started=started, host="here", seconds=3600.0)],
            trained={generator.name: file_digest(cell.folder / generator.name)},
            evaluated={"evaluation/per_image.csv": file_digest(evaluation / "per_image.csv")},
            evaluation="",
        )
    )


if __name__ == "__main__":
    main()
