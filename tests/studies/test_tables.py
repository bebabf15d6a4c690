from pathlib import Path

import pytest

from asrgan.studies import as_markdown, summarize, write_rows

ROWS = [
    {"model": "a", "benchmark": "Set5", "image": "1", "psnr_y_db": 30.0, "lpips_alex": None},
    {"model": "a", "benchmark": "Set5", "image": "2", "psnr_y_db": 31.0, "lpips_alex": 0.25},
    {"model": "b", "benchmark": "Set5", "image": "1", "psnr_y_db": 28.125, "lpips_alex": 0.5},
]


def test_a_mean_with_an_empty_cell_is_empty():
    first, second = summarize(ROWS, metrics=["psnr_y_db", "lpips_alex"])
    assert first == {
        "benchmark": "Set5",
        "model": "a",
        "images": 2,
        "psnr_y_db": pytest.approx(30.5),
        "lpips_alex": None,
    }
    assert second["lpips_alex"] == 0.5


def test_markdown_has_aligned_columns_and_the_digits_of_the_field():
    table = as_markdown(summarize(ROWS, metrics=["psnr_y_db", "lpips_alex"]))
    assert table.splitlines() == [
        "| benchmark | model | images | psnr_y_db | lpips_alex |",
        "| --------- | ----- | ------ | --------- | ---------- |",
        "| Set5      | a     | 2      | 30.50     |            |",
        "| Set5      | b     | 1      | 28.12     | 0.5000     |",
    ]


def test_an_empty_cell_is_empty_in_the_file(tmp_path: Path):
    write_rows(tmp_path / "a.csv", ROWS[:1])
    assert (tmp_path / "a.csv").read_text("utf-8") == (
        "model,benchmark,image,psnr_y_db,lpips_alex\na,Set5,1,30.0,\n"
    )
