"""Every notebook, from its first cell to its last, on the files that `make quickstart` leaves."""

import ast
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from asrgan.imaging import write_image
from asrgan.models import save_generator
from small_networks import small_generator

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_the_notebooks_are_found():
    assert [path.name[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_"]


@each_notebook
def test_a_notebook_is_kept_without_what_it_has_shown(path: Path):
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the notebooks read, from networks that were not trained."""
    study = tmp_path_factory.mktemp("project") / "outputs" / "quickstart"
    write_image(study / "photographs" / "held_out" / "chelsea.png", data.chelsea()[60:188, 100:251])
    torch.manual_seed(0)
    generator = small_generator(
        num_blocks=1,
        norm="none",
        attention=[{"after": "trunk"}],
        pool_size=4,
        attention_resize="nearest",
    )
    rows = [
        "benchmark,kind,model,seed,image,psnr_y_db,ssim_y",
        "held_out,reference,bicubic,,a,27,.7",
    ]
    for gain, model in enumerate(("SRGAN", "A-SRGAN")):
        cell = study / "variants" / model / "seed_1"
        cell.mkdir(parents=True)
        save_generator(cell / "generator.safetensors", generator, recipe={})
        curve = "iteration,train/d_real,train/d_fake,val/held_out/psnr_y_db\n1,0.6,0.4,\n2,,,27\n"
        (cell / "metrics.csv").write_text(curve, encoding="utf-8")
        rows += [f"held_out,variant,{model},1,{name},{27 + gain},0.8" for name in "ab"]
    (study / "per_image.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return study


Execute = Callable[[str], list[Mapping[str, Any]]]


@pytest.fixture
def execute(quickstart: Path, monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Runs a notebook in a kernel of its own, beside `outputs`; returns its code cells."""
    import nbformat

    folder = quickstart.parents[1] / "notebooks"
    folder.mkdir(exist_ok=True)
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(quickstart.parents[1] / "jupyter"))

    def run(start: str) -> list[Mapping[str, Any]]:
        (path,) = [path for path in NOTEBOOKS if path.name.startswith(start)]
        copy = Path(shutil.copy(path, folder))
        notebook = nbformat.read(copy, as_version=4)
        nbclient.NotebookClient(
            notebook, timeout=None, resources={"metadata": {"path": str(folder)}}
        ).execute()
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                assert output.get("name") != "stderr", output["text"]
        return [cell for cell in notebook.cells if cell.cell_type == "code"]

    return run


def has_picture(cell: Mapping[str, Any]) -> bool:
    return any("image/png" in output.get("data", {}) for output in cell["outputs"])


def texts(cell: Mapping[str, Any]) -> list[str]:
    """The value of the last line of a cell, as it is shown."""
    shown = [output for output in cell["outputs"] if output["output_type"] == "execute_result"]
    return [output["data"]["text/plain"] for output in shown]


def test_the_first_notebook_follows_a_photograph(execute: Execute):
    cells = execute("01_")
    assert [has_picture(cell) for cell in cells] == [False, False, True, False, True]
    losses = ast.literal_eval(*texts(cells[3]))
    assert losses["discriminator"] == pytest.approx(2 * np.log(2), rel=0.3)
    assert losses["adversarial"] == pytest.approx(1e-3 * np.log(2), rel=0.3)


def test_the_second_notebook_shows_attention_and_its_memory(execute: Execute):
    cells = execute("02_")
    assert texts(cells[0]) == ["{'trunk': 0.0}"]
    assert [has_picture(cell) for cell in cells] == [False, False, True, True]


def test_the_third_notebook_reads_a_study(execute: Execute):
    cells = execute("03_")
    assert [has_picture(cell) for cell in cells] == [False, True, False, True, True]
    (text,) = texts(cells[2])
    assert text.startswith("Effect(mean=1.0, low=None, high=None, p_value=None, num_seeds=1")
