import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from asrgan.data import Benchmark
from asrgan.imaging import to_array
from asrgan.metrics import psnr_y
from asrgan.models import SRGANGenerator
from asrgan.studies.report import Run, StudyResults, make_examples
from asrgan.studies.report.examples import choose_images, look, shown_runs

Runs = Callable[[], list[Run]]
MakeResults = Callable[..., StudyResults]
SETTINGS = {"count": 5, "num_explored": 2, "crop_size_px": 32, "device": "cpu"}


def test_the_pictures_are_where_variants_gain_lose_and_differ_most(make_results: MakeResults):
    results = make_results()
    for run in results.runs:
        assert run.scores is not None
        run.scores.values[:, 0] = 20.0
        if run.model == "A-SRGAN":
            run.scores.values[2, 0] = 26.0
            run.scores.values[7, 0] = 12.0
            run.scores.values[9, 0] = 25.0
        if run.model == "pool 8":
            run.scores.values[9, 0] = 11.0
    # Gains of both, on average: +3 of the third, -4 of the eighth, -2 of the tenth.
    assert choose_images(results, count=3) == [results.images[i] for i in (2, 7, 9)]
    assert len(choose_images(results, count=99)) == 12


def test_pictures_are_of_the_seed_that_most_recipes_have(
    full_runs: Runs, make_results: MakeResults
):
    runs = [
        run for run in full_runs() if (run.model, run.seed) not in {("SRGAN", 1), ("A-SRGAN", 1)}
    ]
    runs = [replace(r, scores=None) if (r.model, r.seed) == ("pool 8", 3) else r for r in runs]
    shown = shown_runs(make_results(runs))
    assert {model: run.seed for model, run in shown.items()} == {
        "SRGAN": 2, "A-SRGAN": 2, "pool 8": 2,
    }  # fmt: skip


def test_an_example_holds_the_same_crop_of_everything(
    full_runs: Runs, make_results: MakeResults, benchmarks: dict[str, Benchmark]
):
    results, steps = make_results(full_runs()), []
    examples = make_examples(results, benchmarks, advance=lambda: steps.append(1), **SETTINGS)
    assert [e.image for e in examples] == choose_images(results, count=5)
    assert len(steps) == 5 * 3
    for example in examples:
        top, left, size = example.place
        image = benchmarks[example.image[0]][int(example.image[1].removeprefix("image"))]
        assert (top % 4, left % 4, size) == (0, 0, 32)
        np.testing.assert_array_equal(
            example.hr_crop, to_array(image.hr_image)[top : top + 32, left : left + 32]
        )
        np.testing.assert_array_equal(
            example.lr_crop,
            to_array(image.lr_image)[top // 4 : top // 4 + 8, left // 4 : left // 4 + 8],
        )
        assert list(example.crops) == ["bicubic", "SRGAN", "A-SRGAN", "pool 8"]
        bicubic = torch.from_numpy(example.crops["bicubic"]).permute(2, 0, 1)[None] / 255
        truth = torch.from_numpy(example.hr_crop).permute(2, 0, 1)[None] / 255
        assert example.crop_scores["bicubic"]["psnr_y_db"] == pytest.approx(
            psnr_y(bicubic, truth, border=0).item(), abs=1e-3
        )
    assert [set(example.attention) for example in examples] == [
        {"A-SRGAN", "pool 8"}, {"A-SRGAN", "pool 8"}, set(), set(), set(),
    ]  # fmt: skip


def test_pictures_of_benchmarks_that_are_gone_are_left_out(
    full_runs: Runs, make_results: MakeResults, benchmarks: dict[str, Benchmark]
):
    there = {"Five": benchmarks["Five"]}
    examples = make_examples(make_results(full_runs()), there, advance=lambda: None, **SETTINGS)
    assert {example.image[0] for example in examples} == {"Five"}


def test_pictures_that_are_gone_or_damaged_are_told_and_left_out(
    full_runs: Runs,
    make_results: MakeResults,
    benchmark_folders: dict[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    folder = Path(shutil.copytree(benchmark_folders["Seven"], tmp_path / "Seven"))
    results = make_results(full_runs())
    gone, damaged, *others = [n for b, n in choose_images(results, count=12) if b == "Seven"]
    (folder / f"{gone}.png").unlink()
    there = {"Seven": Benchmark(folder, scale=4)}
    (folder / f"{damaged}.png").write_bytes(b"no picture")
    settings = SETTINGS | {"count": 12}
    examples = make_examples(results, there, advance=lambda: None, **settings)
    assert [example.image[1] for example in examples] == others
    assert f"Without pictures: Seven has no picture {gone} any more." in caplog.text
    assert f"{damaged}.png" in caplog.text


def test_the_maps_are_those_of_the_layer(make_generator: Callable[..., SRGANGenerator]):
    """Of a picture so small that nothing is pooled, each map is a row of ``attention_map``."""
    torch.manual_seed(1)
    generator = make_generator(attention=[{"after": "trunk"}])
    lr_image = torch.rand(3, 24, 20)
    (layer,) = look(generator, lr_image)
    assert (layer.place, layer.gamma) == ("trunk", 0.5)
    assert layer.maps.shape == (12, 10, 12, 10)
    fsa = generator.attention_layers["trunk"]
    with torch.inference_mode():
        head = generator.head(lr_image[None])
        features = head + generator.trunk(generator.blocks[0](head))
        expected = fsa.attention_map(features)[0]
        added = fsa(features) - features
    row = expected[3 * 10 + 4]
    levels = (row / row.max()).sqrt().mul(255).view(12, 10).numpy()
    np.testing.assert_allclose(layer.maps[3, 4], levels, atol=0.51)
    entropy = -(row * row.log()).sum().item()
    assert layer.breadth[3, 4] == pytest.approx(np.exp(entropy) / 120, rel=1e-4)
    assert layer.share == pytest.approx((added.norm() / features.norm()).item(), rel=1e-4)


def test_a_large_picture_has_small_maps(make_generator: Callable[..., SRGANGenerator]):
    generator = make_generator(
        attention=[{"after": "trunk"}, {"after": "upsample1", "pool_size": 4}]
    )
    layers = look(generator, torch.rand(3, 64, 96))
    assert [layer.place for layer in layers] == ["trunk", "upsample1"]
    for layer in layers:
        assert layer.maps.shape == (9, 14, 19, 28)
        assert layer.maps.max(axis=(2, 3)).min() == 255
