"""Each generator that comes with asrgan is what its card says, and so is one that is published."""

import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from skimage import data
from torch import Tensor
from torchvision.models import squeezenet1_1

from asrgan import evaluate, weights
from asrgan.configuration import compose
from asrgan.data import Benchmark
from asrgan.errors import UserError
from asrgan.files import file_digest
from asrgan.imaging import to_tensor
from asrgan.inference import Upscaler
from asrgan.metrics import psnr_y
from asrgan.models import load_generator, load_weights, read_metadata
from asrgan.weights import find_weights, published

SCRIPTS = Path(__file__).resolve().parents[1] / "experiments" / "published_weights"

each_published = pytest.mark.parametrize("name", published())


def test_what_enlarges_without_weights_is_published():
    assert compose("upscale", ["input=x"])["weights"] in published()


def card_of(name: str) -> str:
    return find_weights(name).with_suffix(".md").read_text("utf-8")


def told_psnr_y_db(name: str, benchmark: str) -> float:
    """The mean that a card tells of its generator."""
    section = card_of(name).split(f"\n### {benchmark}\n")[1].split("\n#")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    head, *rows = ([cell.strip() for cell in line] for line in lines)
    (row,) = (row for row in rows if row[0] == "psnr_y_db")
    return float(row[head.index(name)].split()[0])


def check_hash_and_size(name: str) -> None:
    file = find_weights(name)
    assert file_digest(file) == published()[name]
    assert file.stat().st_size < 7e6
    assert load_generator(name).scale == 4


def check_psnr_y(name: str, folder: Path) -> None:
    upscaler = Upscaler.from_file(name, device="cpu", precision="float32")
    values = [
        psnr_y(upscaler.upscale(image.lr_image)[None], image.hr_image[None], border=4)
        for image in Benchmark(folder, scale=4)
    ]
    told = told_psnr_y_db(name, folder.name)
    assert torch.cat(values).mean().item() == pytest.approx(told, abs=0.01)


def check_crop(name: str) -> None:
    text = " ".join(card_of(name).split())
    (means, deviations) = re.findall(r"(?:means|deviations) ([-\d.]+), ([-\d.]+), ([-\d.]+)", text)
    (size, top, left) = map(
        int, re.findall(r"the (\d+)x\d+ px at row (\d+), column (\d+)", text)[0]
    )
    assert size == 40
    crop = to_tensor(data.astronaut()[top : top + size, left : left + size])
    with torch.inference_mode():
        sr_image = load_generator(name)(crop[None])[0].clamp(0, 1)
    levels = (255 * sr_image).round()
    assert levels.mean(dim=(1, 2)).tolist() == pytest.approx([*map(float, means)], abs=0.01)
    assert levels.std(dim=(1, 2)).tolist() == pytest.approx([*map(float, deviations)], abs=0.01)


@each_published
def test_a_published_file_is_the_one_in_the_table(name: str):
    check_hash_and_size(name)
    assert not re.search(r"/(root|home|tmp|work|mnt)\b", json.dumps(read_metadata(name)))


@each_published
def test_a_published_generator_reaches_on_set5_what_its_card_says(name: str, shared_folder: Path):
    check_psnr_y(name, shared_folder / "data" / "benchmarks" / "Set5")


@each_published
def test_a_published_generator_makes_the_values_of_its_card_from_a_crop(name: str):
    check_crop(name)


@each_published
def test_a_training_starts_from_a_published_generator_as_the_readme_says(name: str):
    readme = (SCRIPTS.parents[1] / "README.md").read_text("utf-8")
    (command,) = re.findall(r"asrgan train (.+) generator.weights=srresnet_x4", readme)
    config = compose("train", command.split())["generator"]
    generator = instantiate({key: value for key, value in config.items() if key != "weights"})
    load_weights(generator, name)
    image = torch.rand(1, 3, 12, 12)
    with torch.inference_mode():
        started, published_ = generator.eval()(image), load_generator(name)(image)
    # Spectral norm divides anew, by singular values that training's power iteration had estimated.
    torch.testing.assert_close(started, published_, rtol=1e-3, atol=2 / 255)


@each_published
def test_the_pictures_of_a_card_are_there(name: str):
    links = re.findall(r"!\[.+?\]\((.+?)\)", card_of(name))
    assert len(links) == 2
    assert all((weights.FOLDER / link).is_file() for link in links)


# A generator that is published here


@pytest.fixture
def scripts(
    publish: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ModuleType]:
    """The modules of the experiment, which write into empty folders."""
    monkeypatch.syspath_prepend(SCRIPTS)
    module = importlib.import_module("publish")
    for name in ("DOCS", "FAILURES"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(module, name, tmp_path / name)
    return importlib.import_module


@pytest.fixture
def run(run_training: Callable[..., Path], tmp_path: Path) -> Path:
    return run_training(tmp_path / "runs" / "toy_x4", "max_iterations=6")


def evaluated(output_dir: Path, photographs: Path, *overrides: str) -> Path:
    settings = [f"benchmarks=[{photographs}/Val]", "metrics=[psnr_y_db]", "gallery=null"]
    output_dir.mkdir()
    config = compose("evaluate", [*settings, "device=cpu", *overrides])
    evaluate.run(OmegaConf.create(config), output_dir)
    return output_dir


def test_a_run_becomes_a_published_generator_with_its_card(
    scripts: Callable[[str], ModuleType], run: Path, photographs: Path, tmp_path: Path
):
    publish = scripts("publish")
    publish.write_weights("toy_x4", run)
    table = (weights.FOLDER / weights.TABLE).read_text("utf-8")
    publish.write_weights("toy_x4", run)
    assert (weights.FOLDER / weights.TABLE).read_text("utf-8") == table
    assert str(tmp_path) not in json.dumps(read_metadata("toy_x4"))
    assert read_metadata("toy_x4")["recipe"]["config"]["data"]["train"] == "train"

    evaluation = evaluated(
        tmp_path / "e", photographs, "models=[bicubic,toy_x4]", "save_images=true"
    )
    scores = "benchmark,model,images,distance,low,high\nVal,bicubic,2,1,0.5,2\nVal,toy_x4,2,3,2,4\n"
    (evaluation / "squeezenet.csv").write_text(scores, encoding="utf-8")
    precision = evaluated(
        tmp_path / "p", photographs, f"models=[toy_x4,toy_x4_float32:{run}/generator.safetensors]"
    )
    (tmp_path / "FAILURES" / "toy_x4.md").write_text("- All of it.", encoding="utf-8")
    publish.write_card(
        "toy_x4",
        run,
        machine="one small computer",
        evaluation=evaluation,
        precision=precision,
        pictures=photographs / "Val",
    )
    check_hash_and_size("toy_x4")
    check_psnr_y("toy_x4", photographs / "Val")
    check_crop("toy_x4")
    card = card_of("toy_x4")
    assert str(tmp_path) not in card
    for text in (
        "6 iterations of 2 crops of 32 px",
        "one small computer",
        "| Val       | 1.00 [0.50, 2.00] | 3.00 [2.00, 4.00] |",
        "- All of it.",
        "| best | ",
    ):
        assert text in card
    names = ("toy_x4_curves.png", "toy_x4_pictures.jpg")
    assert sorted(path.name for path in (tmp_path / "DOCS").iterdir()) == list(names)


def test_the_table_stays_sorted_and_a_name_is_a_word(
    scripts: Callable[[str], ModuleType], run: Path
):
    publish = scripts("publish")
    for name in ("toy_x4", "another_x4"):
        publish.write_weights(name, run)
    assert list(published()) == ["another_x4", "toy_x4"]
    with pytest.raises(UserError, match=r"`name` \(=a/b\) must be a word"):
        publish.write_weights("a/b", run)


def test_a_file_that_is_too_large_leaves_the_package_as_it_is(
    scripts: Callable[[str], ModuleType], run: Path, monkeypatch: pytest.MonkeyPatch
):
    publish = scripts("publish")
    monkeypatch.setattr(publish, "LARGEST_MB", 1e-3)
    with pytest.raises(UserError, match=r"is larger than 0\.001 MB"):
        publish.write_weights("toy_x4", run)
    assert [path.name for path in weights.FOLDER.iterdir()] == [weights.TABLE]


def test_half_precision_that_costs_too_much_is_refused(
    scripts: Callable[[str], ModuleType], tmp_path: Path
):
    publish = scripts("publish")
    head = "benchmark,model,psnr_y_db\n"
    for loss, message in {
        "30.03": r"half precision costs toy 0\.030 dB, and may cost 0\.02",
        "": "has no models toy and toy_float32",
    }.items():
        rows = "Set5,toy,30.0\n" + (f"Set5,toy_float32,{loss}\n" if loss else "")
        (tmp_path / "summary.csv").write_text(head + rows, encoding="utf-8")
        with pytest.raises(UserError, match=message):
            publish._loss_of_half_precision("toy", tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/home/me/photos", "photos"),
        ("../data/photos", "photos"),
        ("~/.cache/asrgan", "asrgan"),
        ("data.validation=['/a/b c/Set5','/a/Set14']", "data.validation=['Set5','Set14']"),
        ("data.validation=[/a/Set5, /a/Set14]", "data.validation=[Set5, Set14]"),
        ("search={train: /a/photos}", "search={train: photos}"),
        ("data.train=choice(/a/photos,/b/large)", "data.train=choice(photos,large)"),
        ("hr:/a/large", "hr:large"),
        ("runs/a/generator.safetensors", "runs/a/generator.safetensors"),
        ("s3://bucket/photos", "s3://bucket/photos"),
        (["weights=/x/y.pth", {"key": "/z"}, 3, None], ["weights=y.pth", {"key": "z"}, 3, None]),
    ],
)
def test_a_recipe_loses_the_folders_of_its_machine(
    scripts: Callable[[str], ModuleType], given: object, expected: object
):
    recipe = {"value": given, "platform": "Linux"}
    assert scripts("publish")._without_machine(recipe) == {"value": expected}


def test_squeezenet_is_read_as_keras_writes_it(
    scripts: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    layers = squeezenet1_1(weights=None).features

    def keras_weights(_: Path) -> Iterator[tuple[Tensor, Tensor]]:
        for layer in layers.modules():
            if isinstance(layer, torch.nn.Conv2d):
                yield layer.weight.detach().permute(2, 3, 1, 0), layer.bias.detach()

    module = scripts("squeezenet")
    monkeypatch.setattr(module, "_keras_weights", keras_weights)
    image = torch.rand(1, 3, 64, 48)
    with torch.inference_mode():
        last = module.SqueezeNet(Path())(image, ["12"])["12"]
        last = torch.nn.functional.normalize(last, dim=1)
        bgr = 255 * image[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1)
        expected = torch.nn.functional.normalize(layers(bgr), dim=1)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
