"""Two processes with gloo on the CPU, started as a user starts them; one alone in this process."""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from asrgan import train as verb
from asrgan.configuration import compose
from asrgan.losses import L1Loss

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}  # tests run side by side
OVERRIDES = [
    "experiment=asrgan_x4",
    "size=small",
    "data.crop_size_px=32",
    "data.num_workers=0",
    "generator.num_features=8",
    "generator.num_blocks=1",
    "validate_every=4",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    # Batch norm sees the pictures of its own process; without it one and two can be compared.
    "generator.norm=none",
    "data.batch_size=4",
    "optimizer.generator._target_=torch.optim.SGD",
    "optimizer.discriminator._target_=torch.optim.SGD",
    "~optimizer.generator.betas",
    "~optimizer.discriminator.betas",
    "optimizer.generator.lr=0.1",
    "optimizer.discriminator.lr=0.1",
    "max_iterations=4",
]


def run(
    photographs: Path, output_dir: Path, *overrides: str, program: Sequence[str] = ("-m", "asrgan")
) -> subprocess.CompletedProcess[str]:
    words = [*data_of(photographs), f"output_dir={output_dir}", *OVERRIDES, *overrides]
    return subprocess.run(
        [sys.executable, *program, "train", *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def data_of(photographs: Path) -> list[str]:
    return [f"data.train={photographs}/train", f"data.validation={validation_of(photographs)}"]


def validation_of(photographs: Path) -> Path:
    """Three images for two processes: one is seen twice, and counted once."""
    return shutil.copytree(
        photographs / "train", photographs.with_name("Three"), dirs_exist_ok=True
    )


def train(
    photographs: Path, output_dir: Path, *overrides: str, program: Sequence[str] = ("-m", "asrgan")
) -> dict[str, torch.Tensor]:
    done = run(photographs, output_dir, *overrides, program=program)
    assert done.returncode == 0, done.stderr
    return state_of(output_dir)


def train_alone(photographs: Path, output_dir: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """In this process: an import of everything takes longer than such a training."""
    config = compose("train", [*data_of(photographs), *OVERRIDES, *overrides])
    output_dir.mkdir(exist_ok=True)
    verb.run(OmegaConf.create(config), output_dir)
    return state_of(output_dir)


def state_of(output_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(output_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def one(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a process alone trains."""
    output_dir = tmp_path_factory.mktemp("alone") / "one"
    train_alone(photographs, output_dir)
    return output_dir


def assert_as_trained_by_one(one: Path, state: dict[str, torch.Tensor]) -> None:
    checkpoint = torch.load(one / "checkpoints" / "last.ckpt", weights_only=True)
    for key, value in checkpoint["state_dict"].items():
        torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_two_processes_train_what_one_trains(photographs: Path, one: Path, tmp_path: Path):
    two = train(photographs, tmp_path / "two", "trainer=ddp", "devices=2")
    # Without steps, all would be equal.
    still = train_alone(photographs, tmp_path / "still", "optimizer.generator.lr=0")
    name = "generator.head.0.parametrizations.weight.original"
    assert (two[name] - still[name]).abs().max() > 1e-3
    assert_as_trained_by_one(one, two)
    tables = {}
    for folder in (one, tmp_path / "two"):
        with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
            tables[folder.name] = list(csv.DictReader(file))
    assert [row["iteration"] for row in tables["one"]] == [
        row["iteration"] for row in tables["two"]
    ]
    column = "val/Three/psnr_y_db"
    for ours, theirs in zip(tables["one"], tables["two"], strict=True):
        assert bool(ours[column]) == bool(theirs[column])
        if ours[column]:  # each image counted once, whichever process saw it
            assert float(theirs[column]) == pytest.approx(float(ours[column]), abs=1e-2)


# Under torchrun. The first rank alone may write; at the end all ranks compare their parameters.
PROBED = """
import os, sys
import torch
from torch import distributed
from asrgan import cli
from asrgan.engine import SuperResolution

output_dir = next(a for a in sys.argv if a.startswith("output_dir=")).partition("=")[2]

def refuse_to_write(event, arguments):
    if event == "open" and str(arguments[0]).startswith(output_dir):
        assert isinstance(arguments[1], str) and set(arguments[1]) <= set("rbt"), arguments
    assert event not in ("os.remove", "os.rename") or output_dir not in str(arguments), arguments

if os.environ["RANK"] != "0":
    sys.addaudithook(refuse_to_write)

def compare(module):
    own = torch.cat([p.detach().flatten() for p in module.parameters()])
    alls = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(alls, own)
    if os.environ["RANK"] == "0":
        same = all(torch.equal(one, alls[0]) for one in alls)
        print("ranks", len(alls), "iteration", module.iteration, "equal", same)

SuperResolution.on_train_end = compare
cli.main()
"""


@pytest.mark.parametrize("number", [2, 4])
def test_parameters_are_equal_on_all_ranks_and_only_the_first_one_writes(
    photographs: Path, tmp_path: Path, number: int
):
    program = tmp_path / "probed.py"
    program.write_text(PROBED)
    torchrun = ("-m", "torch.distributed.run", f"--nproc-per-node={number}", "--standalone")
    done = run(
        photographs,
        tmp_path / "run",
        "max_iterations=50",
        "data.num_workers=1",
        program=(*torchrun, str(program)),
    )
    assert done.returncode == 0, done.stderr
    assert f"ranks {number} iteration 50 equal True" in done.stdout


# In one rank, at the third iteration.
FAULTY = """
import os, signal
import torch
from asrgan import cli
from asrgan.engine import SuperResolution

step = SuperResolution._step_generator

def faulty(self, sr_image, hr_image):
    if self.iteration == 2 and os.environ["RANK"] == "{rank}":
        {fault}
    return step(self, sr_image, hr_image)

SuperResolution._step_generator = faulty
cli.main()
"""


@pytest.mark.parametrize(
    ("rank", "fault", "message"),
    [
        (1, "os.kill(os.getpid(), signal.SIGKILL)", "The process of rank 1 was killed by signal 9"),
        (0, "hr_image = hr_image * float('nan')", "`train/loss_g/pixel` is no longer finite"),
        (1, "hr_image = hr_image * float('inf')", "rank 1: `train/loss_g/pixel` is no longer"),
    ],
    ids=["killed", "diverged-first", "diverged-other"],
)
def test_a_rank_that_ends_ends_the_run_with_its_reason_and_another_number_goes_on(
    photographs: Path, one: Path, tmp_path: Path, rank: int, fault: str, message: str
):
    program = tmp_path / "faulty.py"
    program.write_text(FAULTY.replace("{rank}", str(rank)).replace("{fault}", fault))
    settings = ("checkpoint_every=1", "devices=2")
    done = run(photographs, tmp_path / "run", *settings, program=(str(program),))
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("asrgan: ")]
    assert len(told) == 1
    assert message in told[0]
    assert "Traceback" not in done.stderr
    if message.startswith("The process"):
        state = train_alone(photographs, tmp_path / "run", "checkpoint_every=1", "resume=true")
        assert_as_trained_by_one(one, state)


def test_ranks_that_start_with_different_configurations_are_refused(
    photographs: Path, tmp_path: Path
):
    program = tmp_path / "different.py"
    program.write_text(
        "import os, sys\n"
        "from asrgan import cli\n"
        "sys.argv += ['seed=2'] * (os.environ.get('RANK') == '1')\n"
        "cli.main()\n"
    )
    done = run(photographs, tmp_path / "run", "devices=2", program=(str(program),))
    assert done.returncode == 2
    assert "`seed` is 2 for rank 1 and 1 for rank 0: all processes" in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


# The pixel loss of the second batch is infinite in the second process.
BROKEN = """
import os
from asrgan import cli
from asrgan.losses import L1Loss
from test_distributed import break_second_batch

if os.environ.get("RANK") == "1":
    break_second_batch(L1Loss)
cli.main()
"""


def break_second_batch(loss_class: Any) -> None:
    forward, training_calls = loss_class.forward, []

    def broken(self: Any, sr_image: torch.Tensor, hr_image: torch.Tensor) -> torch.Tensor:
        loss = forward(self, sr_image, hr_image)
        if sr_image.requires_grad:
            training_calls.append(1)
        is_second = sr_image.requires_grad and len(training_calls) == 2
        return loss * float("inf") if is_second else loss

    loss_class.forward = broken


def test_all_processes_skip_the_batch_that_one_finds_not_finite(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    program = tmp_path / "broken.py"
    program.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n{BROKEN}")
    overrides = ["on_nonfinite=skip", "trainer.log_every=4"]
    two = train(photographs, tmp_path / "two", *overrides, "devices=2", program=(str(program),))
    monkeypatch.setattr(L1Loss, "forward", L1Loss.forward)  # so that it is put back
    break_second_batch(L1Loss)
    one = train_alone(photographs, tmp_path / "one", *overrides)
    for name in ("one", "two"):
        with (tmp_path / name / "metrics.csv").open(encoding="utf-8", newline="") as file:
            assert next(csv.DictReader(file))["train/skipped"] == "1"
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-4, msg=key)


# Two tasks of one job, as SLURM describes them. Unless it is told otherwise, one that ends with a
# code kills the others.
SRUN = """#!{python}
import os, subprocess, sys, time
count = int(os.environ["SLURM_STEP_NUM_TASKS"])
flags = [word for word in sys.argv[1:] if word.startswith("--")]
tasks = [
    subprocess.Popen(
        ["{python}", "{program}", *sys.argv[len(flags) + 2 :]],
        env=os.environ | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
    )
    for rank in range(count)
]
while None in (codes := [task.poll() for task in tasks]):
    if any(codes) and "--kill-on-bad-exit=0" not in flags:
        for task in tasks:
            task.kill()
    time.sleep(0.01)
sys.exit(max(128 - code if code < 0 else code for code in codes))
"""
SCONTROL = """#!/bin/sh
echo "$@" >> {log}
"""
# The scheduler's signal reaches one rank before the other, once.
PREEMPTED = """
import os, signal
from asrgan import cli
from asrgan.engine import SuperResolution

step = SuperResolution._step_generator

def preempted(self, sr_image, hr_image):
    if self.iteration == 1 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGUSR1)
    return step(self, sr_image, hr_image)

SuperResolution._step_generator = preempted
cli.main()
"""


def test_the_job_script_of_slurm_requeues_a_preempted_job_which_goes_on(
    photographs: Path, one: Path, tmp_path: Path
):
    log, program = tmp_path / "scontrol.log", tmp_path / "preempted.py"
    program.write_text(PREEMPTED)
    for name, template in {"srun": SRUN, "scontrol": SCONTROL}.items():
        text = template.replace("{python}", sys.executable).replace("{program}", str(program))
        (tmp_path / name).write_text(text.replace("{log}", str(log)))
        (tmp_path / name).chmod(0o755)
    own = [o for o in OVERRIDES if not o.startswith(("experiment=", "data.batch_size="))]
    environment = ENVIRONMENT | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NODEID": "0",
        "TRAIN": f"{photographs}/train",
        "VALIDATION": str(validation_of(photographs)),
        "OUTPUT_DIR": str(tmp_path / "run"),
        "BATCH_SIZE": "4",
        "OVERRIDES": " ".join(own),
    }
    script = Path(__file__).parents[2] / "docs" / "slurm.sh"
    states: list[dict[str, Any]] = []
    for _ in range(2):
        done = subprocess.run(
            ["bash", str(script)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        states.append(torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True))
    assert [state["asrgan"]["iteration"] for state in states] == [2, 4]
    assert log.read_text() == f"requeue {os.getpid()}\n"
    assert_as_trained_by_one(one, states[1]["state_dict"])
