from pathlib import Path

import numpy as np
import pytest

from asrgan.studies.report.curves import NUM_POINTS, bands, read_columns


def test_a_growing_file_is_read_up_to_its_last_whole_line(tmp_path: Path):
    table = tmp_path / "metrics.csv"
    table.write_text("iteration,a,b,c\n10,1.5,,nan\n20,,2,\n30,2.5,3,\n40,3.", encoding="utf-8")
    columns = read_columns(table)
    assert list(columns) == ["a", "b"]
    assert [part.tolist() for part in columns["a"]] == [[10, 30], [1.5, 2.5]]
    assert [part.tolist() for part in columns["b"]] == [[20, 30], [2, 3]]


@pytest.mark.parametrize("text", ["", "iteration,a\n", "iteration,a"])
def test_a_file_without_rows_has_no_columns(tmp_path: Path, text: str):
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    assert read_columns(tmp_path / "metrics.csv") == {}


def column(iterations: list[float], values: list[float]) -> dict[str, tuple]:
    return {"a": (np.array(iterations), np.array(values))}


def test_a_band_reaches_from_the_lowest_to_the_highest_seed():
    runs = [("m", column([1, 2], [1.0, 2.0])), ("m", column([1, 2, 3], [3.0, 5.0, 7.0]))]
    band = bands(runs)["a"]["m"]
    assert band.iterations == [1, 2, 3]
    assert (band.mean, band.low, band.high) == ([2.0, 3.5, 7.0], [1.0, 2.0, 7.0], [3.0, 5.0, 7.0])


def test_long_lines_are_averaged_in_equal_stretches():
    iterations = np.arange(1, 12001, dtype=float)
    runs = [
        ("m", column(iterations, iterations)),
        ("short", column(iterations[:600], iterations[:600])),
    ]
    found = bands(runs)["a"]
    assert len(found["m"].iterations) == NUM_POINTS
    np.testing.assert_allclose(found["m"].mean, found["m"].iterations, atol=1)
    assert len(found["short"].iterations) == 600 * NUM_POINTS // 12000
