"""Generators that come with asrgan: how they are found, and that they are what their cards say."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from asrgan.errors import UserError
from asrgan.inference import Upscaler
from asrgan.models import load_generator, read_metadata
from asrgan.weights import find_weights, published

Publish = Callable[[str, Path], Path]


@pytest.fixture
def toy(publish: Publish, tiny_weights: Callable[[int], Path]) -> Path:
    return publish("toy", tiny_weights(2))


def test_a_published_name_is_a_word_whatever_the_working_directory_holds(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").write_text("something else", encoding="utf-8")
    assert find_weights("toy") == toy
    for path in ("./toy", f"{tmp_path}/toy", Path("toy"), "toy.safetensors", "other"):
        assert find_weights(path) == Path(path)


def test_a_published_generator_is_read_by_its_name(toy: Path):
    image = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(load_generator("toy")(image), load_generator(toy)(image))
    assert read_metadata("toy") == read_metadata(toy)
    assert Upscaler.from_file("toy", device="cpu").scale == 2


def test_an_unknown_name_lists_the_published_ones(toy: Path, publish: Publish):
    publish("other", toy)
    with pytest.raises(UserError) as caught:
        load_generator("tot")
    assert str(caught.value) == (
        "The weights file `tot` does not exist; check the path, or take a published generator:"
        " toy, other."
    )
    for path in ("runs/tot", "tot.pth", "./toy"):
        with pytest.raises(UserError, match=r"does not exist; check the path\.$"):
            load_generator(path)


def test_where_nothing_is_published_an_unknown_name_says_so(publish: Publish):
    assert published() == {}
    with pytest.raises(UserError, match=r"check the path \(none comes with asrgan\)\.$"):
        load_generator("srgan_x4")
