import csv
import math
from pathlib import Path

import pytest

from asrgan.studies import (
    DIFFERENCE_COLUMNS,
    as_markdown,
    bootstrap_interval,
    compare,
    summarize,
    write_rows,
)

HOW = {"confidence": 0.95, "seed": 1}
VALUES = {
    ("a", "Set5"): {"1": (30.0, None), "2": (31.0, 0.25), "3": (33.5, 0.5)},
    ("b", "Set5"): {"1": (30.5, None), "2": (30.0, 0.25), "3": (35.0, 0.25)},
    ("a", "small"): {"1": (None, 0.75)},
    ("b", "small"): {"1": (None, 0.5)},
}
ROWS = [
    {"model": model, "benchmark": benchmark, "image": image, "psnr_y_db": db, "lpips_alex": lpips}
    for (model, benchmark), images in VALUES.items()
    for image, (db, lpips) in images.items()
]
METRICS = ["psnr_y_db", "lpips_alex"]


def test_a_mean_is_over_the_pictures_that_have_a_value():
    first, second, third, _ = summarize(ROWS, metrics=METRICS, **HOW)
    low, high = bootstrap_interval([30.0, 31.0, 33.5], **HOW) or (0, 0)
    assert first == {
        "benchmark": "Set5",
        "model": "a",
        "images": 3,
        "psnr_y_db": pytest.approx(31.5),
        "psnr_y_db_low": low,
        "psnr_y_db_high": high,
        "psnr_y_db_images": 3,
        "lpips_alex": pytest.approx(0.375),
        "lpips_alex_low": 0.25,
        "lpips_alex_high": 0.5,
        "lpips_alex_images": 2,
    }
    assert 30.0 <= low < 31.5 < high <= 33.5
    assert (second["model"], second["psnr_y_db"]) == ("b", pytest.approx(95.5 / 3))
    assert (third["benchmark"], third["psnr_y_db"], third["psnr_y_db_images"]) == ("small", None, 0)
    assert (third["lpips_alex"], third["lpips_alex_low"]) == (0.75, None)  # one value: no interval


def test_an_exact_picture_is_not_in_the_mean():
    rows = [{**ROWS[0]}, {**ROWS[1], "psnr_y_db": math.inf}]
    (row,) = summarize(rows, metrics=["psnr_y_db"], **HOW)
    assert (row["psnr_y_db"], row["images"], row["psnr_y_db_images"]) == (30.0, 2, 1)


def test_differences_are_paired_by_picture():
    differences = compare(ROWS, metrics=METRICS, baseline="a", **HOW)
    assert [tuple(row) for row in differences] == [DIFFERENCE_COLUMNS] * 3
    first, second, third = differences
    assert (first["benchmark"], first["metric"], first["model"]) == ("Set5", "psnr_y_db", "b")
    assert first["difference"] == pytest.approx((0.5 - 1.0 + 1.5) / 3)
    assert (first["images"], second["images"]) == (3, 2)  # a picture without value has no pair
    assert second["difference"] == pytest.approx(-0.125)
    assert (third["benchmark"], third["difference"], third["low"]) == ("small", -0.25, None)


def test_one_model_has_no_differences():
    rows = [row for row in ROWS if row["model"] == "a"]
    assert compare(rows, metrics=METRICS, baseline="a", **HOW) == []


def test_markdown_has_a_line_for_each_metric_and_the_digits_of_the_field():
    summary = summarize(ROWS, metrics=METRICS, **HOW)
    differences = compare(ROWS, metrics=METRICS, baseline="a", **HOW)
    text = as_markdown(summary, differences, benchmark="Set5", metrics=METRICS)
    low, high = (summary[0][f"psnr_y_db_{end}"] for end in ("low", "high"))
    lines = text.splitlines()
    assert lines[0].split("|")[1:4] == [" metric     ", " better ", f" a{' ' * 32}"]
    assert lines[2].split(" | ")[2] == f"31.50 [{low:.2f}, {high:.2f}]".ljust(32)
    assert lines[3].startswith(
        "| lpips_alex | lower  | 0.3750 [0.2500, 0.5000] (2 of 3) | 0.2500 ["
    )
    assert lines[5] == "Difference from a:"
    assert lines[9].startswith("| psnr_y_db  | higher | +0.33 [-")
    assert lines[10].startswith("| lpips_alex | lower  | -0.1250 [-0.2500, +0.0000]")


def test_markdown_leaves_out_metrics_that_have_no_value():
    summary = summarize(ROWS, metrics=METRICS, **HOW)
    text = as_markdown(summary, [], benchmark="small", metrics=METRICS)
    assert text.splitlines() == [
        "| metric     | better | a      | b      |",
        "| ---------- | ------ | ------ | ------ |",
        "| lpips_alex | lower  | 0.7500 | 0.5000 |",
    ]
    assert as_markdown(summary, [], benchmark="absent", metrics=METRICS) == ""


def test_an_empty_cell_is_empty_in_the_file_and_so_is_a_missing_one(tmp_path: Path):
    write_rows(tmp_path / "a.csv", ROWS[:1], columns=[*ROWS[0], "niqe"])
    assert (tmp_path / "a.csv").read_text("utf-8") == (
        "model,benchmark,image,psnr_y_db,lpips_alex,niqe\na,Set5,1,30.0,,\n"
    )


def test_a_table_without_rows_has_its_head(tmp_path: Path):
    write_rows(tmp_path / "a.csv", [], columns=DIFFERENCE_COLUMNS)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [list(DIFFERENCE_COLUMNS)]
