"""`asrgan train` from overrides to files, on real photographs and tiny networks."""

import csv
import errno
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from asrgan.engine import MetricsTable, SuperResolution, hardware
from asrgan.errors import DivergedError, InterruptedRunError, UserError
from asrgan.imaging import read_image
from asrgan.losses import L1Loss
from asrgan.models import load_generator, read_metadata
from asrgan.subprocesses import Lock

Train = Callable[..., Path]

# Without a schedule that depends on where the run is said to end.
FOR_LONGER = ("max_iterations=8", "optimizer.generator_schedule=null")

pytestmark = pytest.mark.filterwarnings("ignore:.*GPU available but not used")


OF_THIS_PROCESS = ("train/images_per_s", "train/peak_memory_mib")


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [
            {k: v for k, v in row.items() if v and k not in OF_THIS_PROCESS}
            for row in csv.DictReader(file)
        ]


def state_of(run: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / name, weights_only=True)["state_dict"]


def assert_equal_runs(one: Path, other: Path) -> None:
    ours, theirs = state_of(one), state_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert rows_of(one) == rows_of(other)


def test_a_run_leaves_everything_that_is_needed_to_use_and_to_trust_it(
    run_training: Train, tmp_path: Path
):
    run = run_training(tmp_path / "run", "experiment=asrgan_x4", "max_iterations=6", "seed=3")
    assert sorted(p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()) == [
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "generator.safetensors",
        "metrics.csv",
        "run.json",
        "run.lock",
        "samples/iteration_00000004.png",
        "samples/iteration_00000006.png",
    ]
    description = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert description["seed"] == 3
    assert description["starts"][0]["versions"]["torch"] == torch.__version__.split("+")[0]
    metadata = read_metadata(run / "generator.safetensors")
    assert metadata["scale"] == 4
    assert metadata["architecture"]["attention"][0]["after"] == "trunk"
    assert metadata["recipe"]["iteration"] == 6
    assert metadata["recipe"]["config"]["seed"] == 3
    assert read_image(run / "samples" / "iteration_00000006.png").shape == (2 * 32, 3 * 32, 3)


def test_every_value_is_logged_against_the_iteration(run_training: Train, tmp_path: Path):
    run = run_training(tmp_path / "run", "experiment=asrgan_x4", "max_iterations=6")
    rows = rows_of(run)
    assert [row["iteration"] for row in rows] == ["2", "4", "4", "6", "6"]
    assert rows[0].keys() == {
        "iteration",
        "train/loss_g/pixel",
        "train/loss_g/adversarial",
        "train/loss_g/total",
        "train/loss_d/total",
        "train/d_real",
        "train/d_fake",
        "train/gradient_norm/generator",
        "train/gradient_norm/discriminator",
        "train/learning_rate/generator",
        "train/learning_rate/discriminator",
        "train/gamma/generator/trunk",
        "train/gamma/discriminator/stage3",
    }
    assert rows[2].keys() == {
        "iteration",
        "val/Val/psnr_y_db",
        "val/Val/ssim_y",
        "val/Val/psnr_rgb_db",
        "val/Val/ssim_rgb",
        "val/Val/loss_pixel",
        "val/Val/content_loss",
        "val/largest_singular_value/generator",
        "val/largest_singular_value/discriminator",
    }


def test_all_loggers_may_watch_one_run(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = run_training(tmp_path / "run", "logger=[wandb,tensorboard]", "max_iterations=2")
    run_id = json.loads((run / "run.json").read_text(encoding="utf-8"))["run_id"]
    assert len(list(run.glob(f"wandb/offline-run-*-{run_id}/*.wandb"))) == 1
    assert len(list(run.glob("tensorboard/events.out.tfevents.*"))) == 1
    assert len(rows_of(run)) == 2


def test_the_file_and_the_checkpoint_hold_the_same_averaged_generator(
    run_training: Train, tmp_path: Path
):
    run = run_training(tmp_path / "run", "experiment=asrgan_x4", "max_iterations=4")
    image = torch.rand(1, 3, 9, 10)
    from_file = load_generator(run / "generator.safetensors")(image)
    from_checkpoint = load_generator(run / "checkpoints" / "last.ckpt")(image)
    torch.testing.assert_close(from_file, from_checkpoint)


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=srresnet_x4"],
        ["experiment=asrgan_x4", "trainer.precision=auto", "data.num_workers=1"],
        ["experiment=srgan_x4", "discriminator=unet", "optimizer.discriminator_steps=2"],
        ["experiment=srgan_x4", "optimizer.accumulate=2"],
        ["experiment=srresnet_x4", "degradation=light"],
    ],
    ids=["srresnet", "asrgan-bf16", "unet", "accumulated", "light"],
)
def test_a_resumed_run_equals_an_undisturbed_one(
    run_training: Train, tmp_path: Path, overrides: list[str]
):
    whole = run_training(tmp_path / "whole", *overrides, *FOR_LONGER)
    halves = run_training(tmp_path / "halves", *overrides, *FOR_LONGER, "max_iterations=4")
    run_training(halves, *overrides, *FOR_LONGER, "resume=true")
    assert_equal_runs(whole, halves)


def test_one_line_tells_what_was_chosen_in_the_words_that_override_it(
    run_training: Train,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(hardware, "computes_bfloat16", lambda _: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    choices = ["trainer.precision=auto", "data.num_workers=auto"]

    def told(name: str, *overrides: str) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="asrgan"):
            run_training(tmp_path / name, "max_iterations=1", "data.validation=null", *overrides)
        (line,) = (text for text in caplog.messages if text.startswith("Chosen for this machine:"))
        return line

    chosen = told("auto", *choices)
    assert chosen == (
        "Chosen for this machine: trainer.accelerator=cpu trainer.devices=1"
        " trainer.precision=bf16-mixed trainer.channels_last=true data.num_workers=1"
        " OMP_NUM_THREADS=1"
    )
    words = chosen.partition(": ")[2].split()
    assert told("same", *words[:-1]) == chosen
    other = ("trainer.precision=32-true", "trainer.channels_last=false", "data.num_workers=0")
    assert told("other", *other).split()[6:9] == list(other)


def test_recomputing_trains_the_same_networks(run_training: Train, tmp_path: Path):
    overrides = ["experiment=asrgan_x4", "loss/perceptual=vgg19", "max_iterations=3"]
    overrides += ["loss.perceptual.network.weights=untrained", "data.validation=null"]
    overrides += ["trainer.precision=auto"]
    plain = run_training(tmp_path / "plain", *overrides)
    recomputing = run_training(tmp_path / "recomputing", *overrides, "trainer.recompute=true")
    assert_equal_runs(plain, recomputing)


class SignalAt(Callback):
    def __init__(self, iteration: int, number: int) -> None:
        self.iteration, self.number = iteration, number

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        if pl_module.iteration == self.iteration:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("number", "accumulate", "stop"),
    [(signal.SIGINT, 1, 5), (signal.SIGTERM, 1, 5), (signal.SIGINT, 2, 6)],
    ids=["sigint", "sigterm", "within-a-step"],
)
def test_a_signal_ends_the_iteration_saves_and_loses_nothing(
    run_training: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    accumulate: int,
    stop: int,
):
    overrides = ["experiment=srgan_x4", "max_iterations=8", f"optimizer.accumulate={accumulate}"]
    handler = signal.getsignal(number)
    whole = run_training(tmp_path / "whole", *overrides)
    assert signal.getsignal(number) == handler
    trainer_class = pl.Trainer
    with monkeypatch.context() as patch:
        patch.setattr(
            pl,
            "Trainer",
            lambda callbacks, **kwargs: trainer_class(
                callbacks=[*callbacks, SignalAt(4, number)], **kwargs
            ),
        )
        with pytest.raises(
            InterruptedRunError, match=rf"Stopped at iteration {stop} of 8 and saved"
        ):
            run_training(tmp_path / "stopped", *overrides)
        assert signal.getsignal(number) == handler
    run_training(tmp_path / "stopped", *overrides, "resume=true")
    assert_equal_runs(whole, tmp_path / "stopped")


class SignalInValidation(Callback):
    """A signal while the first image of the n-th validation is scored."""

    def __init__(self, validation: int) -> None:
        self.validation = validation
        self.scored: list[int] = []

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        self.scored.append(pl_module.iteration)
        if len(set(self.scored)) == self.validation:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("validation", "stop"), [(1, 4), (2, 8)], ids=["first", "last"])
def test_a_signal_in_a_validation_does_not_wait_for_its_end_and_loses_nothing(
    run_training: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    validation: int,
    stop: int,
):
    overrides = ["experiment=srgan_x4", "max_iterations=8", "data.num_workers=1"]
    whole = run_training(tmp_path / "whole", *overrides)
    watcher = SignalInValidation(validation)
    trainer_class = pl.Trainer
    with monkeypatch.context() as patch:
        patch.setattr(
            pl,
            "Trainer",
            lambda callbacks, **kwargs: trainer_class(callbacks=[*callbacks, watcher], **kwargs),
        )
        with pytest.raises(InterruptedRunError, match=rf"Stopped at iteration {stop} of 8"):
            run_training(tmp_path / "stopped", *overrides)
    assert watcher.scored.count(stop) == 1  # of two images
    assert not multiprocessing.active_children()  # an end would wait for them
    assert not (tmp_path / "stopped" / "samples" / f"iteration_{stop:08d}.png").exists()
    run_training(tmp_path / "stopped", *overrides, "resume=true")
    assert_equal_runs(whole, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "samples" / f"iteration_{stop:08d}.png").exists()


def test_a_full_disk_keeps_the_last_good_checkpoint_and_leaves_nothing_half_written(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save = pl.Trainer.save_checkpoint

    def fill_disk(trainer: pl.Trainer, path: Path, **kwargs: object) -> None:
        save(trainer, path, **kwargs)
        if trainer.lightning_module.iteration == 6:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", fill_disk)
    with pytest.raises(
        UserError,
        match=r"could not be written at iteration 6 \(No space left on device\);"
        r" the last good checkpoint is of iteration 4",
    ):
        run_training(tmp_path / "run", "max_iterations=8")
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    monkeypatch.undo()
    run_training(tmp_path / "run", "max_iterations=8", "resume=true")
    assert rows_of(tmp_path / "run")[-1]["iteration"] == "8"


def test_weights_that_broke_without_a_sign_in_the_losses_are_not_saved(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def zero_with_an_infinite_slope(self: L1Loss, sr_image: Tensor, hr_image: Tensor) -> Tensor:
        return (sr_image - sr_image).sum().sqrt()

    monkeypatch.setattr(L1Loss, "forward", zero_with_an_infinite_slope)
    with pytest.raises(DivergedError, match=r"`generator\..*` is no longer finite at iteration 1;"):
        run_training(tmp_path / "run", "max_iterations=4", "checkpoint_every=1")
    assert not list((tmp_path / "run").rglob("*.ckpt"))


def test_what_a_killed_run_left_half_written_is_removed(run_training: Train, tmp_path: Path):
    run = run_training(tmp_path / "run", *FOR_LONGER, "max_iterations=2")
    unfinished = ["checkpoints/.last.123.ckpt", ".generator.123.safetensors", ".metrics.7.csv"]
    for name in unfinished:
        (run / name).write_bytes(b"half")
    (run / ".notes.txt").write_text("mine")
    run_training(run, *FOR_LONGER, "resume=true")
    assert [p.name for p in run.rglob(".*")] == [".notes.txt"]


def test_best_is_the_best_validation_score_not_the_last(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scores = iter([10.0, 12.0, 11.0])

    def score(module: SuperResolution) -> None:
        module.validation_scores = {"psnr_y_db": next(scores)}

    monkeypatch.setattr(SuperResolution, "on_validation_epoch_end", score)
    run = run_training(tmp_path / "run", "max_iterations=6", "validate_every=2")
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["asrgan"]["iteration"] == 4


def test_the_best_is_chosen_anew_where_scores_cannot_be_compared(
    run_training: Train, tmp_path: Path
):
    """A network of 20 dB would stay the best of all whose score is an SSIM."""
    run = run_training(tmp_path / "run", *FOR_LONGER, "max_iterations=2")

    def iteration_of_the_best(*overrides: str) -> int:
        run_training(run, *FOR_LONGER, "resume=true", *overrides)
        best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
        return best["asrgan"]["iteration"]

    by_ssim = "trainer.best_metric=ssim_y"
    assert iteration_of_the_best("max_iterations=4", by_ssim) == 4
    assert iteration_of_the_best("max_iterations=6", by_ssim, "data.validation_limit=1") == 6


def test_a_finished_run_is_not_trained_again(run_training: Train, tmp_path: Path):
    run = run_training(tmp_path / "run", "max_iterations=4")
    before = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    run_training(run, "max_iterations=4", "resume=true")
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_an_existing_run_is_not_overwritten(run_training: Train, tmp_path: Path):
    run_training(tmp_path / "run", "max_iterations=2")
    with pytest.raises(UserError, match=r"already holds a run; resume=true goes on"):
        run_training(tmp_path / "run", "max_iterations=2")


def test_training_starts_from_the_weights_of_another_run(run_training: Train, tmp_path: Path):
    first = run_training(tmp_path / "first", "max_iterations=4")
    run = run_training(
        tmp_path / "run",
        "experiment=asrgan_x4",
        f"generator.weights={first}/generator.safetensors",
        "optimizer.generator.lr=0",
        "optimizer.average_decay=0",
        "max_iterations=1",
    )
    image = torch.rand(1, 3, 9, 10)
    earlier, later = (load_generator(r / "generator.safetensors") for r in (first, run))
    # A step at rate 0 moves no weight but batch norm's statistics: compare where they are made.
    torch.testing.assert_close(earlier.train()(image), later.train()(image), rtol=1e-3, atol=1e-3)


def test_training_starts_from_a_published_generator(
    run_training: Train, publish: Callable[[str, Path], Path], tmp_path: Path
):
    first = run_training(tmp_path / "first", "max_iterations=2")
    publish("toy", first / "generator.safetensors")
    still = ["optimizer.generator.lr=0", "optimizer.average_decay=0", "max_iterations=1"]
    run = run_training(tmp_path / "run", "generator.weights=toy", *still)
    kernels = [load_generator(r / "generator.safetensors").tail.weight for r in (first, run)]
    assert torch.equal(*kernels)


def test_training_works_without_validation(run_training: Train, tmp_path: Path):
    run = run_training(tmp_path / "run", "data.validation=null", "max_iterations=3")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["asrgan"]["iteration"] == 3
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["max_iterations=0"], r"`max_iterations` \(=0\) must be a whole number of at least 1"),
        (["max_iterations=1e2"], r"`max_iterations` \(=100.0\) must be a whole number"),
        (["trainer.log_every=0"], r"`trainer.log_every` \(=0\) must be a whole number"),
        (["devices=0"], r"`trainer.devices` \(=0\) must be a whole number of at least 1"),
        (["devices=3"], r"`data.batch_size` \(=2\) must be divisible by the number of devices \(3"),
        (["num_nodes=2"], r"`num_nodes` \(=2\): each machine has to be told NODE_RANK, MASTER_"),
        (["trainer=slurm"], r"`trainer.launcher` \(=srun\) needs a task of SLURM"),
        (["trainer.sync_batchnorm=true"], r"`trainer.sync_batchnorm` \(=true\) needs GPUs"),
        (["trainer.precision=16-mixed"], r"`trainer.precision` \(=16-mixed\): this CPU does not"),
        (["validate_every=null"], r"`validate_every` \(=None\) must be a whole number"),
        (["trainer.compile=fast"], r"`trainer.compile` \(=fast\) must be null or one of: default"),
        (["data.num_workers=-1"], r"`data.num_workers` \(=-1\) must be auto or a whole number"),
        (["trainer.precision=bf17"], r"`trainer.precision` \(=bf17\) must be one of: auto, bf16-m"),
        (
            ["trainer.precision=64-true"],
            r"\(=64-true\) must be one of: auto, bf16-mixed, 16-mixed,",
        ),
        (
            ["trainer.accelerator=gpu"],
            r"`trainer.accelerator` \(=gpu\): torch finds no GPU on this",
        ),
        (
            ["trainer.accelerator=tpu"],
            r"`trainer.accelerator` \(=tpu\) must be one of: auto, cpu, ",
        ),
        (["trainer.strategy=magic"], r"`trainer`: .*strategy='magic'"),
        (
            ["experiment=srgan_x4", "trainer.strategy=ddp"],
            r"`trainer.strategy` \(=ddp\) wants every",
        ),
        (["optimizer.accumulate=0"], r"`optimizer.accumulate` \(=0\) must be a whole number of at"),
        (["optimizer.accumulate=null"], r"`optimizer.accumulate` \(=None\) must be a whole number"),
        (
            ["nonfinite_limit=null"],
            r"`nonfinite_limit` \(=None\) must be a whole number of at least 0",
        ),
        (["trainer.num_samples=-1"], r"`trainer.num_samples` \(=-1\) must be a whole number of at"),
        (["optimizer.discriminator_steps=2"], r"\(=2\) must be 1 without a discriminator"),
        (
            ["trainer.metrics=[psnr_y_db,ms_ssim_y]", "trainer.best_metric=ms_ssim_y"],
            r"at least \d+ are needed",
        ),
        (
            ["optimizer.generator_schedule.total_steps=3"],
            r"`total_steps` \(=3\) .* at least `max_it",
        ),
        (["+optimizer.generator.foo=1"], r"`optimizer.generator`: .*'foo'.* To replace all of it"),
        (
            [
                "~optimizer.generator_schedule",
                "+optimizer.generator_schedule={_partial_: true,"
                " _target_: torch.optim.lr_scheduler.ReduceLROnPlateau}",
            ],
            r"ReduceLROnPlateau waits for a metric",
        ),
        (
            ["experiment=srgan_x4", "data.batch_size=1", "data.crop_size_px=16"],
            r"`data.batch_size` \(=1\) leaves D's last batch norm one value; try data.crop",
        ),
        (["seed=-1"], r"`seed` \(=-1\) must be a whole number from 0 to 4294967295"),
        (["seed=1.5"], r"`seed` \(=1.5\) must be a whole number"),
        (["seed=null"], r"`seed` \(=None\) must be a whole number"),
        (["data.validation_limit=0"], r"`limit` \(=0\) must be at least 1"),
        (["data.validation_crop_size_px=16"], r"leaves 16 px to score, at least 19 are needed"),
        (["trainer.best_metric=colour_shift"], r"\(=colour_shift\) must be in `trainer.metrics`"),
        (["trainer.metrics=[beauty]"], r"`metrics` \(=\['beauty'\]\) must be a list of names out"),
        (
            ["trainer.precision=16-mixed", "optimizer.accumulate=2"],
            r"`trainer.precision` \(=16-mixed\) .* cannot accumulate",
        ),
        (["optimizer.accumulate=3"], r"`max_iterations` \(=4\) must be divisible by"),
        (["data.crop_size_px=30"], r"`crop_size_px` \(=30\) must be a positive multiple"),
        (["data.crop_size_px=400"], r"400"),
        (["data.train=/nowhere"], r"/nowhere does not exist"),
        (["generator.attention=[{after: block9}]"], r"unknown place `block9`; known: head, block1"),
        (["generator.attention=[{after: trunk},{after: trunk}]"], r"has the place `trunk` twice"),
        (["+generator.depth=3"], r"SRGANGenerator.*unexpected keyword argument 'depth'"),
        (["trainer.best_metric=beauty"], r"`trainer.best_metric` \(=beauty\) must be one of"),
        (["generator.weights=/nowhere.pth"], r"/nowhere.pth` does not exist"),
        (["generator.weights=2024"], r"`2024` does not exist"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(
    run_training: Train, tmp_path: Path, overrides: list[str], message: str
):
    with pytest.raises(Exception, match=message):
        run_training(tmp_path / "run", "max_iterations=4", *overrides)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_two_do_not_train_in_one_folder(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("asrgan.train._ORPHANS_S", 0)
    lock = Lock(tmp_path / "run" / "run.lock")
    assert lock.acquire()
    with pytest.raises(UserError, match=rf"is being trained by process {os.getpid()} "):
        run_training(tmp_path / "run", *FOR_LONGER)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.lock"]
    lock.release()
    run_training(tmp_path / "run", *FOR_LONGER)


def test_a_run_that_ends_meanwhile_is_not_begun_anew(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It writes its first checkpoint while another one waits for its end."""
    run, acquire = tmp_path / "run", Lock.acquire

    def acquire_late(lock: Lock, **patience: float) -> bool:
        run_elsewhere = tmp_path / "elsewhere"
        monkeypatch.setattr(Lock, "acquire", acquire)
        run_training(run_elsewhere, *FOR_LONGER, "max_iterations=2")
        shutil.copytree(run_elsewhere, run, dirs_exist_ok=True)
        return acquire(lock, **patience)

    monkeypatch.setattr(Lock, "acquire", acquire_late)
    with pytest.raises(UserError, match="has just got a checkpoint of the run that ended there"):
        run_training(run, *FOR_LONGER, "resume=true")
    assert rows_of(run) == rows_of(tmp_path / "elsewhere")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own; needs root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_read_only_disk_is_told_before_anything_is_trained(run_training: Train, small_disk: Path):
    run = run_training(small_disk / "run", *FOR_LONGER, "max_iterations=2")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    rows = rows_of(run)
    with pytest.raises(UserError, match=r"run.lock` cannot be locked \(Read-only file system\)"):
        run_training(run, *FOR_LONGER, "resume=true")
    assert rows_of(run) == rows


def test_a_read_only_disk_of_checkpoints_is_told_as_early(
    run_training: Train, small_disk: Path, tmp_path: Path
):
    run = run_training(tmp_path / "run", *FOR_LONGER, "max_iterations=2")
    elsewhere = shutil.move(run / "checkpoints", small_disk / "checkpoints")
    (run / "checkpoints").symlink_to(elsewhere)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    rows = rows_of(run)
    with pytest.raises(UserError, match=r"checkpoints` cannot be written; take another"):
        run_training(run, *FOR_LONGER, "resume=true")
    assert rows_of(run) == rows


def test_training_data_may_move_but_not_change(
    run_training: Train, photographs: Path, tmp_path: Path
):
    shutil.copytree(photographs / "train", tmp_path / "photos")
    whole = run_training(tmp_path / "whole", *FOR_LONGER, f"data.train={tmp_path}/photos")
    first = f"data.train={tmp_path}/photos"
    halves = run_training(tmp_path / "halves", *FOR_LONGER, "max_iterations=4", first)
    moved = (tmp_path / "photos").rename(tmp_path / "elsewhere")
    shutil.copy(moved / "coffee.png", moved / "tea.png")
    with pytest.raises(UserError, match=r"elsewhere\) holds other images than those .*halves was"):
        run_training(halves, *FOR_LONGER, "resume=true", f"data.train={moved}")
    (moved / "tea.png").unlink()
    run_training(halves, *FOR_LONGER, "resume=true", f"data.train={moved}")
    assert_equal_runs(whole, halves)
    starts = json.loads((halves / "run.json").read_text(encoding="utf-8"))["starts"]
    assert len({start["training_data"] for start in starts}) == 1


def test_a_run_that_has_kept_nothing_lends_its_identity_to_no_other(
    run_training: Train, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def crash(*_: object) -> None:
        raise OSError("the machine is gone")

    photos, run = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(photographs / "train", photos)
    settings = ["max_iterations=2", f"data.train={photos}"]

    def start(*overrides: str) -> dict[str, Any]:
        with monkeypatch.context() as context:
            context.setattr(SuperResolution, "training_step", crash)
            with pytest.raises(OSError, match="machine is gone"):
                run_training(run, *settings, *overrides)
        return json.loads((run / "run.json").read_text(encoding="utf-8"))

    first = start("seed=1")
    again = start("seed=1", "resume=true")
    assert again["run_id"] == first["run_id"]
    assert len(again["starts"]) == 2
    other = start("seed=2")
    assert other["run_id"] != first["run_id"]
    assert (other["seed"], len(other["starts"])) == (2, 1)
    (photos / "coffee.png").unlink()
    on_less = start("seed=2")
    assert on_less["run_id"] != other["run_id"]


def test_a_run_that_was_killed_at_its_end_is_ended_by_the_next(
    run_training: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(MetricsTable, "finalize", kill)
        with pytest.raises(KeyboardInterrupt):
            run_training(tmp_path / "run", "max_iterations=2")
    ends: list[str] = []
    monkeypatch.setattr(MetricsTable, "finalize", lambda _, status: ends.append(status))
    rows = rows_of(tmp_path / "run")
    run_training(tmp_path / "run", "max_iterations=2", "resume=true")
    assert ends == ["success"]
    assert rows_of(tmp_path / "run") == rows
    run_training(tmp_path / "run", "max_iterations=2", "resume=true")
    assert ends == ["success"]


def test_another_architecture_is_not_resumed(run_training: Train, tmp_path: Path):
    run_training(tmp_path / "run", "max_iterations=2")
    with pytest.raises(UserError, match=r"`generator.num_features` was 8 and is 16, so .* another"):
        run_training(
            tmp_path / "run", "resume=true", "max_iterations=4", "generator.num_features=16"
        )


def test_a_one_cycle_schedule_is_not_prolonged(run_training: Train, tmp_path: Path):
    run_training(tmp_path / "run", "max_iterations=2")
    with pytest.raises(
        UserError, match=r"`optimizer.generator_schedule.total_steps` was 2 and is 4"
    ):
        run_training(tmp_path / "run", "resume=true", "max_iterations=4")


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "malicious", "foreign"])
def test_a_damaged_checkpoint_is_not_resumed(run_training: Train, tmp_path: Path, damage: str):
    run_training(tmp_path / "run", *FOR_LONGER, "max_iterations=2")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "garbage":
        path.write_bytes(b"no checkpoint")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        torch.save({"state_dict": {}}, path)
    else:
        torch.save({"asrgan": Path("/")}, path)  # a class, which could be any class
    with pytest.raises(UserError, match=r"last\.ckpt` is no checkpoint of .* or damaged \(\w+"):
        run_training(tmp_path / "run", "resume=true", *FOR_LONGER)


def test_a_resumed_run_remembers_what_it_began_with(run_training: Train, tmp_path: Path):
    first = run_training(tmp_path / "first", "max_iterations=2")
    weights = f"generator.weights={first}/generator.safetensors"
    run = run_training(tmp_path / "run", "max_iterations=2", FOR_LONGER[1], weights)
    run_training(run, "max_iterations=4", FOR_LONGER[1], "resume=true")
    recipe = read_metadata(run / "generator.safetensors")["recipe"]
    assert recipe["iteration"] == 4
    assert recipe["config"]["generator"]["weights"] == f"{first}/generator.safetensors"


def test_a_run_is_not_shortened(run_training: Train, tmp_path: Path):
    run = run_training(tmp_path / "run", "max_iterations=4", FOR_LONGER[1])
    with pytest.raises(UserError, match=r"`max_iterations` \(=2\) must be at least 4, which"):
        run_training(run, "max_iterations=2", FOR_LONGER[1], "resume=true")


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer.discriminator_steps=2", "trainer.log_every=2"),
        ("optimizer.accumulate=2", "trainer.log_every=3"),
        ("optimizer.accumulate=2", "optimizer.discriminator_steps=2", "trainer.log_every=4"),
    ],
)
def test_each_row_has_the_gradients_norms(
    overrides: Sequence[str], run_training: Train, tmp_path: Path
):
    run = run_training(tmp_path / "run", "experiment=srgan_x4", "max_iterations=12", *overrides)
    rows = [row for row in rows_of(run) if "train/loss_g/total" in row]
    assert len(rows) >= 3
    for network in ("generator", "discriminator"):
        assert all(float(row[f"train/gradient_norm/{network}"]) > 0 for row in rows)


def test_training_works_without_loggers_but_the_table(run_training: Train, tmp_path: Path):
    assert rows_of(run_training(tmp_path / "run", "logger=[]", "max_iterations=2"))
