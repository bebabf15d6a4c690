from pathlib import Path

import numpy as np
import pytest
import torch

from asrgan.data import BenchmarkImage, OriginalImage
from asrgan.imaging import bicubic_upscale, read_image, to_array, to_tensor
from asrgan.studies import Gallery, Picture

SCALE = 4


def lr_picture(seed: int, size_px: int = 16) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    return to_tensor(pixels)


def changed(lr_image: torch.Tensor, *, by: int, top: int = 0, left: int = 0) -> Picture:
    """Bicubic, but for a square of 16 px that differs by some grey levels."""
    picture = to_array(bicubic_upscale(lr_image[None], scale=SCALE)[0])
    square = picture[top : top + 16, left : left + 16]
    square[:] = np.where(square < 128, square + by, square - by)
    return picture


def gallery(metric: str | None = "psnr_y_db", num_crops: int = 1) -> Gallery:
    return Gallery(metric=metric, judged=["ours"], crop_size_px=16, num_crops=num_crops)


def add(into: Gallery, name: str, *, value: float | None, change: int) -> None:
    lr_image = lr_picture(len(name))
    into.add(
        OriginalImage(name, lr_image),
        {"ours": changed(lr_image, by=change)},
        scores={"ours": {"psnr_y_db": value, "consistency_db": None}},
    )


def test_the_crop_is_where_bicubic_and_the_models_differ_most():
    lr_image = lr_picture(0)
    hr_image = to_tensor(changed(lr_image, by=0))
    ours, theirs = (changed(lr_image, by=by, top=32, left=24) for by in (20, 50))
    one = gallery()
    one.add(
        BenchmarkImage("picture", lr_image, hr_image),
        {"ours": ours, "theirs": theirs},
        scores={"ours": {"psnr_y_db": 30.0}, "theirs": {"psnr_y_db": 31.125}},
    )
    (example,) = one.examples
    assert example.place == (32, 24, 16)
    assert example.change == pytest.approx(50)
    assert list(example.crops) == ["LR", "bicubic", "ours", "theirs", "HR"]
    assert (example.crops["theirs"] == theirs[32:48, 24:40]).all()
    assert (example.crops["LR"] == to_array(lr_image)[8:12, 6:10].repeat(4, 0).repeat(4, 1)).all()
    assert example.captions == {"ours": "30.00", "theirs": "31.12"}
    assert example.value == 30.0


def test_worst_best_and_most_changed_are_chosen_by_rule():
    one = gallery()
    for name, value, change in [
        ("a", 30.0, 10),
        ("bb", 20.0, 20),
        ("ccc", 40.0, 30),
        ("dddd", None, 90),
        ("eeeee", 35.0, 60),
    ]:
        add(one, name, value=value, change=change)
    chosen = {
        kind: [e.name for e in examples] for kind, examples in one._choose(one.examples, 1).items()
    }
    assert chosen == {"worst": ["bb"], "best": ["ccc"], "most changed": ["dddd"]}


def test_lower_is_better_where_the_metric_says_so():
    one = Gallery(metric="colour_shift", judged=["ours"], crop_size_px=16, num_crops=1)
    lr_image = lr_picture(0)
    for name, value in {"a": 3.0, "b": 1.0}.items():
        scores = {"ours": {"colour_shift": value}}
        one.add(OriginalImage(name, lr_image), {"ours": changed(lr_image, by=9)}, scores=scores)
    chosen = one._choose(one.examples, 1)
    assert (chosen["worst"][0].name, chosen["best"][0].name) == ("a", "b")


def test_what_is_kept_does_not_grow_with_the_benchmark():
    one = gallery()
    for number in range(1, 40):
        add(one, "x" * number, value=float(number % 7), change=number)
    assert len(one.examples) <= 6


def test_shares_of_several_processes_make_the_same_gallery():
    together, shares = gallery(), [gallery(), gallery()]
    for number in range(1, 12):
        for one in (together, shares[number % 2]):
            add(one, "x" * number, value=float(number * 5 % 11), change=number * 3 % 13)
    shares[0].extend(shares[1].examples)
    both = [
        {kind: [e.name for e in es] for kind, es in one._choose(one.examples, 1).items()}
        for one in (together, shares[0])
    ]
    assert both[0] == both[1]


@pytest.mark.parametrize("metric", ["psnr_y_db", None])
def test_the_picture_has_a_row_for_each_example(tmp_path: Path, metric: str | None):
    heights = []
    for count in (1, 3):
        one = gallery(metric, num_crops=5)
        for name in ["a", "bb $x$ ü 漢", "c" * 60][:count]:
            add(one, name, value=float(len(name)), change=5)
        path = tmp_path / f"{count}.png"
        one.draw(path, title="Set $5$")
        heights.append(read_image(path).shape[0])
    assert heights[1] - heights[0] == pytest.approx(2 * 2.15 * 150, abs=4)


def test_pictures_smaller_than_a_crop_are_shown_whole(tmp_path: Path):
    one = gallery()
    lr_image = lr_picture(0, size_px=1)
    one.add(
        OriginalImage("dot", lr_image),
        {"ours": to_array(bicubic_upscale(lr_image[None], scale=4)[0])},
        scores={"ours": {"psnr_y_db": None}},
    )
    assert one.examples[0].crops["ours"].shape == (4, 4, 3)
    one.draw(tmp_path / "gallery.png", title="dots")
    assert (tmp_path / "gallery.png").exists()


def test_no_examples_make_no_picture(tmp_path: Path):
    gallery().draw(tmp_path / "gallery.png", title="nothing")
    assert list(tmp_path.iterdir()) == []
