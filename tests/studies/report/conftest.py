"""A small study with everything a report shows, and a browser for its page."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from asrgan.data import Benchmark
from asrgan.files import file_digest
from asrgan.imaging import write_image
from asrgan.models import SRGANGenerator, save_generator
from asrgan.studies.folder import Attempt, CellFolder, CellPlan, CellState, StudyFolder, StudyPlan
from asrgan.studies.report import ImageScores, Run, StudyResults
from small_networks import small_generator

IMAGES = [("Five", f"image{number}") for number in range(5)] + [
    ("Seven", f"image{number}") for number in range(7)
]
METRICS = ("psnr_y_db", "ssim_y", "lpips_alex")
# What each variant adds to PSNR-Y, and the spread of that over seeds.
VARIANTS = {"SRGAN": (0.0, 0.01), "A-SRGAN": (0.5, 0.02), "pool 8": (0.005, 0.02)}


def _make_scores(*, gain: float, seed: int, metrics: tuple[str, ...] = METRICS) -> ImageScores:
    """Values in which pictures differ as pictures do, and recipes by ``gain``."""
    of_image = np.random.default_rng(0).normal(27, 3, len(IMAGES))
    noise = np.random.default_rng(seed).normal(0, 0.02, len(IMAGES))
    psnr = of_image + gain + noise
    columns = {"psnr_y_db": psnr, "ssim_y": psnr / 40, "lpips_alex": 0.3 - (psnr - 27) / 60}
    return ImageScores(
        images=IMAGES,
        metrics=metrics,
        values=np.stack([columns[name] for name in metrics], axis=1),
    )


def _make_run(variant: str, seed: int, **others: object) -> Run:
    gain, spread = VARIANTS[variant]
    place = list(VARIANTS).index(variant)
    gain += spread * np.random.default_rng([seed, place]).standard_normal()
    settings = {
        "path": f"variants/{variant}/seed_{seed}",
        "kind": "variant",
        "model": variant,
        "seed": seed,
        "status": "finished",
        "scores": _make_scores(gain=gain, seed=100 * place + seed),
        "hours": 0.5,
    }
    return Run(**(settings | others))


def _make_results(runs: list[Run] | None = None, **others: object) -> StudyResults:
    if runs is None:
        runs = [_make_run(variant, seed) for variant in VARIANTS for seed in (1, 2, 3)]
    settings = {
        "name": "a study",
        "question": "Does attention help?",
        "baseline": "SRGAN",
        "metric": "psnr_y_db",
        "difference": 0.05,
        "scale": 4,
        "seeds": [1, 2, 3],
        "runs": runs,
    }
    return StudyResults(**(settings | others))


def _make_generator(*, attention: list[dict[str, object]]) -> SRGANGenerator:
    generator = small_generator(
        num_blocks=1, norm="none", attention=attention, attention_resize="nearest"
    ).eval()
    for layer in generator.attention_layers.values():
        torch.nn.init.constant_(layer.gamma, 0.5)
    return generator


@pytest.fixture(scope="session")
def make_scores() -> Callable[..., ImageScores]:
    """``make_scores(gain=0.5, seed=1)``: values of a run."""
    return _make_scores


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """``make_run("A-SRGAN", 1)``: a finished run; keywords replace what it is."""
    return _make_run


@pytest.fixture(scope="session")
def make_results() -> Callable[..., StudyResults]:
    """``make_results()``: the finished study; other runs and keywords replace what it is."""
    return _make_results


@pytest.fixture(scope="session")
def make_generator() -> Callable[..., SRGANGenerator]:
    """``make_generator(attention=[...])``: a small one whose gammas are 0.5."""
    return _make_generator


@pytest.fixture(scope="session")
def benchmark_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Five crops of one photograph, seven of another."""
    folder = tmp_path_factory.mktemp("benchmarks")
    photographs = {"Five": data.chelsea(), "Seven": data.coffee()}
    for benchmark, name in IMAGES:
        left = 40 * int(name.removeprefix("image"))
        crop = photographs[benchmark][80 : 80 + 128, left : left + 160]
        write_image(folder / benchmark / f"{name}.png", crop)
    return {name: str(folder / name) for name in photographs}


@pytest.fixture(scope="session")
def benchmarks(benchmark_folders: dict[str, str]) -> dict[str, Benchmark]:
    """The same, opened."""
    return {name: Benchmark(folder, scale=4) for name, folder in benchmark_folders.items()}


@pytest.fixture(scope="session")
def full_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], list[Run]]:
    """Runs with generators and curves, beside a reference."""
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    attention = {
        "SRGAN": [],
        "A-SRGAN": [{"after": "trunk"}, {"after": "upsample1", "pool_size": 8}],
        "pool 8": [{"after": "trunk", "pool_size": 8}],
    }
    runs = [
        Run(
            path="references/bicubic",
            kind="reference",
            model="bicubic",
            seed=None,
            status="finished",
            scores=_make_scores(gain=-1.0, seed=9),
        )
    ]
    for variant, places in attention.items():
        generator = folder / f"{variant}.safetensors"
        save_generator(generator, _make_generator(attention=places), recipe={})
        for seed in (1, 2, 3):
            metrics = folder / f"{variant}-{seed}.csv"
            lines = ["iteration,train/d_real,train/d_fake,val/Five/psnr_y_db,train/images_per_s"]
            lines += [f"{i},0.{5 + i},0.{5 - i},{26 + i + 0.1 * seed},{40 + i}" for i in range(5)]
            metrics.write_text("\n".join(lines) + "\n", encoding="utf-8")
            runs.append(_make_run(variant, seed, generator=generator, metrics_path=metrics))
    return lambda: list(runs)


def _write_cell(cell: CellFolder, run: Run) -> None:
    """A finished cell with the run's values and files."""
    trains = run.kind != "reference"
    cell.write_plan(
        CellPlan(
            path=run.path,
            kind=run.kind,
            model=run.model,
            seed=run.seed,
            identity=run.path,
            config={},
            data={},
            code={"version": "v", "commit": "abc"},
            start=None,
            max_iterations=4 if trains else 0,
            num_devices=1,
            images_per_iteration=16,
            train=["seed=1"] if trains else [],
            evaluate=[],
            evaluation="on both",
        )
    )
    (cell.folder / "evaluation").mkdir()
    lines = [",".join(["model", "benchmark", "image", *run.scores.metrics])]
    for (benchmark, image), values in zip(run.scores.images, run.scores.values, strict=True):
        lines.append(",".join([run.model, benchmark, image, *map(str, values)]))
    table = cell.folder / "evaluation" / "per_image.csv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    head = "8-bit pictures.\n\nMeans over pictures\n"
    (cell.folder / "evaluation" / "summary.md").write_text(head, encoding="utf-8")
    trained = {}
    if trains:
        shutil.copy(run.generator, cell.folder / "generator.safetensors")
        shutil.copy(run.metrics_path, cell.folder / "metrics.csv")
        trained = {n: file_digest(cell.folder / n) for n in ("generator.safetensors",)}
    started = "2026-01-02T03:04:05+00:00"
    cell.write_state(
        CellState(
            attempts=[Attempt(step="train", started=started, host="here", seconds=1800.0)],
            trained=trained,
            evaluated={"evaluation/per_image.csv": file_digest(table)},
            evaluation="on both",
        )
    )


@pytest.fixture
def study(
    full_runs: Callable[[], list[Run]], benchmark_folders: dict[str, str], tmp_path: Path
) -> StudyFolder:
    """All of this on disk, as `asrgan study run` leaves it."""
    study = StudyFolder(tmp_path / "study")
    runs = full_runs()
    for run in runs:
        study.cell(run.path).folder.mkdir(parents=True)
        _write_cell(study.cell(run.path), run)
    definition = "name: a study\nquestion: Does attention help?\n"
    study.definition_path.write_text(definition, encoding="utf-8")
    study.write_plan(
        StudyPlan(
            name="a study",
            question="Does attention help?",
            baseline="SRGAN",
            metric="psnr_y_db",
            difference=0.05,
            seeds=[1, 2, 3],
            scale=4,
            benchmarks=benchmark_folders,
            cells=[run.path for run in runs],
            home=str(study.folder),
            sources="abc",
        )
    )
    return study


@pytest.fixture(scope="module")  # its event loop would be in the way of others
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    names = ("chromium", "chromium-browser", "chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("there is no Chromium; apt install chromium")
    reason = "playwright is not installed"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    with sync_api.sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium refuses one to root
        browser = playwright.chromium.launch(executable_path=program, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page; whatever it complains about, or fetches, fails the test in the end."""
    faults: list[str] = []
    contexts: list[Any] = []

    def open_page(path: Path, *, width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith("data:") or request.url == path.as_uri()
                else faults.append(request.url)
            ),
        )
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []
