"""A study as sweeps of Weights & Biases, whose agents start ``asrgan train`` anywhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asrgan.metrics import METRICS
from asrgan.studies.definition import Study
from asrgan.studies.folder import StudyFolder
from asrgan.studies.plan import Composer, Training, trainings

Sweep = dict[str, Any]
"""What ``wandb sweep FILE`` reads."""


def wandb_sweeps(
    study: Study,
    folder: StudyFolder,
    *,
    grid: Mapping[str, Sequence[object]],
    composer: Composer,
    flags: Sequence[str],
) -> dict[str, Sweep]:
    """Sweeps over the study's variants and seeds; what they start from has to be trained before.

    A grid is one sweep, with its keys as parameters. A named variant changes several keys at
    once, which W&B's parameters cannot say, so that each is a sweep over the seeds.

    Args:
        study: the definition.
        folder: where the stages are.
        grid: of the definition; empty where variants have names.
        composer: Hydra's side.
        flags: of each `asrgan train`, before its overrides.

    Returns:
        Name -> content of the file.
    """
    variants = [t for t in trainings(study, folder, composer=composer) if t.kind == "variant"]

    def sweep(training: Training, words: Sequence[str], parameters: Sweep) -> Sweep:
        watched = [] if any(w.startswith("logger=") for w in words) else ["logger=wandb"]
        group = composer.override("logger.wandb.group", study.name)
        labels = {"study": study.name} | ({} if grid else {"variant": training.model})
        told = [group, composer.override("++logger.wandb.labels", labels)]
        return {
            "program": "asrgan",
            "method": "grid",
            "parameters": {**parameters, "seed": {"values": list(study.seeds)}},
            "command": [
                *("${env}", "${program}", "train", *flags, *words, *watched, *told),
                "${args_no_hyphens}",
            ],
            **_metric(study),
        }

    if not grid:
        return {variant.model: sweep(variant, variant.words, {}) for variant in variants}
    words = variants[0].words[: -len(grid)]  # without its own point
    parameters = {
        key: {"values": [_text(composer, value) for value in values]}
        for key, values in grid.items()
    }
    return {study.name: sweep(variants[0], words, parameters)}


def _metric(study: Study) -> Sweep:
    if not study.validation:
        return {}
    goal = "maximize" if METRICS[study.metric].is_higher_better else "minimize"
    name = f"val/{Path(study.validation[0]).name}/{study.metric}"
    return {"metric": {"name": name, "goal": goal}}


def _text(composer: Composer, value: object) -> object:
    """A value that W&B's agent puts behind ``key=`` as it is."""
    if type(value) in (int, float):
        return value
    return composer.override("x", value).partition("=")[2]
