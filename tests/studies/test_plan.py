"""From a definition to cells, with a stand-in for Hydra."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from asrgan.errors import UserError
from asrgan.files import file_digest
from asrgan.studies.definition import Stage, Study
from asrgan.studies.folder import Attempt, CellPlan, CellState, StudyFolder
from asrgan.studies.identity import Fingerprints
from asrgan.studies.plan import Composer, Planner, trainings

DEFAULTS = {
    "scale": 4,
    "max_iterations": 6,
    "data.batch_size": 16,
    "data.train": None,
    "trainer.devices": 1,
    "trainer.precision": "auto",
    "generator.weights": None,
    "generator.pool_size": 4,
}


def compose(words: Sequence[str], seeds: Sequence[int]) -> list[dict[str, object]]:
    given = {key: yaml.safe_load(value) for key, value in (w.split("=", 1) for w in words)}
    if unknown := given.keys() - {*DEFAULTS, "data.validation", "logger.wandb.group"}:
        raise UserError(f"`{unknown.pop()}` is no key of `asrgan train`")
    config = {**DEFAULTS, **given}
    weights = str(config["generator.weights"])
    return [
        {**config, "seed": seed, "generator.weights": weights.replace("${seed}", str(seed))}
        if config["generator.weights"]
        else {**config, "seed": seed}
        for seed in seeds
    ]


COMPOSER = Composer(override="{}={}".format, compose=compose, check=lambda config, start: None)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    for name in ("photos/a.png", "Set5/b.png", "published.pth"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return Study(
        name="toy",
        question="Does it work?",
        base={"max_iterations": 4},
        variants={"A": {}, "B": {"generator.pool_size": 8}},
        baseline="A",
        seeds=[1, 2],
        stages={"S": Stage(overrides={"max_iterations": 9}, seed=1)},
        start={"A": "S", "B": "S"},
        references=["bicubic", f"published:{tmp_path}/published.pth"],
        benchmarks=[str(tmp_path / "Set5")],
        train=str(tmp_path / "photos"),
        validation=None,
        metric="psnr_y_db",
        difference=0.1,
        evaluate={"save_images": True},
        overrides=["data.batch_size=8"],
        variant_overrides=["trainer.precision=32-true"],
    )


def plan(
    study: Study,
    folder: Path,
    *,
    version: str = "v",
    accepts_other_code: bool = False,
    composer: Composer = COMPOSER,
) -> dict[str, CellPlan]:
    planner = Planner(
        study,
        StudyFolder(folder),
        composer=composer,
        fingerprints=Fingerprints(folder / "fingerprints.json"),
        code={"version": version, "commit": f"commit-{version}"},
        flags=["--config-dir", "mine"],
    )
    return {cell.path: cell for cell in planner.cells(accepts_other_code=accepts_other_code)}


def begin(folder: Path, *cells: CellPlan) -> None:
    for cell in cells:
        place = StudyFolder(folder).cell(cell.path)
        place.write_plan(cell)
        attempt = Attempt(step="train", started="now", host="here", exit_code=-9)
        place.write_state(CellState(attempts=[attempt]))


def test_references_stages_and_variants_become_cells(study: Study, tmp_path: Path):
    cells = plan(study, tmp_path / "out")
    assert list(cells) == [
        "references/bicubic",
        "references/published",
        "stages/S/seed_1",
        "variants/A/seed_1",
        "variants/A/seed_2",
        "variants/B/seed_1",
        "variants/B/seed_2",
    ]
    cell = cells["variants/B/seed_2"]
    generator = f"{tmp_path}/out/{{}}/generator.safetensors"
    assert cell.train == [
        "--config-dir",
        "mine",
        "max_iterations=4",
        f"data.train={tmp_path}/photos",
        "data.validation=None",
        f"generator.weights={generator.format('stages/S/seed_1')}",
        "trainer.precision=32-true",
        "data.batch_size=8",
        "generator.pool_size=8",
        "seed=2",
        f"output_dir={tmp_path}/out/variants/B/seed_2",
    ]
    assert cell.evaluate == [
        f"models=['B:{generator.format('variants/B/seed_2')}']",
        f"benchmarks=['{tmp_path}/Set5']",
        "scale=4",
        "save_images=True",
        f"output_dir={tmp_path}/out/variants/B/seed_2/evaluation",
    ]
    assert (cell.start, cell.max_iterations, cell.images_per_iteration) == (
        "stages/S/seed_1",
        4,
        8,
    )
    stage = cells["stages/S/seed_1"]
    assert (stage.start, stage.max_iterations) == (None, 9)
    assert "trainer.precision=32-true" not in stage.train
    assert cells["references/bicubic"].train == []


def test_variants_start_from_different_stages_or_anew(study: Study, tmp_path: Path):
    stages = {"S": study.stages["S"], "T": Stage(overrides={"max_iterations": 5}, seed=None)}
    variants = {**study.variants, "C": {"generator.pool_size": 2}}
    changed = replace(study, stages=stages, start={"A": "S", "B": "T"}, variants=variants)
    cells = plan(changed, tmp_path / "out")
    starts = {path: cell.start for path, cell in cells.items() if path.startswith("variants")}
    assert starts == {
        "variants/A/seed_1": "stages/S/seed_1",
        "variants/A/seed_2": "stages/S/seed_1",
        "variants/B/seed_1": "stages/T/seed_1",
        "variants/B/seed_2": "stages/T/seed_2",
        "variants/C/seed_1": None,
        "variants/C/seed_2": None,
    }
    assert not any("generator.weights" in word for word in cells["variants/C/seed_1"].train)


@pytest.mark.parametrize(("group", "expected"), [("null", "toy"), ("mine", "mine")])
def test_wandb_is_told_which_cell_it_watches(
    study: Study, tmp_path: Path, group: str, expected: str
):
    unwatched = plan(study, tmp_path / "out")["variants/B/seed_2"]
    watched = replace(study, overrides=[*study.overrides, f"logger.wandb.group={group}"])
    cell = plan(watched, tmp_path / "out")["variants/B/seed_2"]
    assert cell.identity == unwatched.identity
    assert cell.train[-3:] == [
        f"logger.wandb.group={expected}",
        "logger.wandb.name=B seed 2",
        f"++logger.wandb.labels={{'study': 'toy', 'variant': 'B', 'cell': '{cell.identity}'}}",
    ]


def test_a_stage_may_be_trained_with_each_seed(study: Study, tmp_path: Path):
    study = replace(study, stages={"S": Stage(overrides={}, seed=None)})
    cells = plan(study, tmp_path / "out")
    assert cells["variants/A/seed_2"].start == "stages/S/seed_2"
    assert cells["variants/A/seed_1"].start == "stages/S/seed_1"


def test_a_variant_may_start_from_something_else(study: Study, tmp_path: Path):
    weights = {"generator.weights": f"{tmp_path}/published.pth"}
    cells = plan(replace(study, variants={"A": {}, "B": weights}), tmp_path / "out")
    assert cells["variants/B/seed_1"].start is None
    # The same weights wherever they lie: `references/published` has read the same file.
    (tmp_path / "moved.pth").write_text("published.pth", encoding="utf-8")
    moved = {"generator.weights": f"{tmp_path}/moved.pth"}
    again = plan(replace(study, variants={"A": {}, "B": moved}), tmp_path / "out")
    assert again["variants/B/seed_1"].identity == cells["variants/B/seed_1"].identity


def test_the_identity_is_of_configuration_seed_data_start_and_code(study: Study, tmp_path: Path):
    out = tmp_path / "out"
    first = plan(study, out)
    assert len({cell.identity for cell in first.values()}) == len(first)
    path = "variants/A/seed_1"

    def changes(*, version: str = "v", **parts: Any) -> bool:
        changed = plan(replace(study, **parts), out, version=version)
        return changed[path].identity != first[path].identity

    assert not changes(question="another", metric="ssim_y", seeds=[1, 2, 3], benchmarks=[])
    assert not changes(variants={"A": {}, "C": {"generator.pool_size": 2}})
    assert changes(base={"max_iterations": 5})
    assert changes(stages={"S": Stage(overrides={"max_iterations": 8}, seed=1)})
    assert changes(version="w")
    (tmp_path / "photos" / "c.png").write_text("one more", encoding="utf-8")
    assert changes()


def test_another_benchmark_changes_the_evaluation_alone(study: Study, tmp_path: Path):
    one = plan(study, tmp_path / "out")["variants/A/seed_1"]
    benchmarks = [f"{tmp_path}/Set5", f"lr:{tmp_path}/photos"]
    two = plan(replace(study, benchmarks=benchmarks), tmp_path / "out")["variants/A/seed_1"]
    assert (one.identity, one.train) == (two.identity, two.train)
    assert one.evaluation != two.evaluation


def test_a_cell_that_has_begun_may_not_become_another(study: Study, tmp_path: Path):
    out = tmp_path / "out"
    cells = plan(study, out)
    begin(out, cells["variants/B/seed_1"])
    assert plan(study, out) == cells
    edited = replace(study, variants={"A": {}, "B": {"generator.pool_size": 2}})
    with pytest.raises(
        UserError,
        match=r"variants/B/seed_1 ran with `generator.pool_size`=8, and the study now says 2;"
        r" rename the variant, or remove .*/B/seed_1 to train it anew",
    ):
        plan(edited, out)
    (tmp_path / "photos" / "c.png").write_text("one more", encoding="utf-8")
    with pytest.raises(UserError, match=r"B/seed_1 ran with other content of `data.train`"):
        plan(study, out)


def test_cells_that_other_code_has_begun_are_gone_on_with_only_when_asked(
    study: Study, tmp_path: Path
):
    out = tmp_path / "out"
    earlier = plan(study, out)
    begin(out, earlier["stages/S/seed_1"], earlier["variants/A/seed_1"])
    with pytest.raises(
        UserError,
        match=r"2 cells were begun by other code \(commit commit-v; this is commit-w\),"
        r" stages/S/seed_1 for one; mixed_code=true goes on",
    ):
        plan(study, out, version="w")
    cells = plan(study, out, version="w", accepts_other_code=True)
    kept, new = cells["variants/A/seed_1"], cells["variants/A/seed_2"]
    assert kept.identity == earlier["variants/A/seed_1"].identity
    assert kept.code["version"] == "v"
    assert new.code["version"] == "w"
    assert kept.evaluation == new.evaluation != earlier["variants/A/seed_1"].evaluation


def test_a_key_that_the_code_has_got_since_is_no_change_of_the_study(study: Study, tmp_path: Path):
    earlier = plan(study, tmp_path / "out")
    cell = earlier["variants/A/seed_1"]
    config = {key: value for key, value in cell.config.items() if key != "generator.pool_size"}
    begin(tmp_path / "out", earlier["stages/S/seed_1"], replace(cell, config=config))
    with pytest.raises(UserError, match=r"ran with `generator.pool_size`=None"):
        plan(study, tmp_path / "out")
    cells = plan(study, tmp_path / "out", version="w", accepts_other_code=True)
    assert cells["variants/A/seed_1"].identity == cell.identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"variants": {"A": {}, "B": {"generator.pool_size": 4}}},
            "variants `A` and `B` resolve to the same configuration; remove one",
        ),
        (
            {"variants": {"A": {}, "B": {"genrator.pool_size": 4}}},
            "variant `B`: `genrator.pool_size` is no key of `asrgan train`",
        ),
        (
            {"variants": {"A": {}, "B": {"scale": 2}}},
            "`scale` must be the same for all variants, and is",
        ),
        (
            {"variants": {"A": {}, "B": {"generator.pool_size": "???"}}},
            "variant `B`: `generator.pool_size` has no value",
        ),
        (
            {"variants": {"A": {}, "B": {"generator.weights": "/nowhere.pth"}}},
            r"variant `B`: `generator.weights` \(=/nowhere.pth\) cannot be read: No such file",
        ),
        ({"overrides": ["trainer.devices=auto"]}, r"`trainer.devices` \(=auto\) must be a whole"),
        ({"train": "/nowhere"}, r"^`data.train` \(=/nowhere\) cannot be read: No such file"),
        ({"benchmarks": ["lr:/nowhere"]}, r"^`benchmarks` \(=/nowhere\) cannot be read"),
    ],
)
def test_a_mistake_is_told(study: Study, tmp_path: Path, changes: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        plan(replace(study, **changes), tmp_path / "out")


def test_each_training_is_checked_once_with_what_it_starts_from(study: Study, tmp_path: Path):
    seen: list[tuple[object, object]] = []

    def check(config: Mapping[str, object], start: Mapping[str, object] | None) -> None:
        seen.append((config["generator.pool_size"], start and start["max_iterations"]))
        if len(seen) == 3:
            raise UserError("it cannot be built.")

    with pytest.raises(UserError, match=r"^variant `B`: it cannot be built"):
        plan(study, tmp_path / "out", composer=replace(COMPOSER, check=check))
    assert seen == [(4, None), (4, 9), (8, 9)]


def test_published_generators_are_known_by_their_content(
    study: Study, tmp_path: Path, publish: Callable[[str, Path], Path]
):
    file = publish("toy", tmp_path / "published.pth")
    start = {"generator.weights": "toy"}
    study = replace(study, references=["toy"], variants={"A": start, "B": {}})
    cells = plan(study, tmp_path / "out")
    content = file_digest(file)[:16]
    assert cells["references/toy"].data == {"references": content}
    assert cells["references/toy"].evaluate[0] == "models=['toy:toy']"
    variant = cells["variants/A/seed_1"]
    assert variant.data["generator.weights"] == content
    begin(tmp_path / "out", variant)
    file.write_text("another one", encoding="utf-8")
    with pytest.raises(UserError, match=r"A/seed_1 ran with other content of `generator.weights`"):
        plan(study, tmp_path / "out")


def test_trainings_leave_the_seed_of_a_stage_to_hydra(study: Study, tmp_path: Path):
    study = replace(study, stages={"S": Stage(overrides={}, seed=None)})
    (_, first, _) = trainings(study, StudyFolder(tmp_path), composer=COMPOSER)
    weights = f"generator.weights={tmp_path}/stages/S/seed_${{seed}}/generator.safetensors"
    assert weights in first.words
