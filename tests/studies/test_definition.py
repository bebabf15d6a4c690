import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrgan.errors import UserError
from asrgan.evaluate import load_models
from asrgan.studies.definition import Study, model_name


def definition(**changes: object) -> dict[str, Any]:
    return {
        "name": "toy",
        "question": "Does it work?",
        "base": {"experiment": "srgan_x4"},
        "size": "small",
        "sizes": {"small": {"max_iterations": 500}, "full": {}},
        "variants": {"A": None, "B": {"generator.pool_size": 8}},
        "grid": {},
        "begun_size": None,
        "baseline": "A",
        "seeds": [1, 2],
        "stages": {"S": {"base": {"experiment": "srresnet_x4"}, "seed": 1}},
        "start": "S",
        "references": ["bicubic"],
        "metric": "psnr_y_db",
        "difference": 0.1,
        "benchmarks": ["Set5", "lr:real"],
        "data": {"train": "photos", "validation": "Set5"},
        "evaluate": {},
        "overrides": [],
        "variant_overrides": [],
        **changes,
    }


def test_the_parts_are_laid_together():
    study = Study.from_config(definition())
    assert study.base == {"size": "small", "experiment": "srgan_x4", "max_iterations": 500}
    assert study.variants == {"A": {}, "B": {"generator.pool_size": 8}}
    assert study.stages["S"].overrides == {"size": "small", "experiment": "srresnet_x4"}
    assert study.stages["S"].seed == 1


def test_folders_mean_the_same_from_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    study = Study.from_config(definition(references=["bicubic", "ours:g.pth", "a/h.pth"]))
    assert study.train == f"{tmp_path}/photos"
    assert study.validation == [f"{tmp_path}/Set5"]
    assert study.benchmarks == [f"{tmp_path}/Set5", f"lr:{tmp_path}/real"]
    assert study.references == ["bicubic", f"ours:{tmp_path}/g.pth", f"{tmp_path}/a/h.pth"]
    assert [model_name(text) for text in study.references] == ["bicubic", "ours", "h"]


def test_references_are_named_as_evaluate_names_them(
    tiny_weights: Callable[[int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/a/generator", "runs/b.c/generator", "runs/b.c/checkpoints/best", "other"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_weights(4), f"{name}.safetensors")
    references = {
        "runs/a/generator.safetensors": "a",
        "runs/b.c": "b.c",
        "runs/b.c/checkpoints/best.safetensors": "b.c_best",
        "other.safetensors": "other",
        "runs:runs/a": "runs",
        "bicubic": "bicubic",
    }
    study = Study.from_config(definition(references=list(references)))
    assert [model_name(text) for text in study.references] == list(references.values())
    assert list(load_models(study.references, scale=4)) == list(references.values())


def test_a_published_generator_is_no_path(publish: Callable[[str, Path], Path], tmp_path: Path):
    file = tmp_path / "g.safetensors"
    file.write_text("weights", encoding="utf-8")
    publish("toy", file)
    study = Study.from_config(definition(references=["toy", "ours:toy", f"file:{tmp_path}/toy"]))
    assert study.references == ["toy", "ours:toy", f"file:{tmp_path}/toy"]
    assert [model_name(text) for text in study.references] == ["toy", "ours", "file"]


def test_each_combination_of_a_grid_is_a_variant():
    grid = {"generator.pool_size": [2, 4], "loss/pixel": ["l1", "l2"]}
    baseline = "pool_size=2 pixel=l1"
    study = Study.from_config(definition(variants={}, grid=grid, baseline=baseline))
    assert study.variants == {
        "pool_size=2 pixel=l1": {"generator.pool_size": 2, "loss/pixel": "l1"},
        "pool_size=2 pixel=l2": {"generator.pool_size": 2, "loss/pixel": "l2"},
        "pool_size=4 pixel=l1": {"generator.pool_size": 4, "loss/pixel": "l1"},
        "pool_size=4 pixel=l2": {"generator.pool_size": 4, "loss/pixel": "l2"},
    }


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("S", {"A": "S", "B": "S"}),
        (None, {}),
        ({"B": "S"}, {"B": "S"}),
        ({"A": "S", "B": None}, {"A": "S"}),
    ],
)
def test_each_variant_has_its_own_start(start: object, expected: dict[str, str]):
    assert Study.from_config(definition(start=start)).start == expected


def test_keys_that_end_alike_keep_their_full_names():
    grid = {"generator.pool_size": [2], "discriminator.pool_size": [2, 4]}
    baseline = "generator.pool_size=2 discriminator.pool_size=4"
    study = Study.from_config(definition(variants={}, grid=grid, baseline=baseline))
    assert baseline in study.variants


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "C"}, r"`baseline` \(=C\) must be one of the variants: A, B"),
        ({"seeds": [1, 2, 1]}, r"`seeds` has 1 twice"),
        ({"seeds": []}, r"`seeds` \(=\[\]\) must be a list of whole numbers"),
        ({"seeds": [0.5]}, r"`seeds` \(=\[0.5\]\) must be a list of whole numbers"),
        ({"size": "tiny"}, r"`size` \(=tiny\) must be one of small, full"),
        ({"start": "T"}, r"`start` \(=T\) must be null or one of the stages: S"),
        ({"start": {"A": "T"}}, r"`start` \(=T\) must be null or one of the stages: S"),
        ({"start": {"C": "S"}}, r"`start` names C, which must be one of the variants: A, B"),
        ({"start": ["S"]}, r"`start` \(=\['S'\]\) must be null or one of the stages: S"),
        (
            {"variants": {}, "grid": {"a.b": [3]}, "start": {"b=3": "S"}},
            r"`start` \(={'b=3': 'S'}\) must be one stage for a `grid`",
        ),
        ({"difference": -1}, r"`difference` \(=-1\) must be a number of at least 0"),
        ({"difference": "much"}, r"`difference` \(=much\) must be a number"),
        ({"benchmarks": []}, r"`benchmarks` names no folder"),
        ({"variants": {}}, r"either `variants` or a `grid`; give one"),
        ({"grid": {"seed": [1]}}, r"either `variants` or a `grid`; give one"),
        ({"variants": {}, "grid": {"a.b": 3}}, r"`grid.a.b` \(=3\) must be a list of values"),
        ({"variants": {}, "grid": {"a.b": [3, 3]}}, r"`grid` has b=3 twice"),
        ({"variants": {}, "grid": {"a.b": ["x/y"]}}, r"`grid` has b=x/y, .*give such points as"),
        ({"variants": {"A": {}, "a/b": {}}}, r"`a/b` becomes a folder and a row of tables"),
        ({"variants": {"A": {}, "..": {}}}, r"`..` becomes a folder"),
        ({"variants": {"A": {}, "S": {}}}, r"`S` names two of the variants, stages and references"),
        ({"references": ["A:g.pth"]}, r"`A` names two of the variants, stages and references"),
        (
            {"stages": {"S": {"base": {}}}},
            r"`stages.S` \(={'base': {}}\) must have `base` and `seed`;",
        ),
        (
            {"stages": {"S": {"base": {}, "seed": "all"}}},
            r"`stages.S.seed` \(=all\) must be a whole",
        ),
    ],
)
def test_a_mistake_is_told(changes: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        Study.from_config(definition(**changes))
