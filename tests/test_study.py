"""`asrgan study` from a study's file to its tables."""

import csv
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from asrgan import evaluate, study
from asrgan.configuration import compose, studies_folder
from asrgan.models import SRGANGenerator, save_generator
from asrgan.studies import run_cell
from asrgan.studies.folder import CellFolder, StudyFolder, StudyPlan

pytestmark = pytest.mark.filterwarnings("ignore:.*GPU available but not used")

TOY: dict[str, Any] = {
    "question": "Does it work?",
    "baseline": "A",
    "difference": 0.1,
    "seeds": [1],
    "references": [],
    "evaluate": {"metrics": ["psnr_y_db", "ssim_y"], "device": "cpu"},
    "base": {"experiment": "srgan_x4"},
    "variants": {"A": {}, "B": {"generator.attention": [{"after": "trunk"}]}},
}


Run = Callable[..., Any]


@pytest.fixture
def asrgan_study(asrgan: Run) -> Run:
    """`asrgan study` in this process, in an empty folder."""
    return partial(asrgan, "study")


@pytest.fixture
def toy(tmp_path: Path, photographs: Path) -> Callable[..., list[str]]:
    """Writes a study into a folder; returns the words that name it and its data."""

    def write(**changes: object) -> list[str]:
        path = tmp_path / "toy" / "study.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({**TOY, **changes}, sort_keys=False), encoding="utf-8")
        data = [f"data.train={photographs}/train", f"data.validation={photographs}/Val"]
        return ["toy", "size=small", *data, f"benchmarks=[{photographs}/Val]", "output_dir=out"]

    return write


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({}, ["seeds=[1,1]"], "`seeds` has 1 twice"),
        ({}, ["baseline=C"], "`baseline` (=C) must be one of the variants: A, B."),
        ({}, ["metric=beauty"], "`metric` (=beauty) must be one of psnr_y_db"),
        ({}, ["metric=colour_shift"], "`metric` (=colour_shift) is none that is evaluated"),
        ({}, ["+evaluate.mtrics=3"], "`evaluate`: `mtrics` is no key of `asrgan evaluate`; did"),
        ({}, ["jobs=0"], "`jobs` (=0) must be at least 1."),
        ({}, ["seeds=3"], "`seeds` (=3) must be a list of whole numbers."),
        ({}, ["data.validation=nowhere"], "variant `A`: the image folder "),
        ({}, ["--", "trainer.devices=3"], "variant `A`: `data.batch_size` (=16) must be divisible"),
        ({"variants": ["A", "B"]}, [], "`variants` (=['A', 'B']) must hold keys and values."),
        ({"variants": {"A": {}, "B": 3}}, [], "`variants.B` (=3) must hold keys and values."),
        ({"stages": {"S": 3}}, [], "`stages.S` (=3) must have `base` and `seed`; perhaps `sizes`."),
        ({}, ["benchmarks=[nowhere]"], "nowhere) cannot be read: No such file or directory."),
        ({}, ["metrik=ssim_y"], "`metrik` is no key of `asrgan study`; did you mean metric"),
        ({}, ["evaluate={a: 3}"], "To append to your config use +evaluate={a: 3}"),
        ({}, ["--", "data.train"], "behind `--`: "),
        ({}, ["--", "max_iteration=3"], "variant `A`: `max_iteration` is no key of `asrgan train`"),
        ({"varients": {}}, [], "`varients` is no key of a study; did you mean variants?"),
        ({"baseline": "???"}, [], "`baseline` has no value; give it: baseline=..."),
        (
            {"values": {"w": "???"}, "base": {"generator.weights": "${values.w}"}},
            [],
            "`values.w` has no value; give it: values.w=...",
        ),
        (
            {"variants": {"A": {}, "B": {"generator.atention": []}}},
            [],
            "variant `B`: `generator.atention` is no key of `asrgan train`; did you mean",
        ),
        (
            {"variants": {"A": {}, "B": {"generator.attention": [{"after": "block99"}]}}},
            [],
            "variant `B`: `generator.attention` has the unknown place `block99`",
        ),
        (
            {"variants": {"A": {}, "B": {"data.crop_size_px": 33}}},
            [],
            "variant `B`: `crop_size_px` (=33) must be a positive multiple of `scale` (=4)",
        ),
        (
            {"variants": {"A": {}, "B": {"generator.weights": "toy/study.yaml"}}},
            [],
            "variant `B`: `",  # and what is wrong with the file
        ),
        (
            {
                "stages": {"S": {"base": {"experiment": "srresnet_x4"}, "seed": 1}},
                "start": "S",
                "variants": {"A": {}, "B": {"generator.trunk_end": "prelu"}},
            },
            [],
            "holds another architecture: `generator.trunk_end` is prelu but norm in the file",
        ),
        (
            {"variants": {"A": {}, "B": {"trainer.log_every": 3}}},
            [],
            "variants `A` and `B` resolve to the same configuration",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line_before_anything_is_trained(
    asrgan_study: Run,
    toy: Callable[..., list[str]],
    tmp_path: Path,
    tiny: Sequence[str],
    changes: dict[str, object],
    words: list[str],
    message: str,
):
    given = toy(**changes)
    rest = words if "--" in words else [*words, "--", *tiny]
    result = asrgan_study("run", *given, *rest)
    assert result.code == 2
    assert result.err.startswith("asrgan: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "`name` has no value"),
        (["run", "nothing"], "`nothing` is neither a folder with a study.yaml nor one of the stud"),
        (["run", "toy", "more"], "takes an action and a study; `more` is too much."),
        (["walk", "toy"], "`action` (=walk) must be one of run, check, status, report"),
        (["run", "toy", "-m"], "a study is a sweep of its own; leave out --multirun."),
        (["status", "toy"], "out` holds no study yet; asrgan study run starts one."),
    ],
    ids=" ".join,
)
def test_what_cannot_be_understood_is_told(
    asrgan_study: Run, toy: Callable[..., list[str]], words: list[str], message: str
):
    toy()
    result = asrgan_study(*words, *(["output_dir=out"] if "toy" in words else []))
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_kept_study_is_of_its_size_and_holds_what_its_values_were(
    asrgan_study: Run,
    toy: Callable[..., list[str]],
    tiny: Sequence[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(study, "run_locally", lambda *_, **__: False)
    words = toy(
        values={"layers": {"small": "trunk", "full": "head"}},
        variants={
            "A": {},
            "B": {"generator.attention": [{"after": "${values.layers.${size}}"}]},
        },
    )
    asrgan_study("run", *words, "--", *tiny)
    kept = OmegaConf.to_container(OmegaConf.load(tmp_path / "out" / "study.yaml"))
    assert kept["variants"]["B"] == {"generator.attention": [{"after": "trunk"}]}
    assert asrgan_study("check", "out").code == 0
    result = asrgan_study("check", "out", "size=full")
    assert result.code == 2
    assert "`size` (=full) is small in the folder of this study; name the study" in result.err
    result = asrgan_study("check", "out", "values.layers.small=head")
    assert result.code == 2
    assert "`values.layers" in result.err


def test_no_benchmark_is_called_as_all_of_them_are(
    asrgan_study: Run,
    toy: Callable[..., list[str]],
    tiny: Sequence[str],
    tmp_path: Path,
    photographs: Path,
):
    (tmp_path / "all").symlink_to(photographs / "Val")
    result = asrgan_study("check", *toy(), f"benchmarks=[{tmp_path}/all]", "--", *tiny)
    assert result.code == 2
    assert "has a folder named `all`, as tables call all of them" in result.err


def test_a_study_in_other_hands_is_left_to_them(
    asrgan_study: Run, toy: Callable[..., list[str]], tmp_path: Path
):
    words = toy()
    lock = StudyFolder(tmp_path / "out").lock
    assert lock.acquire()
    result = asrgan_study("run", *words)
    lock.release()
    assert result.code == 2
    assert f"another `asrgan study run` (process {os.getpid()} on " in result.err


def test_the_commands_are_the_same_grid_as_plain_sweeps(
    asrgan_study: Run, toy: Callable[..., list[str]], tmp_path: Path, photographs: Path
):
    words = toy(
        stages={"S": {"base": {"experiment": "srresnet_x4"}, "seed": "each"}},
        start="S",
        seeds=[1, 2],
        variants={"A": {}, "B b": {"generator.attention": [{"after": "trunk", "pool_size": 2}]}},
    )
    result = asrgan_study("commands", *words, "--", "max_iterations=6")
    assert result.code == 0, result.err
    assert not (tmp_path / "out").exists()
    lines = [shlex.split(line) for line in result.out.splitlines()]
    assert [line[:3] for line in lines] == [["asrgan", "train", "-m"]] * 3
    last = lines[2]
    assert "seed=1,2" in last
    assert last[-2:] == [
        f"output_dir='{tmp_path}/out/variants/B b'",
        "hydra.sweep.subdir=seed_${seed}",
    ]
    config = compose("train", [*(w for w in last[3:-2] if w != "seed=1,2"), "seed=2"])
    assert config["generator"]["attention"] == [{"after": "trunk", "pool_size": 2}]
    assert config["max_iterations"] == 6
    start = f"{tmp_path}/out/stages/S/seed_2/generator.safetensors"
    assert config["generator"]["weights"] == start


def test_a_published_generator_keeps_its_name_and_a_file_gets_its_folder(
    asrgan_study: Run,
    toy: Callable[..., list[str]],
    tmp_path: Path,
    tiny_weights: Callable[[int], Path],
    publish: Callable[[str, Path], Path],
):
    publish("toy", tiny_weights(4))
    words = toy(variants={"A": {"generator.weights": "toy"}, "B": {"generator.weights": "./toy"}})
    result = asrgan_study("commands", *words)
    assert result.code == 0, result.err
    lines = [shlex.split(line) for line in result.out.splitlines()]
    assert "generator.weights=toy" in lines[0]
    assert f"generator.weights={tmp_path}/toy" in lines[1]


@pytest.mark.parametrize("is_grid", [False, True], ids=["variants", "grid"])
def test_what_an_agent_of_wandb_starts_is_a_cell(
    asrgan_study: Run,
    toy: Callable[..., list[str]],
    is_grid: bool,
):
    points = {"loss/adversarial": ["hinge", "least_squares"], "generator.pool_size": [2, 4]}
    attention = [{"after": "trunk", "pool_size": 2}]
    variants = {"A a": {"generator.attention": attention}, "B": {"max_iterations": 7}}
    grid = {"variants": {}, "grid": points, "baseline": "adversarial=hinge pool_size=2"}
    changes = grid if is_grid else {"variants": variants, "baseline": "B"}
    words = toy(**changes, seeds=[1, 4])
    result = asrgan_study("sweep", *words)
    assert result.code == 0, result.err
    paths = [Path(shlex.split(line)[2]) for line in result.out.splitlines()]
    assert [path.stem for path in paths] == (["toy"] if is_grid else ["A a", "B"])
    sweep = yaml.safe_load(paths[0].read_text(encoding="utf-8"))
    assert sweep["metric"] == {"name": "val/Val/psnr_y_db", "goal": "maximize"}
    assert sweep["parameters"]["seed"] == {"values": [1, 4]}
    # What W&B's agent makes of the file and of the last point of its grid.
    point = {key: {"value": p["values"][-1]} for key, p in sweep["parameters"].items()}
    macros = {"${env}": ["/usr/bin/env"], "${program}": [sweep["program"]]}
    macros["${args_no_hyphens}"] = create_sweep_command_args({"args": point})["args_no_hyphens"]
    command = create_sweep_command(sweep["command"])
    line = [word for chunk in command for word in macros.get(chunk, [chunk])]
    assert line[:3] == ["/usr/bin/env", "asrgan", "train"]
    config = compose("train", line[3:])
    assert config["seed"] == 4
    assert config["logger"]["wandb"]["group"] == "toy"
    if is_grid:
        assert config["generator"]["pool_size"] == 4
        assert config["loss"]["adversarial"]["_target_"] == "asrgan.losses.LeastSquaresLoss"
    else:
        assert config["generator"]["attention"] == attention
        assert config["logger"]["wandb"]["labels"] == {"study": "toy", "variant": "A a"}


def test_offline_runs_of_wandb_are_sent_once(
    asrgan_study: Run,
    toy: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    toy()
    cells = ["variants/A/seed_1", "variants/A/seed_2", "variants/B/seed_1"]
    plan = dict.fromkeys(("name", "question", "baseline", "metric", "home", "sources"), "")
    study = StudyFolder(tmp_path / "out")
    study.write_plan(
        StudyPlan(**plan, difference=0.1, seeds=[1], scale=4, benchmarks={}, cells=cells)
    )
    runs = [study.folder / cell / "wandb" / "offline-run-1-a" for cell in cells]
    for run in runs:
        run.mkdir(parents=True)
    busy = study.cell(cells[2])
    assert busy.lock.acquire()
    fake = tmp_path / "fake" / "wandb" / "__main__.py"
    fake.parent.mkdir(parents=True)
    fake.with_name("__init__.py").touch()
    fake.write_text(
        "import pathlib, sys\n"
        "assert sys.argv[1] == 'sync'\n"
        "for run in sys.argv[2:]:\n"
        "    pathlib.Path(run, 'run-a.wandb.synced').open('x').close()\n"
        "sys.exit(len(sys.argv) == 3)\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    result = asrgan_study("sync", "toy", "output_dir=out")
    assert (result.code, result.out) == (0, "2 runs sent to W&B.\n")
    assert [len(list(run.iterdir())) for run in runs] == [1, 1, 0]
    result = asrgan_study("sync", "toy", "output_dir=out")
    assert (result.code, result.out) == (0, "0 runs sent to W&B.\n")
    busy.lock.release()
    result = asrgan_study("sync", "toy", "output_dir=out")
    assert (result.code, result.out) == (2, "")
    assert "W&B did not take everything (exit code 1)" in result.err


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Behind the checkpoint of the second iteration.
KILLED = """
import os, signal
from asrgan import cli
from asrgan.engine import SuperResolution

step = SuperResolution.training_step

def training_step(self, batch, batch_index):
    if self.iteration == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    step(self, batch, batch_index)

SuperResolution.training_step = training_step
cli.main()
"""


def test_a_killed_cell_goes_on_elsewhere_and_ends_as_a_plain_run_does(
    asrgan_study: Run,
    toy: Callable[..., list[str]],
    run_training: Callable[..., Path],
    tmp_path: Path,
    photographs: Path,
    tiny: Sequence[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as here: sums depend on the number of threads
    cell = CellFolder(tmp_path / "out" / "variants" / "A" / "seed_1")
    killed = tmp_path / "killed.py"
    killed.write_text(KILLED, encoding="utf-8")
    with monkeypatch.context() as context:
        program = (sys.executable, str(killed))
        context.setattr("asrgan.study.run_cell", partial(run_cell, program=program))
        result = asrgan_study("run", *toy(variants={"A": {}}), "--", *tiny, "max_iterations=6")
    assert result.code == 1
    assert "asrgan: 1 interrupted; the same command goes on." in result.err

    # The folder knows everything, and its cells go through any launcher of Hydra.
    result = asrgan_study("run", "out", "hydra/launcher=submitit_local")
    assert result.code == 0, result.err
    assert cell.status() == "finished"
    status = asrgan_study("status", "out")
    assert "1 finished" in status.out
    assert "6/6" in status.out
    again = asrgan_study("run", "out")
    assert again.code == 0, again.err
    assert [a.step for a in cell.state().attempts] == ["train", "train", "evaluate"]

    plain = run_training(tmp_path / "plain", "experiment=srgan_x4", "max_iterations=6", "seed=1")
    settings = [f"models=[A:{plain}/generator.safetensors]", f"benchmarks=[{photographs}/Val]"]
    settings += ["metrics=[psnr_y_db,ssim_y]", "device=cpu", "gallery=null"]
    evaluate.run(OmegaConf.create(compose("evaluate", settings)), plain)
    ours, theirs = (rows_of(f / "per_image.csv") for f in (tmp_path / "out", plain))
    assert [(r["image"], r["psnr_y_db"], r["ssim_y"]) for r in ours] == [
        (r["image"], r["psnr_y_db"], r["ssim_y"]) for r in theirs
    ]
    names = ("iteration", "train/loss_g/total", "val/Val/psnr_y_db")
    assert [[r[name] for name in names] for r in rows_of(cell.folder / "metrics.csv")] == [
        [r[name] for name in names] for r in rows_of(plain / "metrics.csv")
    ]


SHIPPED = sorted(path.parent.name for path in studies_folder().glob("*/study.yaml"))


def test_the_shipped_studies_are_these():
    assert SHIPPED == [
        "adversarial_objective",
        "crop_size",
        "finetune_vs_scratch",
        "fsa_placement",
        "fsa_pool_size",
        "precision",
        "quickstart",
        "srgan_vs_asrgan",
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_head_of_a_study_gives_command_cost_and_seeds(name: str):
    lines = (studies_folder() / name / "study.yaml").read_text("utf-8").splitlines()
    head = [line for line in lines if line.startswith("#")]
    for label in ("Command:", "Cost:", "Seeds:"):
        assert any(label in line for line in head), label


@pytest.fixture(scope="module")
def published_srgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of the architecture that `srgan_finetune_x4` starts from."""
    node = compose("train", ["experiment=srgan_finetune_x4"])["generator"]
    settings = {key: value for key, value in node.items() if key not in ("_target_", "weights")}
    path = tmp_path_factory.mktemp("published") / "srgan.safetensors"
    save_generator(path, SRGANGenerator(**settings), recipe={})
    return path


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_study_finds_nothing_wrong_with_itself(
    asrgan_study: Run,
    tmp_path: Path,
    photographs: Path,
    published_srgan: Path,
    name: str,
):
    data = [f"data.train={photographs}/train", f"data.validation={photographs}/Val"]
    words = [name, *data, f"benchmarks=[{photographs}/Val]", "metric=psnr_y_db", "output_dir=out"]
    if name == "finetune_vs_scratch":
        words.append(f"values.published={published_srgan}")
    for size in ("small", "full"):
        result = asrgan_study("check", *words, f"size={size}")
        assert result.code == 0, result.err
        cells = [line for line in result.out.splitlines() if "iterations, waiting" in line]
        assert cells[0].startswith("references/bicubic ")
        num_stages = {"precision": 0, "srgan_vs_asrgan": 4}.get(name, 1)
        assert len([cell for cell in cells if cell.startswith("stages/")]) == num_stages
        assert len([cell for cell in cells if cell.startswith("variants/")]) > 1
    assert list(tmp_path.iterdir()) == []
