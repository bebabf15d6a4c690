import csv
import json
import struct
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from asrgan.engine import (
    IterationLogger,
    MetricsTable,
    TensorBoardLogger,
    WandbLogger,
    offline_runs,
)
from asrgan.imaging import write_image


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_new_name_makes_a_column_and_keeps_the_earlier_rows(tmp_path: Path):
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"a": 1.5}, step=1)
    table.log_metrics({"a": 2.5}, step=2)
    table.log_metrics({"b": 3.5}, step=2)
    assert rows_of(tmp_path / "metrics.csv") == [
        {"iteration": "1", "a": "1.5", "b": ""},
        {"iteration": "2", "a": "2.5", "b": ""},
        {"iteration": "2", "a": "", "b": "3.5"},
    ]


def test_a_resumed_run_drops_later_rows_and_a_line_without_its_end(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    path.write_text("iteration,a\n1,1.0\n2,2.0\n3,3.0\n1", encoding="utf-8")
    table = MetricsTable(path)
    table.resume_from(2, is_validated=True)
    table.log_metrics({"a": 4.0}, step=3)
    assert [(row["iteration"], row["a"]) for row in rows_of(path)] == [
        ("1", "1.0"),
        ("2", "2.0"),
        ("3", "4.0"),
    ]


def test_an_interrupted_validation_leaves_no_row(tmp_path: Path):
    table = MetricsTable(tmp_path / "metrics.csv")
    table.log_metrics({"train/a": 1.0}, step=2)
    table.log_metrics({"val/a": 2.0}, step=2)
    table.resume_from(2, is_validated=True)
    assert [row["val/a"] for row in rows_of(tmp_path / "metrics.csv")] == ["", "2.0"]
    table.resume_from(2, is_validated=False)
    assert [row["train/a"] for row in rows_of(tmp_path / "metrics.csv")] == ["1.0"]


def test_a_fresh_run_resumes_from_nothing(tmp_path: Path):
    MetricsTable(tmp_path / "metrics.csv").resume_from(0, is_validated=True)
    assert not (tmp_path / "metrics.csv").exists()


@pytest.fixture
def new_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., WandbLogger]:
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return lambda *, artifacts=False: WandbLogger(
        directory=tmp_path,
        run_config={"run_id": "abc123", "generator": {"num_blocks": 6}},
        project="asrgan",
        entity=None,
        group="a study",
        name=None,
        tags=["small"],
        labels={"study": "toy", "variant": "A"},
        artifacts=artifacts,
    )


@pytest.mark.parametrize(("status", "exit_code"), [("success", 0), ("failed", 1)])
def test_wandb_works_without_a_key_and_marks_how_the_run_ended(
    new_wandb: Callable[..., WandbLogger], tmp_path: Path, status: str, exit_code: int
):
    (tmp_path / "checkpoints").mkdir()
    for name in ("generator.safetensors", "checkpoints/last.ckpt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    wandb_logger = new_wandb(artifacts=True)
    wandb_logger.log_metrics({"val/Set5/psnr_y_db": 28.4, "val/Set5/niqe": 5.2}, step=10)
    wandb_logger.log_picture("val/samples", np.zeros((4, 4, 3), np.uint8), step=10)
    wandb_logger.finalize(status)
    assert len(offline_runs(tmp_path)) == 1
    (offline,) = tmp_path.glob("wandb/offline-run-*-abc123/*.wandb")
    records: dict[str, list[Any]] = defaultdict(list)
    for record in _records(offline):
        kind = record.WhichOneof("record_type")
        records[kind].append(getattr(record, kind))
    assert [end.exit_code for end in records["exit"]] == [exit_code]
    (run,) = records["run"]
    config = {item.key: item.value_json for item in run.config.update}
    assert (run.run_group, config["study"], config["variant"]) == ("a study", '"toy"', '"A"')
    summaries = {metric.name: metric.summary for metric in records["metric"]}
    assert summaries["val/Set5/psnr_y_db"].max
    assert summaries["val/Set5/niqe"].min
    sent = [sorted(file.path for file in a.manifest.contents) for a in records["artifact"]]
    is_whole = status == "success"
    assert sent == ([["checkpoints/last.ckpt", "generator.safetensors"]] if is_whole else [])
    history = _history(offline)
    assert history[0]["iteration"] == 10
    assert history[0]["val/Set5/psnr_y_db"] == 28.4
    assert history[1]["val/samples/_type"] == "image-file"
    assert wandb.run is None
    (offline.parent / f"{offline.name}.synced").touch()
    assert offline_runs(tmp_path) == []


def test_a_resumed_offline_run_holds_the_whole_history_once(
    tmp_path: Path, new_wandb: Callable[..., WandbLogger]
):
    table = MetricsTable(tmp_path / "metrics.csv")
    picture = np.full((4, 4, 3), 7, np.uint8)

    def log(*loggers: IterationLogger, iteration: int) -> None:
        for logger in loggers:
            logger.log_metrics({"train/loss_g/total": iteration / 2}, step=iteration)
            logger.log_metrics({"val/Set5/psnr_y_db": 20.0 + iteration}, step=iteration)
            logger.log_picture("val/samples", picture, step=iteration)
        write_image(tmp_path / "samples" / f"iteration_{iteration:08d}.png", picture)

    killed = new_wandb()
    for iteration in (1, 2, 3):
        log(table, killed, iteration=iteration)
    killed.finalize("failed")
    resumed = new_wandb()
    for logger in (table, resumed):
        logger.resume_from(2, is_validated=False)
    table.log_metrics({"val/Set5/psnr_y_db": 22.0}, step=2)
    resumed.log_metrics({"val/Set5/psnr_y_db": 22.0}, step=2)
    log(table, resumed, iteration=3)
    resumed.finalize("success")

    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    history = _history(*folder.glob("*.wandb"))
    assert [(row["iteration"], sorted(row)[-1]) for row in history] == [
        (1, "train/loss_g/total"),
        (1, "val/Set5/psnr_y_db"),
        (1, "val/samples/width"),
        (2, "train/loss_g/total"),
        (2, "val/Set5/psnr_y_db"),
        (3, "train/loss_g/total"),
        (3, "val/Set5/psnr_y_db"),
        (3, "val/samples/width"),
    ]
    assert history[3]["train/loss_g/total"] == 1.0
    assert len(list((tmp_path / "wandb").glob("replaced-offline-run-*"))) == 1


def _history(path: Path) -> list[dict[str, Any]]:
    return [
        {"/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in _records(path)
        if record.WhichOneof("record_type") == "history"
    ]


def _records(path: Path) -> list[wandb_internal_pb2.Record]:
    """Reads W&B's file: a head of 7 bytes, then records in LevelDB's log format."""
    wandb.teardown()  # waits for W&B's own process, which writes on when a run has finished
    content, position, records = path.read_bytes(), 7, []
    while position + 7 <= len(content):
        length, kind = struct.unpack_from("<HB", content, position + 4)
        assert kind == 1, "a record that does not span blocks"
        record = wandb_internal_pb2.Record()
        record.ParseFromString(content[position + 7 : position + 7 + length])
        records.append(record)
        position += 7 + length
    return records


def test_tensorboard_shows_values_pictures_and_the_configuration_by_iteration(tmp_path: Path):
    logger = TensorBoardLogger(directory=tmp_path, run_config={"scale": 4})
    logger.log_metrics({"train/loss_g/total": 0.25}, step=7)
    logger.log_picture("val/samples", np.zeros((4, 4, 3), np.uint8), step=7)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalar = events.Scalars("train/loss_g/total")[0]
    assert (scalar.step, scalar.value) == (7, 0.25)
    assert events.Images("val/samples")[0].step == 7
    assert b'"scale": 4' in events.Tensors("config/text_summary")[0].tensor_proto.string_val[0]


def test_tensorboard_shows_each_value_of_a_killed_and_resumed_run_once(tmp_path: Path):
    killed = TensorBoardLogger(directory=tmp_path, run_config={"scale": 4})
    killed.resume_from(0, is_validated=True)
    for iteration in (1, 2):
        killed.log_metrics({"a": 1.0}, step=iteration)
    killed.flush()  # and never closed
    resumed = TensorBoardLogger(directory=tmp_path, run_config={"scale": 4})
    resumed.resume_from(1, is_validated=True)
    for iteration in (2, 3):
        resumed.log_metrics({"a": 2.0}, step=iteration)
    resumed.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("a")] == [(1, 1.0), (2, 2.0), (3, 2.0)]
    assert len(events.Tensors("config/text_summary")) == 1
    killed.finalize("failed")
