import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from asrgan.data import Benchmark, Originals
from asrgan.errors import UnreadableImageError, UserError
from asrgan.imaging import bicubic_downscale, to_tensor, write_image


def noise(height: int, width: int) -> NDArray[np.uint8]:
    generator = np.random.default_rng((height, width))
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_pair(folder: Path, name: str, height: int = 5, width: int = 6) -> None:
    write_image(folder / "HR" / name, noise(4 * height, 4 * width))
    write_image(folder / "LRx4" / name, noise(height, width))


def test_pairs_are_read_from_their_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "Pairs"
    for name in ["b.png", "a.png", "sub/c.png"]:
        write_pair(folder, name)
    benchmark = Benchmark(folder, scale=4)
    assert benchmark.name == "Pairs"
    assert [image.name for image in map(benchmark.__getitem__, range(3))] == ["a", "b", "sub/c"]
    image = benchmark[0]
    assert torch.equal(image.hr_image, to_tensor(noise(20, 24)))
    assert torch.equal(image.lr_image, to_tensor(noise(5, 6)))
    assert [image.name for image in benchmark] == ["a", "b", "sub/c"]


def test_lr_is_made_of_hr_whose_right_and_bottom_are_shaved(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(23, 30))
    name, lr_image, hr_image = Benchmark(tmp_path, scale=4)[0]
    assert name == "a"
    assert torch.equal(hr_image, to_tensor(noise(23, 30)[:20, :28]))
    assert torch.equal(lr_image, bicubic_downscale(hr_image[None], scale=4)[0])


def test_lr_of_another_scale_is_not_used(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png")
    image = Benchmark(tmp_path, scale=2)[0]
    assert image.lr_image.shape == (3, 10, 12)
    assert torch.equal(image.lr_image, bicubic_downscale(image.hr_image[None], scale=2)[0])


def test_the_crop_is_central_and_the_same_place_in_lr_and_hr(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png", height=7, width=3)
    _, lr_image, hr_image = Benchmark(tmp_path, scale=4, crop_size_px=16)[0]
    assert torch.equal(lr_image, to_tensor(noise(7, 3)[1:5]))  # 3 px are less than the crop's 4
    assert torch.equal(hr_image, to_tensor(noise(28, 12)[4:20]))


def test_the_limit_takes_the_first_images(tmp_path: Path) -> None:
    for name in ["c.png", "a.png", "b.png"]:
        write_pair(tmp_path, name)
    assert [image.name for image in Benchmark(tmp_path, scale=4, limit=2)] == ["a", "b"]


def test_a_published_benchmark_is_read(shared_folder: Path) -> None:
    benchmark = Benchmark(shared_folder / "data" / "benchmarks" / "Set14", scale=4)
    assert (benchmark.name, len(benchmark)) == ("Set14", 14)
    for _, lr_image, hr_image in benchmark:
        assert hr_image.shape == (3, 4 * lr_image.shape[1], 4 * lr_image.shape[2])


def test_names_that_do_not_match_are_listed(tmp_path: Path) -> None:
    for name in ["a.png", "b.png", "c.png", "d.png", "e.png"]:
        write_pair(tmp_path, name)
        if name > "a.png":
            (tmp_path / "LRx4" / name).unlink()
    with pytest.raises(UserError, match=r"equal names; .*LRx4 lacks b, c, d and 1 more\.$"):
        Benchmark(tmp_path, scale=4)
    for name in ["b.png", "c.png", "d.png", "e.png"]:
        (tmp_path / "HR" / name).unlink()
    write_image(tmp_path / "LRx4" / "f.png", noise(4, 4))
    with pytest.raises(UserError, match=r"equal names; .*HR lacks f\.$"):
        Benchmark(tmp_path, scale=4)


def test_lr_without_hr_is_not_taken_for_hr(tmp_path: Path) -> None:
    write_image(tmp_path / "LRx4" / "a.png", noise(8, 8))
    with pytest.raises(UserError, match=r"LRx4 has no partner; put the HR pictures in .*HR\.$"):
        Benchmark(tmp_path, scale=4)


def test_files_that_differ_in_the_suffix_alone_keep_it(tmp_path: Path) -> None:
    for name in ["a.png", "a.bmp", "b.png"]:
        write_image(tmp_path / name, noise(8, 8))
    assert Benchmark(tmp_path, scale=4).names == ["a.bmp", "a.png", "b"]
    assert Originals(tmp_path, scale=4).names == ["a.bmp", "a.png", "b"]


def test_sizes_that_do_not_match_are_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png", height=5, width=6)
    write_image(tmp_path / "HR" / "a.png", noise(21, 24))
    with pytest.raises(
        UserError,
        match=r"HR/a\.png \(24x21\) must be 4 times .*LRx4/a\.png \(6x5\); crop HR to 24x20\.$",
    ):
        Benchmark(tmp_path, scale=4)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no image files in .*; give a folder of pictures"):
        Benchmark(tmp_path, scale=4)
    with pytest.raises(UserError, match=r"absent does not exist"):
        Benchmark(tmp_path / "absent", scale=4)


def test_a_picture_smaller_than_the_scale_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "tiny.png", noise(3, 8))
    with pytest.raises(UserError, match=r"tiny\.png \(8x3\) leaves 0 px .* at least 4 are needed"):
        Benchmark(tmp_path, scale=4)


@pytest.mark.parametrize("crop_size_px", [None, 16])
def test_a_picture_that_cannot_be_scored_is_refused_at_the_start(
    tmp_path: Path, crop_size_px: int | None
) -> None:
    # 19 are enough, and 16 of them are left where LR is made of HR.
    write_image(tmp_path / "small.png", noise(19 if crop_size_px is None else 64, 64))
    with pytest.raises(UserError, match=r"leaves 16 px to score, at least 19 are needed"):
        Benchmark(tmp_path, scale=4, crop_size_px=crop_size_px, minimum_size_px=19)


def test_a_limit_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`limit` \(=-1\) must be at least 1"):
        Benchmark(tmp_path, scale=4, limit=-1)


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    write_image(tmp_path / "a1b2" / "a.png", noise(8, 8))
    (tmp_path / "Set5").symlink_to(tmp_path / "a1b2")
    assert Benchmark(tmp_path / "Set5", scale=4).name == "Set5"


def test_pictures_that_cannot_be_scored_are_left_out_with_their_reasons(tmp_path: Path) -> None:
    for name, size in {"a": 24, "b": 18, "c": 40}.items():
        write_image(tmp_path / f"{name}.png", noise(size, size))
    (tmp_path / "d.png").write_text("once upon a time")
    benchmark = Benchmark(tmp_path, scale=4, minimum_size_px=19, maximum_px=1000)
    assert benchmark.names == ["a"]
    assert list(benchmark.left_out) == ["b", "c", "d"]
    for name, reason in {
        "b": r"b\.png \(18x18\) leaves 16 px to score, at least 19 are needed",
        "c": r"c\.png needs a result of 40x40 px, 0.0016 megapixels, and at most 0.001",
        "d": r"d\.png cannot be read: not a known image format",
    }.items():
        assert re.search(reason, benchmark.left_out[name])


def test_damage_behind_the_head_is_found_when_the_picture_is_read(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, noise(64, 64))
    content = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: len(content) // 2])
    for benchmark in (Benchmark(tmp_path, scale=4), Originals(tmp_path, scale=4)):
        assert benchmark.names == ["a", "b"]
        with pytest.raises(UnreadableImageError, match=r"b\.png cannot be read"):
            benchmark[1]


def test_originals_are_pictures_of_any_size_and_kind(tmp_path: Path) -> None:
    write_image(tmp_path / "dot.png", noise(1, 1))
    write_image(tmp_path / "line.png", noise(1, 300))
    Image.fromarray(noise(9, 7)[..., 0]).save(tmp_path / "sub grey ü.png")
    Image.fromarray(np.dstack([noise(5, 6), noise(5, 6)[..., :1]])).save(tmp_path / "alpha.png")
    originals = Originals(tmp_path, scale=4)
    assert originals.names == ["alpha", "dot", "line", "sub grey ü"]
    sizes = [image.lr_image.shape for image in originals]
    assert sizes == [(3, 5, 6), (3, 1, 1), (3, 1, 300), (3, 9, 7)]
    assert torch.equal(originals[0].lr_image, to_tensor(noise(5, 6)))


def test_originals_whose_enlargement_is_too_large_are_left_out(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(10, 10))
    write_image(tmp_path / "b.png", noise(10, 11))
    originals = Originals(tmp_path, scale=4, maximum_px=1600)
    assert originals.names == ["a"]
    assert "b.png needs a result of 44x40 px" in originals.left_out["b"]
    with pytest.raises(UserError, match=r"a\.png needs .* Nor can the other 1 be used\.$"):
        Originals(tmp_path, scale=4, maximum_px=15)


def test_originals_of_a_benchmark_are_its_lr_pictures(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png", height=5, width=6)
    (image,) = Originals(tmp_path, scale=4)
    assert torch.equal(image.lr_image, to_tensor(noise(5, 6)))


def test_a_name_that_is_no_text_can_be_written_into_a_table(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(8, 8))
    (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    (name,) = Originals(tmp_path, scale=4).names
    assert name == "caf\\udce9"


@pytest.mark.parametrize(("crop_size_px", "nearest"), [(30, 28), (0, 4), (3, 4)])
def test_a_crop_that_the_scale_does_not_divide_is_refused(
    crop_size_px: int, nearest: int, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=rf"\(={crop_size_px}\) must be .* multiple.*try {nearest}\."
    ):
        Benchmark(tmp_path, scale=4, crop_size_px=crop_size_px)
