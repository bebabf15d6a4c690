from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from asrgan.data import Benchmark
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


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(8, 8))
    write_image(tmp_path / "a.bmp", noise(8, 8))
    with pytest.raises(UserError, match=r"a\.bmp and .*a\.png have the same name; rename one"):
        Benchmark(tmp_path, scale=4)


def test_sizes_that_do_not_match_are_named(tmp_path: Path) -> None:
    write_pair(tmp_path, "a.png", height=5, width=6)
    write_image(tmp_path / "HR" / "a.png", noise(21, 24))
    with pytest.raises(
        UserError,
        match=r"HR/a\.png \(24x21\) must be 4 times .*LRx4/a\.png \(6x5\); crop HR to 24x20\.$",
    ):
        Benchmark(tmp_path, scale=4)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^no image files in .*; give a folder of HR pictures"):
        Benchmark(tmp_path, scale=4)
    with pytest.raises(UserError, match=r"absent does not exist"):
        Benchmark(tmp_path / "absent", scale=4)


def test_a_picture_smaller_than_the_scale_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "tiny.png", noise(3, 8))
    with pytest.raises(UserError, match=r"tiny\.png \(8x3\) leaves 3 px .* at least 4 are needed"):
        Benchmark(tmp_path, scale=4)


@pytest.mark.parametrize("crop_size_px", [None, 16])
def test_a_picture_that_cannot_be_scored_is_refused_at_the_start(
    tmp_path: Path, crop_size_px: int | None
) -> None:
    write_image(tmp_path / "small.png", noise(18 if crop_size_px is None else 64, 64))
    with pytest.raises(UserError, match=r"leaves 1[68] px to score, at least 19 are needed"):
        Benchmark(tmp_path, scale=4, crop_size_px=crop_size_px, minimum_size_px=19)


def test_a_limit_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`limit` \(=-1\) must be at least 1"):
        Benchmark(tmp_path, scale=4, limit=-1)


def test_a_link_keeps_its_own_name(tmp_path: Path) -> None:
    write_image(tmp_path / "a1b2" / "a.png", noise(8, 8))
    (tmp_path / "Set5").symlink_to(tmp_path / "a1b2")
    assert Benchmark(tmp_path / "Set5", scale=4).name == "Set5"


def test_a_picture_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", noise(8, 8))
    (tmp_path / "b.png").write_text("once upon a time")
    with pytest.raises(UnreadableImageError, match=r"b\.png cannot be read"):
        Benchmark(tmp_path, scale=4)


@pytest.mark.parametrize(("crop_size_px", "nearest"), [(30, 28), (0, 4), (3, 4)])
def test_a_crop_that_the_scale_does_not_divide_is_refused(
    crop_size_px: int, nearest: int, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=rf"\(={crop_size_px}\) must be .* multiple.*try {nearest}\."
    ):
        Benchmark(tmp_path, scale=4, crop_size_px=crop_size_px)
