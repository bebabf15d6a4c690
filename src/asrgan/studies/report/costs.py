"""What each recipe costs, in training and in use."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from asrgan.inference import with_attention
from asrgan.inference.plan import Precision, plans
from asrgan.models import SRGANGenerator, load_generator
from asrgan.studies.report.curves import Column
from asrgan.studies.report.results import Run, StudyResults

RESULT_PX = 2000
"""Side of the result for which multiply-adds and memory are told."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a recipe costs; None: not known (yet).

    Attributes:
        parameters: of the generator, as it is used: spectral norm is folded.
        multiply_adds: of the generator for a result of `RESULT_PX` x `RESULT_PX`.
        training_mib: peak memory of a run, the largest of the seeds.
        use_mib: peak memory that making one such result takes beside the loaded program, with its
            8-bit picture; forecast for a CPU and float32.
        images_per_s: HR crops in training, median over rows and seeds.
        hours: of a run from start to end of its evaluation, mean over finished seeds.
    """

    parameters: int | None
    multiply_adds: int | None
    training_mib: float | None
    use_mib: float | None
    images_per_s: float | None
    hours: float | None


class _InUse(TypedDict):
    """Of a generator, whatever its weights are."""

    parameters: int | None
    multiply_adds: int | None
    use_mib: float | None


def measure_costs(
    results: StudyResults, curves: Mapping[str, Mapping[str, Column]]
) -> dict[str, Cost]:
    """The cost of each recipe.

    Args:
        results: of the study.
        curves: a run's path -> the columns of its ``metrics.csv``.
    """
    in_use: dict[str, _InUse] = {}  # variants often differ by how they are trained alone
    costs: dict[str, Cost] = {}
    for model in results.models():
        runs = results.runs_of(model)
        used = _InUse(parameters=None, multiply_adds=None, use_mib=None)
        file = next((run.generator for run in runs if run.generator is not None), None)
        if file is not None:
            generator = load_generator(file)
            architecture = json.dumps(generator.architecture)
            if architecture not in in_use:
                in_use[architecture] = _measure(generator, side=RESULT_PX // results.scale)
            used = in_use[architecture]
        memory = _values("train/peak_memory_mib", runs, curves)
        rates = _values("train/images_per_s", runs, curves)
        hours = [run.hours for run in runs if run.status == "finished" and run.kind != "reference"]
        costs[model] = Cost(
            **used,
            training_mib=float(memory.max()) if memory.size else None,
            images_per_s=float(np.median(rates)) if rates.size else None,
            hours=sum(hours) / len(hours) if hours else None,
        )
    return costs


def _values(
    name: str, runs: Sequence[Run], curves: Mapping[str, Mapping[str, Column]]
) -> NDArray[np.float32]:
    """All values of a column, of all runs."""
    columns = [curves[run.path][name] for run in runs if name in curves.get(run.path, ())]
    return np.concatenate([values for _, values in columns]) if columns else np.empty(0, np.float32)


def _measure(generator: SRGANGenerator, *, side: int) -> _InUse:
    attention = cast("list[dict[str, object]]", generator.architecture["attention"])
    network = with_attention(generator, attention)
    precision = Precision(torch.float32, image=torch.float32, tokens=torch.float32)
    device = torch.device("cpu")
    fastest = next(plans(network, height=side, width=side, precision=precision, device=device))
    picture_bytes = 3 * (generator.scale * side) ** 2
    return _InUse(
        parameters=count_parameters(generator),
        multiply_adds=count_multiply_adds(generator, height=side, width=side),
        use_mib=(fastest.peak_bytes + picture_bytes) / 2**20,
    )


def count_parameters(generator: SRGANGenerator) -> int:
    """How many numbers were learned; statistics of batch norm are not among them."""
    return sum(parameter.numel() for parameter in generator.parameters())


def count_multiply_adds(generator: SRGANGenerator, *, height: int, width: int) -> int:
    """Multiplications with an addition, of convolutions and attention, for one LR picture.

    Counted by torch on tensors without content, so that nothing is computed.

    Args:
        generator: on any device.
        height: of LR.
        width: of LR.
    """
    with torch.device("meta"):
        empty = SRGANGenerator(**cast("dict[str, Any]", generator.architecture)).eval()
        lr_image = torch.empty(1, 3, height, width)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        empty(lr_image)
    return counter.get_total_flops() // 2  # torch counts both
