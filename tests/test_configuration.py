"""Every experiment composes, builds and takes a step; nothing in `conf` is written twice."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf

from asrgan.configuration import (
    as_override,
    compose,
    compose_seeds,
    configuration_folder,
    flatten,
    launch,
    run_verb,
)
from asrgan.errors import InterruptedRunError, PreemptedRunError, UserError
from asrgan.models import UNetDiscriminator, VGGDiscriminator

EXPERIMENTS = sorted(path.stem for path in (configuration_folder() / "experiment").glob("*.yaml"))
RECIPES = sorted(path.stem for path in (configuration_folder() / "recipe").glob("*.yaml"))

pytestmark = pytest.mark.filterwarnings("ignore:.*GPU available but not used")


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of torchvision's VGG-19, with seeded weights."""
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = torchvision.models.vgg19(weights=None).features
    torch.save({f"features.{name}": value for name, value in features.state_dict().items()}, path)
    return path


def test_the_shipped_experiments_are_these():
    assert EXPERIMENTS == ["asrgan_x4", "srgan_finetune_x4", "srgan_x4", "srresnet_x4"]
    assert [f"{experiment}_small" for experiment in EXPERIMENTS] == RECIPES


@pytest.mark.parametrize("size", ["full", "small"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_takes_a_step(
    run_training: Callable[..., Path], tmp_path: Path, vgg19: Path, experiment: str, size: str
):
    settings = compose("train", [f"experiment={experiment}", f"size={size}"])
    network = settings["generator"]
    overrides = [
        f"experiment={experiment}",
        f"size={size}",
        f"generator.num_features={network['num_features']}",
        f"generator.num_blocks={network['num_blocks']}",
        "max_iterations=1",
        "checkpoint_every=1",
        "data.validation=null",
    ]
    if settings["loss"]["perceptual"]:
        overrides.append(f"loss.perceptual.network.weights={vgg19}")
    if network["weights"] == "???":
        overrides.append("generator.weights=null")
    run = run_training(tmp_path, *overrides)
    assert (run / "generator.safetensors").exists()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_head_of_an_experiment_gives_source_command_expectation_and_small_form(experiment: str):
    text = (configuration_folder() / "experiment" / f"{experiment}.yaml").read_text("utf-8")
    head = [line for line in text.splitlines() if line.startswith("#")]
    for label in ("Source:", "Command:", "Cost:", "Expected:", "Small:"):
        assert any(label in line for line in head), label


def own_values(path: Path) -> dict[str, object]:
    content = OmegaConf.load(path)
    content.pop("defaults", None)
    return flatten(content)


def composed(*overrides: str) -> dict[str, object]:
    return flatten(OmegaConf.create(compose("train", overrides)))


@pytest.mark.parametrize("experiment", [e for e in EXPERIMENTS if e != "srresnet_x4"])
def test_an_experiment_holds_only_what_differs(experiment: str):
    path = configuration_folder() / "experiment" / f"{experiment}.yaml"
    groups = OmegaConf.to_container(OmegaConf.load(path)).get("defaults", [])
    overrides = [
        f"{key.removeprefix('override /')}={value}"
        for entry in groups
        if isinstance(entry, dict)
        for key, value in entry.items()
    ]
    parent = next((g for g in groups if isinstance(g, str) and g != "_self_"), "srresnet_x4")
    if parent == "srresnet_x4":
        overrides = [o for o in overrides if not o.startswith("experiment=")]
    base = composed(f"experiment={parent}", *overrides)
    repeated = [k for k, v in own_values(path).items() if k in base and base[k] == v]
    assert repeated == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_small_recipe_holds_only_what_differs(recipe: str):
    experiment = recipe.removesuffix("_small")
    path = configuration_folder() / "recipe" / f"{recipe}.yaml"
    full = composed(f"experiment={experiment}")
    small = own_values(configuration_folder() / "size" / "small.yaml")
    base = full | small
    repeated = [k for k, v in own_values(path).items() if k in base and base[k] == v]
    assert repeated == []


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        1,
        -2.5,
        1e-5,
        "word",
        "null",
        "True",
        "1",
        "",
        "it's, a [b]: {c}\\",
        "ä b",
        "/a/b=c",
        [],
        ["a", 1, None],
        [{"after": "block8", "pool_size": 4}, {"after": "trunk"}],
        {"a": [0.5, "x y"]},
    ],
)
def test_a_plain_value_comes_back_from_its_override(value: object):
    config = compose("evaluate", [as_override("models", value), "benchmarks=[x]"])
    assert config["models"] == value
    assert type(config["models"]) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sync_batchnorm=no", r"`trainer.sync_batchnorm` \(=no\) must be true or false"),
        ("log_every=true", r"`trainer.log_every` \(=True\) must be a number"),
        ("log_every=[5]", r"`trainer.log_every` \(=\[5\]\) must be a number"),
    ],
)
def test_a_value_keeps_the_type_of_the_default(override: str, message: str):
    with pytest.raises(UserError, match=message):
        compose("train", ["data.train=x", f"trainer.{override}"])


@pytest.mark.parametrize(
    "override",
    ["loss.pixel.weight=0.5", "data.batch_size=null", "seed=${scale}", "~trainer.sync_batchnorm"],
)
def test_a_number_for_another_is_no_mistake(override: str):
    compose("train", ["data.train=x", "size=small", override])


@pytest.mark.parametrize("size", ["full", "small"])
@pytest.mark.parametrize("experiment", ["srgan_x4", "asrgan_x4"])
@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        (["discriminator=vgg"], VGGDiscriminator),
        (["discriminator=unet"], UNetDiscriminator),
        (["discriminator=none", "loss/adversarial=none"], type(None)),
    ],
    ids=["vgg", "unet", "none"],
)
def test_a_choice_stands_whatever_an_experiment_sets_in_it(
    experiment: str, size: str, choices: list[str], expected: type
):
    words = [f"experiment={experiment}", f"size={size}", "data.train=x", *choices]
    config = compose("train", words)
    discriminator = instantiate(config["discriminator"], _convert_="all")
    assert isinstance(discriminator, expected)
    assert discriminator is None or not discriminator.attention_layers
    assert (config["loss"]["adversarial"] is None) == (expected is type(None))


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_pool_size_is_that_of_the_experiments_attention(network: str):
    words = ["experiment=asrgan_x4", "data.train=x", f"{network}.pool_size=8"]
    arguments = compose("train", words)[network]
    arguments.pop("weights", None)
    built = instantiate(arguments, _convert_="all")
    (layer,) = built.attention_layers.values()
    assert layer.pool_size == 8


@pytest.mark.parametrize("group", ["discriminator", "loss/perceptual", "logger"])
def test_null_is_no_choice(group: str):
    with pytest.raises(UserError, match=rf"`{group}` \(=null\) must be one of "):
        compose("train", ["data.train=x", f"{group}=null"])


def test_a_setting_of_what_is_left_out_is_refused():
    words = ["experiment=srgan_x4", "discriminator=none", "discriminator.num_features=8"]
    with pytest.raises(UserError, match=r"`discriminator` \(=none\) has no settings"):
        compose("train", ["data.train=x", "size=small", *words])


def test_an_override_may_remove_a_key():
    assert as_override("~optimizer.generator.betas", None) == "~optimizer.generator.betas"


def test_seeds_are_composed_as_one_by_one():
    overrides = ["experiment=asrgan_x4", "size=small", "degradation=light", "data.train=x"]
    overrides.append("output_dir=out")
    weights = "generator.weights='x/seed_${seed}/g.pth'"
    together = compose_seeds([*overrides, weights], [1, 7])
    for seed, config in zip([1, 7], together, strict=True):
        assert config == compose("train", [*overrides, weights, f"seed={seed}"])
        assert config["degradation"]["seed"] == seed
        assert config["generator"]["weights"] == f"x/seed_{seed}/g.pth"


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_verb_launches_jobs_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
):
    monkeypatch.setattr("sys.argv", ["asrgan"])
    saved = str(tmp_path / "job.yaml")

    def task(config: object, output_dir: Path) -> None:
        job = ["models=[a]", "benchmarks=[b]", f"output_dir={output_dir}", "scale=3"]
        launch(partial(OmegaConf.save, f=saved), [job])

    handlers = logging.getLogger().handlers[:]
    words = ["models=[x]", "benchmarks=[x]", f"output_dir={tmp_path}/out"]
    run_verb("evaluate", [*words, f"hydra/launcher={launcher}"], task)
    logging.getLogger().handlers[:] = handlers
    job = OmegaConf.load(saved)
    assert (job.models, job.scale, job.output_dir) == (["a"], 3, f"{tmp_path}/out")


@pytest.mark.parametrize("error", [InterruptedRunError, PreemptedRunError])
def test_a_sweep_that_was_asked_to_stop_starts_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[InterruptedRunError]
):
    monkeypatch.setattr("sys.argv", ["asrgan"])
    begun: list[int] = []

    def task(config: Any, output_dir: Path) -> None:
        begun.append(config.scale)
        if config.scale == 3:
            raise error("Stopped at iteration 5.")

    handlers = logging.getLogger().handlers[:]
    words = ["-m", "models=[x]", "benchmarks=[x]", "scale=2,3,4", f"output_dir={tmp_path}/out"]
    with pytest.raises(error, match=r"^Stopped at iteration 5\.$"):
        run_verb("evaluate", words, task)
    logging.getLogger().handlers[:] = handlers
    assert begun == [2, 3]


def test_a_launcher_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["asrgan"])

    def task(config: object, output_dir: Path) -> None:
        launch(partial(OmegaConf.save, f="/nowhere/x"), [["models=[a]", "benchmarks=[b]"]])

    handlers = logging.getLogger().handlers[:]
    with pytest.raises(FileNotFoundError, match="/nowhere/x"):
        run_verb("evaluate", ["models=[x]", "benchmarks=[x]", f"output_dir={tmp_path}/out"], task)
    logging.getLogger().handlers[:] = handlers
