"""NIQE against stored values of BasicSR 1.4.2 and of the authors' code.

BasicSR's (Apache-2.0) were computed with its sdist: ``basicsr.metrics.niqe.niqe`` with the model
given here, ``calculate_niqe(picture, crop_border=0)`` with its own.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from asrgan.downloads import WeightsUnavailableError, fetch_weights
from asrgan.errors import UserError
from asrgan.imaging import read_image, to_tensor
from asrgan.metrics import PristineModel, niqe, open_pristine_model
from asrgan.metrics.naturalness import _MODEL_SHA256

# Not of any photographs; with it the distance follows from the features alone.
SIMPLE_MODEL = PristineModel(
    torch.zeros(36, dtype=torch.float64), torch.eye(36, dtype=torch.float64) / 10
)


@pytest.fixture(scope="session")
def pristine_file(shared_folder: Path) -> Path:
    return shared_folder / "weights" / "niqe" / "niqe_pris_params.npz"


@pytest.mark.parametrize(
    ("photograph", "expected"),
    [("astronaut", 5.754647), ("chelsea", 7.288908), ("coffee", 6.007954), ("rocket", 6.456289)],
)
def test_features_of_photographs_equal_basicsr_s(photograph: str, expected: float):
    image = to_tensor(getattr(data, photograph)())[None]
    assert niqe(image, model=SIMPLE_MODEL).item() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ("00003.png", 4.03261),
        ("OST_009.png", 5.59208),
        ("foreman.png", 2.40752),
        ("oldphoto6.png", 4.71124),
    ],
)
def test_niqe_of_real_pictures_equals_basicsr_s(
    shared_folder: Path, pristine_file: Path, picture: str, expected: float
):
    image = to_tensor(read_image(shared_folder / "data" / "real" / "RealSRSet25" / picture))[None]
    result = niqe(image, model=open_pristine_model(pristine_file)).item()
    assert result == pytest.approx(expected, abs=2e-3)


def test_niqe_of_the_baboon_equals_matlab_s(shared_folder: Path, pristine_file: Path):
    path = shared_folder / "data" / "benchmarks" / "Set14" / "HR" / "img_001.png"
    result = niqe(to_tensor(read_image(path))[None], model=open_pristine_model(pristine_file))
    # The authors' code in MATLAB R2021a, as BasicSR's documentation reports it.
    assert result.item() == pytest.approx(5.72957338, abs=2e-6)


def test_each_picture_has_its_own_value():
    images = torch.stack([to_tensor(data.chelsea()), to_tensor(data.coffee()[:300, :451])])
    values = niqe(images, model=SIMPLE_MODEL)
    assert values.tolist() == [niqe(image[None], model=SIMPLE_MODEL).item() for image in images]


def test_pictures_are_rounded_to_8_bits_and_what_whole_blocks_leave_over_does_not_count():
    image = to_tensor(data.chelsea())[None]
    expected = niqe(image, model=SIMPLE_MODEL)
    beside = (image + 0.4 / 255)[..., :288, :384]
    assert niqe(beside, model=SIMPLE_MODEL).equal(expected)


@pytest.mark.parametrize("size", [(95, 400), (96, 191), (1, 1)])
def test_less_than_two_blocks_have_no_value(size: tuple[int, int]):
    image = to_tensor(data.chelsea()[: size[0], : size[1]])[None]
    assert niqe(image, model=SIMPLE_MODEL).isnan().all()


def test_a_flat_picture_has_no_value_and_flat_blocks_do_not_spoil_the_others():
    assert niqe(torch.full((1, 3, 200, 300), 0.4), model=SIMPLE_MODEL).isnan().all()
    half = to_tensor(data.chelsea())[None]
    half[..., :150] = 0.4
    assert niqe(half, model=SIMPLE_MODEL).isfinite().all()


def test_the_shared_file_is_the_one_that_is_downloaded(pristine_file: Path):
    assert hashlib.sha256(pristine_file.read_bytes()).hexdigest() == _MODEL_SHA256


def test_the_model_is_read_from_the_cache(
    tmp_path: Path, pristine_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / pristine_file.name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(pristine_file.read_bytes())
    for part, expected in zip(
        open_pristine_model(None), open_pristine_model(pristine_file), strict=True
    ):
        assert part.equal(expected)
    cached.write_bytes(b"")
    with pytest.raises(WeightsUnavailableError, match=r"NIQE cannot read .*delete the file"):
        open_pristine_model(None)


def test_a_download_is_kept_only_if_its_hash_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    source = tmp_path / "model.npz"
    source.write_bytes(b"content")
    sha256 = hashlib.sha256(b"content").hexdigest()
    with pytest.raises(WeightsUnavailableError, match=r"NIQE needs .*invalid hash"):
        fetch_weights(source.as_uri(), purpose="NIQE", sha256=sha256[::-1])
    path = fetch_weights(source.as_uri(), purpose="NIQE", sha256=sha256)
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "arrays",
    [
        None,
        {},
        {"mu_pris_param": np.zeros(36), "cov_pris_param": np.eye(18)},
        {"mu_pris_param": np.array(["text"] * 36), "cov_pris_param": np.eye(36)},
        {"mu_pris_param": np.array([print] * 36), "cov_pris_param": np.eye(36)},
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, arrays: dict[str, np.ndarray] | None):
    path = tmp_path / "model.npz"
    if arrays is not None:
        np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"`niqe` \(=.*model.npz\) is no file of NIQE's") as caught:
        open_pristine_model(path)
    assert "\n" not in str(caught.value)
