from pathlib import Path

import numpy as np

from asrgan.imaging import read_image
from asrgan.studies import plot_comparison, plot_curves
from asrgan.studies.figures import _read_column, highest_crops


def test_curves_read_the_cells_that_have_a_value(tmp_path: Path):
    table = tmp_path / "metrics.csv"
    table.write_text("iteration,a,b\n1,0.5,\n2,,7\n3,0.25,\n", encoding="utf-8")
    assert _read_column(table, "a") == ([1, 3], [0.5, 0.25])
    assert _read_column(table, "missing") == ([], [])
    plot_curves({"run": table}, columns=["a", "b", "missing"], path=tmp_path / "curves.png")
    assert read_image(tmp_path / "curves.png").std() > 0


def test_the_crops_are_those_that_hold_the_most_and_do_not_overlap():
    values = np.zeros((40, 60), np.float32)
    values[24:32, 40:48] = 9
    values[0:8, 0:8] = 5
    assert highest_crops(values, size=8, count=2) == [(24, 40), (0, 0)]
    assert highest_crops(values[:4, :4], size=8, count=2) == [(0, 0)]


def test_a_comparison_has_a_row_for_each_crop(tmp_path: Path):
    generator = np.random.default_rng(0)
    columns = {
        name: generator.integers(0, 256, (32, 48, 3), dtype=np.uint8) for name in ("bicubic", "HR")
    }
    for count in (1, 2):
        plot_comparison(
            {"picture": columns},
            captions={("picture", "bicubic"): "28.00 dB"},
            baseline="bicubic",
            crop_size_px=8,
            num_crops=count,
            path=tmp_path / f"{count}.png",
        )
    one, two = (read_image(tmp_path / f"{count}.png") for count in (1, 2))
    assert two.shape[0] == 2 * one.shape[0]
    assert two.shape[1] == one.shape[1]
