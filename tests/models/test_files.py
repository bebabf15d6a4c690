import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from asrgan.errors import UserError
from asrgan.models.files import (
    DESCRIPTION_TENSOR,
    as_metadata,
    describe_tensors,
    load_generator,
    load_weights,
    read_metadata,
    save_generator,
)
from asrgan.models.generator import SRGANGenerator
from small_networks import SMALL

ASRGAN = {"spectral_norm": True, "attention": [{"after": "trunk"}]}


def build(*, seed: int = 0, **changes: Any) -> SRGANGenerator:
    """A generator whose every tensor differs from its start, in eval mode."""
    torch.manual_seed(seed)
    generator = SRGANGenerator(**(SMALL | changes))
    with torch.no_grad():
        for layer in generator.attention_layers.values():
            layer.gamma.fill_(0.5)
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.01, 4)
                module.weight.uniform_(0.2, 2)
                module.bias.normal_()
            if isinstance(module, nn.PReLU):
                module.weight.uniform_(0.05, 0.5)
    return generator.eval()


def published(num_blocks: int = 2, *, batch_norm_at_trunk: bool, counters: bool) -> dict[str, Any]:
    """Random weights in the layout of leftthomas/SRGAN, 8 features, x4."""
    torch.manual_seed(3)
    state: dict[str, Tensor] = {}

    def conv(name: str, num_in: int, num_out: int, size: int) -> None:
        state[f"{name}.weight"] = torch.randn(num_out, num_in, size, size) / (num_in * size)
        state[f"{name}.bias"] = torch.randn(num_out) / 4

    def norm(name: str) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(8) + 0.5
        if counters:
            state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("block1.0", 3, 8, 9)
    state["block1.1.weight"] = torch.tensor([0.3])
    for block in range(2, num_blocks + 2):
        conv(f"block{block}.conv1", 8, 8, 3)
        norm(f"block{block}.bn1")
        state[f"block{block}.prelu.weight"] = torch.tensor([0.2])
        conv(f"block{block}.conv2", 8, 8, 3)
        norm(f"block{block}.bn2")
    trunk, tail = f"block{num_blocks + 2}", f"block{num_blocks + 3}"
    conv(f"{trunk}.0", 8, 8, 3)
    if batch_norm_at_trunk:
        norm(f"{trunk}.1")
    else:
        state[f"{trunk}.1.weight"] = torch.tensor([0.1])
    for step in range(2):
        conv(f"{tail}.{step}.conv", 8, 32, 3)
        state[f"{tail}.{step}.prelu.weight"] = torch.tensor([0.4])
    conv(f"{tail}.2", 8, 3, 9)
    return state


def run_published(state: dict[str, Tensor], image: Tensor) -> Tensor:
    """The published network written out by its description."""
    num_blocks = sum(name.endswith("bn1.weight") for name in state)

    def conv(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{part}"].view(-1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def prelu(name: str, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, state[f"{name}.weight"] * x)

    head = x = prelu("block1.1", conv("block1.0", image))
    for block in range(2, num_blocks + 2):
        y = prelu(f"block{block}.prelu", norm(f"block{block}.bn1", conv(f"block{block}.conv1", x)))
        x = x + norm(f"block{block}.bn2", conv(f"block{block}.conv2", y))
    trunk, tail = f"block{num_blocks + 2}", f"block{num_blocks + 3}"
    end = norm if f"{trunk}.1.running_mean" in state else prelu
    x = head + end(f"{trunk}.1", conv(f"{trunk}.0", x))
    for step in range(2):
        x = prelu(f"{tail}.{step}.prelu", F.pixel_shuffle(conv(f"{tail}.{step}.conv", x), 2))
    return (torch.tanh(conv(f"{tail}.2", x)) + 1) / 2


def write_checkpoint(path: Path, generator: SRGANGenerator) -> None:
    """As the training writes it: the averaged generator beside other networks."""
    state = {f"averaged_generator.{k}": v for k, v in generator.state_dict().items()}
    description = {"generator": "SRGANGenerator", "architecture": generator.architecture}
    torch.save(
        {
            "asrgan_generator": description,
            "state_dict": state | {"generator.head.0.bias": torch.zeros(8)},
            "epoch": 3,
        },
        path,
    )


@torch.no_grad()
def difference(first: nn.Module, second: nn.Module) -> float:
    """Largest relative difference of the two networks' pictures."""
    image = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(5))
    expected = second(image)
    return ((first(image) - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("changes", [{}, ASRGAN, {"norm": "none", "scale": 2, "output": "tanh"}])
def test_a_saved_generator_comes_back_with_the_same_pictures(
    tmp_path: Path, changes: dict[str, Any]
):
    generator = build(**changes)
    save_generator(tmp_path / "g.safetensors", generator, recipe={})
    loaded = load_generator(tmp_path / "g.safetensors")
    assert difference(loaded, generator) < 1e-6
    assert loaded.scale == generator.scale
    assert not loaded.training
    assert not loaded.architecture["spectral_norm"]


@pytest.mark.parametrize("changes", [{}, ASRGAN])
def test_half_precision_halves_the_kernels_and_keeps_the_vectors(
    tmp_path: Path, changes: dict[str, Any]
):
    generator = build(**changes, num_features=32)
    paths = [tmp_path / name for name in ("whole.safetensors", "half.safetensors")]
    for path, precision in zip(paths, (torch.float32, torch.float16), strict=True):
        save_generator(path, generator, recipe={}, precision=precision)
    whole, half = map(load_file, paths)
    for name, tensor in half.items():
        if tensor.ndim < 2:
            assert torch.equal(tensor, whole[name]), name
        else:
            assert torch.equal(tensor, whole[name].half()), name
    assert paths[1].stat().st_size < 0.55 * paths[0].stat().st_size
    loaded = load_generator(paths[1])
    assert {t.dtype for t in loaded.state_dict().values()} <= {torch.float32, torch.int64}
    assert 0 < difference(loaded, generator) < 2e-3  # of 11 bits


def test_a_kernel_that_half_precision_cannot_hold_is_refused(tmp_path: Path):
    generator = build()
    generator.tail.weight.data[0, 0, 0, 0] = 7e4
    with pytest.raises(
        UserError, match=r"`tail\.weight` holds 7e\+04, too large for torch\.float16"
    ):
        save_generator(tmp_path / "g.safetensors", generator, recipe={}, precision=torch.float16)
    assert not list(tmp_path.iterdir())


def test_saving_leaves_the_generator_and_the_folder_as_they_were(tmp_path: Path):
    generator = build(**ASRGAN).train()
    before = copy.deepcopy(generator.state_dict())
    save_generator(tmp_path / "g.safetensors", generator, recipe={})
    after = generator.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert generator.training
    assert [path.name for path in tmp_path.iterdir()] == ["g.safetensors"]


def test_the_file_holds_plain_weights_and_says_what_it_is(tmp_path: Path):
    generator = build(**ASRGAN)
    save_generator(tmp_path / "g.safetensors", generator, recipe={"seed": 3, "losses": ["l1"]})
    metadata = read_metadata(tmp_path / "g.safetensors")
    assert metadata == {
        "format": 1,
        "generator": "SRGANGenerator",
        "architecture": generator.architecture,
        "scale": 4,
        "recipe": {"seed": 3, "losses": ["l1"]},
    }
    tensors = load_file(tmp_path / "g.safetensors")
    plain = build(attention=ASRGAN["attention"])
    assert tensors.keys() - {DESCRIPTION_TENSOR} == plain.state_dict().keys()
    # Programs that see the tensors alone learn the same; the weights are plain already.
    assert describe_tensors(tensors) == {
        "generator": "SRGANGenerator",
        "architecture": plain.architecture,
    }


def test_a_file_of_weights_alone_is_read_as_well(tmp_path: Path):
    generator = build()
    save_file(generator.state_dict(), tmp_path / "g.safetensors", as_metadata(generator, recipe={}))
    assert difference(load_generator(tmp_path / "g.safetensors"), generator) == 0


@pytest.mark.parametrize("changes", [{}, ASRGAN])
def test_a_checkpoint_gives_its_averaged_generator(tmp_path: Path, changes: dict[str, Any]):
    generator = build(**changes)
    write_checkpoint(tmp_path / "last.ckpt", generator)
    loaded = load_generator(tmp_path / "last.ckpt")
    assert difference(loaded, generator) < 1e-6
    assert not any("parametrizations" in name for name in loaded.state_dict())
    save_generator(tmp_path / "again.safetensors", loaded, recipe={})
    assert difference(load_generator(tmp_path / "again.safetensors"), generator) < 1e-6


@pytest.mark.parametrize("batch_norm_at_trunk", [False, True])
@pytest.mark.parametrize("counters", [False, True])
def test_published_weights_give_the_published_function(
    tmp_path: Path, batch_norm_at_trunk: bool, counters: bool
):
    state = published(batch_norm_at_trunk=batch_norm_at_trunk, counters=counters)
    torch.save(state, tmp_path / "published.pth")
    generator = load_generator(tmp_path / "published.pth")
    assert (generator.scale, generator.architecture["num_blocks"]) == (4, 2)
    image = torch.rand(2, 3, 6, 7)
    torch.testing.assert_close(generator(image), run_published(state, image))
    save_generator(tmp_path / "ours.safetensors", generator, recipe={})
    assert difference(load_generator(tmp_path / "ours.safetensors"), generator) == 0


def test_the_two_published_forms_have_79_and_93_tensors():
    assert len(published(5, batch_norm_at_trunk=False, counters=False)) == 79
    assert len(published(5, batch_norm_at_trunk=True, counters=True)) == 93


def test_the_published_file_is_read_as_it_is_described(shared_folder: Path):
    path = shared_folder / "weights" / "srgan_leftthomas" / "netG_epoch_4_100.pth"
    generator = load_generator(path)
    assert generator.scale == 4
    assert generator.architecture["num_blocks"] == 5
    assert generator.architecture["num_features"] == 64
    assert generator.architecture["trunk_end"] == "prelu"

    state = torch.load(path, map_location="cpu", weights_only=True)
    assert len(state) == 79
    loaded = generator.state_dict()
    assert torch.equal(loaded["blocks.3.norm2.running_var"], state["block5.bn2.running_var"])
    assert torch.equal(loaded["trunk.0.weight"], state["block7.0.weight"])
    assert torch.equal(loaded["tail.weight"], state["block8.2.weight"])
    image = torch.rand(1, 3, 16, 20)
    sr_image = generator(image)
    torch.testing.assert_close(sr_image, run_published(state, image))
    assert sr_image.isfinite().all()
    assert sr_image.min() >= 0
    assert sr_image.max() <= 1


def test_reading_a_generator_draws_no_random_numbers(tmp_path: Path):
    write_checkpoint(tmp_path / "last.ckpt", build(**ASRGAN))
    before = torch.get_rng_state()
    load_generator(tmp_path / "last.ckpt")
    assert torch.equal(torch.get_rng_state(), before)


def test_training_starts_from_equal_weights(tmp_path: Path):
    source = build(attention=[{"after": "trunk"}])
    save_generator(tmp_path / "g.safetensors", source, recipe={})
    generator = build(seed=1, attention=[{"after": "trunk"}])
    assert load_weights(generator, tmp_path / "g.safetensors") == []
    assert difference(generator, source) < 1e-6


def test_added_attention_stays_at_its_start_and_changes_nothing(tmp_path: Path):
    source = build()
    save_generator(tmp_path / "g.safetensors", source, recipe={})
    generator = SRGANGenerator(
        **(SMALL | {"attention": [{"after": "block1"}, {"after": "trunk"}]})
    ).eval()
    kept = load_weights(generator, tmp_path / "g.safetensors")
    assert kept == ["attention.block1", "attention.trunk"]
    assert difference(generator, source) < 1e-6


@pytest.mark.parametrize("scale", [2, 8])
def test_plain_weights_keep_their_function_under_spectral_norm(tmp_path: Path, scale: int):
    source = build(scale=scale)
    save_generator(tmp_path / "g.safetensors", source, recipe={})
    arguments = SMALL | ASRGAN | {"scale": scale}
    generator = SRGANGenerator(**arguments).eval()
    assert load_weights(generator, tmp_path / "g.safetensors") == ["attention.trunk"]
    assert difference(generator, source) < 1e-5
    for module in generator.modules():
        if isinstance(module, nn.Conv2d) and module is not generator.tail:
            value = torch.linalg.svdvals(module.weight.detach().flatten(1))[0].item()
            assert value == pytest.approx(1, abs=1e-5)


def test_sums_do_not_depend_on_the_length_of_a_recipe(tmp_path: Path):
    for length in range(0, 64, 8):  # each moves the tensors within the file
        save_generator(tmp_path / "g.safetensors", build(), recipe={"output_dir": "x" * length})
        generator = load_generator(tmp_path / "g.safetensors")
        # Where torch puts tensors itself; elsewhere vector units add in another order.
        assert {weight.data_ptr() % 64 for weight in generator.parameters()} == {0}


def test_weights_trained_under_spectral_norm_keep_their_function(tmp_path: Path):
    arguments = ASRGAN | {"norm": "none", "spectral_norm_output": True}
    source = build(**arguments)
    save_generator(tmp_path / "g.safetensors", source, recipe={})
    generator = build(seed=1, **arguments)
    assert load_weights(generator, tmp_path / "g.safetensors") == []
    assert difference(generator, source) < 1e-5


@pytest.mark.parametrize(
    ("in_file", "here"),
    [
        ({"norm": "none"}, {"norm": "none"}),
        ({"trunk_end": "prelu"}, {"trunk_end": "prelu"}),
        ({"attention": ASRGAN["attention"]}, {"attention": ASRGAN["attention"]}),
        ({}, {"spectral_norm_output": True}),
    ],
)
def test_a_function_that_spectral_norm_cannot_keep_is_reported(
    tmp_path: Path, in_file: dict[str, Any], here: dict[str, Any]
):
    save_generator(tmp_path / "g.safetensors", build(**in_file), recipe={})
    notes = load_weights(build(spectral_norm=True, **here), tmp_path / "g.safetensors")
    assert len(notes) == 1
    assert notes[0].startswith("spectral norm changes the function: `head.0` and ")


def test_another_architecture_is_refused_with_both_values(tmp_path: Path):
    save_generator(
        tmp_path / "g.safetensors", build(scale=2, attention=[{"after": "block2"}]), recipe={}
    )
    with pytest.raises(UserError) as caught:
        load_weights(build(num_blocks=3), tmp_path / "g.safetensors")
    message = str(caught.value)
    assert "`scale` is 4 but 2 in the file" in message
    assert "`generator.num_blocks` is 3 but 2 in the file" in message
    assert "`generator.attention` is [] but [{'after': 'block2'" in message
    assert "num_features" not in message
    assert "\n" not in message


def test_another_pool_size_at_the_same_place_is_refused(tmp_path: Path):
    save_generator(tmp_path / "g.safetensors", build(attention=[{"after": "trunk"}]), recipe={})
    with pytest.raises(UserError, match=r"`generator\.attention` is .*'pool_size': 4"):
        load_weights(
            build(attention=[{"after": "trunk", "pool_size": 4}]), tmp_path / "g.safetensors"
        )


class Malicious:
    """A pickle which makes a file when it is read by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_malicious_checkpoint_is_refused_and_not_run(tmp_path: Path):
    torch.save({"state_dict": Malicious(tmp_path / "harm")}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=r"bad\.ckpt` is damaged, or holds more than tensors"):
        load_generator(tmp_path / "bad.ckpt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pth"])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, part: float):
    path = tmp_path / f"g{suffix}"
    if suffix == ".safetensors":
        save_generator(path, build(), recipe={})
    elif suffix == ".ckpt":
        write_checkpoint(path, build())
    else:
        state = published(batch_norm_at_trunk=False, counters=False)
        torch.save(state, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(UserError, match=rf"`{path}` is (truncated|damaged)") as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_garbage_is_refused(tmp_path: Path, suffix: str):
    for seed in range(20):
        path = tmp_path / f"{seed}{suffix}"
        path.write_bytes(random.Random(seed).randbytes(500))
        with pytest.raises(UserError, match=rf"{seed}{suffix}` is (truncated|damaged)"):
            load_generator(path)


def test_files_of_something_else_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=rf"of a run, give {tmp_path}/generator\.safetensors\.$"):
        load_generator(tmp_path)
    with pytest.raises(UserError, match=r"none\.pth` does not exist; check the path"):
        load_generator(tmp_path / "none.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds no state dict but a list"):
        load_generator(tmp_path / "list.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="holds no generator that asrgan knows"):
        load_generator(tmp_path / "other.pth")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="was not written by asrgan"):
        load_generator(tmp_path / "other.safetensors")


def test_published_weights_with_a_foreign_tensor_are_refused(tmp_path: Path):
    state = published(batch_norm_at_trunk=False, counters=False)
    torch.save(state | {"block9.extra": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(UserError, match=r"`block9\.extra` is no part of them"):
        load_generator(tmp_path / "more.pth")
    del state["block4.0.bias"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(UserError, match=r"does not fit .*trunk\.0\.bias"):
        load_generator(tmp_path / "less.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, r"has format 2, this asrgan reads 1; update asrgan"),
        ({"generator": "Other"}, r"unknown generator `Other`; known: SRGANGenerator"),
        ({"architecture": SMALL | {"colour": 1}}, r"does not fit .* 'colour'"),
        ({"architecture": SMALL | {"num_features": 16}}, r"does not fit .* size mismatch"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
):
    generator = build()
    metadata = {"format": 1, "generator": "SRGANGenerator", "architecture": SMALL, "recipe": {}}
    save_file(
        generator.state_dict(),
        tmp_path / "g.safetensors",
        metadata={"asrgan": json.dumps(metadata | changes)},
    )
    with pytest.raises(UserError, match=message) as caught:
        load_generator(tmp_path / "g.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        {"asrgan_generator": {"generator": "SRGANGenerator", "architecture": SMALL}},
        {"asrgan_generator": 1, "state_dict": {}},
        {"block1.0.weight": 1},
        {1: torch.zeros(1), "block1.0.weight": torch.zeros(8, 3, 9, 9)},
    ],
    ids=["no state", "no description", "no tensor", "a number for a name"],
)
def test_well_formed_files_with_odd_content_are_refused_in_one_line(
    tmp_path: Path, content: dict[Any, Any]
):
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(UserError, match=r"odd\.ckpt`") as caught:
        load_generator(tmp_path / "odd.ckpt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"format": 1}'])
def test_odd_metadata_are_refused_in_one_line(tmp_path: Path, text: str):
    path = tmp_path / "odd.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"asrgan": text})
    with pytest.raises(UserError, match=r"odd\.safetensors`") as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)
