import math
from pathlib import Path

import pytest

from asrgan.studies import Row, StudyFolder, last_scores, results, write_results

INF = math.inf


def test_an_exact_picture_is_in_no_mean_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scores = {("A", "photo"): 30.0, ("A", "black"): INF, ("B", "photo"): INF, ("B", "black"): INF}
    rows: list[Row] = [
        {
            "benchmark": "Set5",
            "kind": "variant",
            "model": model,
            "seed": 1,
            "image": image,
            "psnr_y_db": value,
        }
        for (model, image), value in scores.items()
    ]
    monkeypatch.setattr(results, "read_results", lambda _: rows)
    text = write_results(StudyFolder(tmp_path))
    assert text is not None
    (cells,) = (line.split("|") for line in text.splitlines() if "psnr_y_db" in line)
    assert [cell.strip() for cell in cells[3:5]] == ["30.00 (1 of 2)", "inf"]


def test_the_last_scores_are_means_over_benchmarks_without_exact_ones(tmp_path: Path):
    head = "iteration,val/Dark/psnr_y_db,val/Set5/psnr_y_db,val/Dark/content_loss"
    (tmp_path / "metrics.csv").write_text(
        f"{head},val/Set5/content_loss\n2,inf,31,1,2\n4,inf,30,inf,2\n", encoding="utf-8"
    )
    scores = last_scores(tmp_path / "metrics.csv")
    assert scores == {"psnr_y_db": 30.0, "content_loss": INF}
