"""What several tests need."""

import logging
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from omegaconf import OmegaConf
from skimage import data

from asrgan import cli, train, weights
from asrgan.configuration import compose
from asrgan.files import file_digest
from asrgan.imaging import write_image
from asrgan.models import save_generator
from small_networks import small_generator

# Tests run side by side, one process a core: more threads only get in each other's way.
torch.set_num_threads(1)

TINY = (
    "data.crop_size_px=32",
    "data.batch_size=2",
    "data.num_workers=0",
    "generator.num_features=8",
    "generator.num_blocks=1",
    "validate_every=4",
    "checkpoint_every=2",
    "trainer.log_every=2",
    "trainer.sample_size_px=32",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
)


class Result(NamedTuple):
    """What a command leaves: its exit code and what it has written."""

    code: int
    out: str
    err: str


@pytest.fixture
def asrgan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Result]:
    """The command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["asrgan", *arguments])
        code, handlers = 0, logging.getLogger().handlers[:]
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            logging.getLogger().handlers[:] = handlers  # Hydra's write to this test's stdout
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Benchmarks and published weights that lie beside the checkout of a developer."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "benchmarks").is_dir():
        pytest.skip("the folder with benchmarks and published weights (../shared) is not there")
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``train`` with three photographs and ``Val`` with two, all small."""
    folder = tmp_path_factory.mktemp("photographs")
    sources = {"coffee": data.coffee(), "rocket": data.rocket(), "astronaut": data.astronaut()}
    for name, picture in sources.items():
        write_image(folder / "train" / f"{name}.png", picture[100:164, 200:272])
    for name, corner in {"left": 40, "right": 200}.items():
        crop = data.chelsea()[100:140, corner : corner + 48]
        write_image(folder / "Val" / f"{name}.png", crop)
    return folder


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides of `asrgan train` for networks that are trained in a moment."""
    return TINY


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """The file of a generator with few features and random weights, by its scale."""

    @cache
    def save(scale: int) -> Path:
        path = tmp_path_factory.mktemp("weights") / f"x{scale}.safetensors"
        torch.manual_seed(scale)
        # Around grey, so that little is clamped.
        generator = small_generator(scale=scale, num_blocks=1, output="tanh")
        save_generator(path, generator, recipe={})
        return path

    return save


@pytest.fixture
def publish(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Path], Path]:
    """Lets a file come with asrgan under a name, and nothing else."""
    folder = tmp_path_factory.mktemp("published")
    monkeypatch.setattr(weights, "FOLDER", folder)
    table = folder / weights.TABLE
    table.write_text("", encoding="utf-8")

    def copy(name: str, file: Path) -> Path:
        path = Path(shutil.copy(file, folder / f"{name}.safetensors"))
        with table.open("a", encoding="utf-8") as lines:
            lines.write(f"{file_digest(path)}  {path.name}\n")
        return path

    return copy


@pytest.fixture
def run_training(photographs: Path) -> Callable[..., Path]:
    """`asrgan train` in this process: tiny networks, overrides on top; returns output_dir."""

    def run(output_dir: Path, *overrides: str) -> Path:
        folders = [f"data.train={photographs}/train", f"data.validation={photographs}/Val"]
        experiment = [o for o in overrides if o.startswith("experiment=")]
        others = [o for o in overrides if not o.startswith("experiment=")]
        config = compose("train", [*experiment, "size=small", *folders, *TINY, *others])
        output_dir.mkdir(parents=True, exist_ok=True)
        train.run(OmegaConf.create(config), output_dir)
        return output_dir

    return run
