"""Crops per second, and memory of the loader, from photographs and from prepared shards.

    python benchmarks/loading.py DIR [--rounds 3] [--repetitions 100]

Prepares the photographs of DIR into a temporary folder with the settings of conf/prepare.yaml, and
reads crops as `asrgan train` does: 2 workers, batches and augmentation of conf/train.yaml. The
sources take turns, and the median of all rounds counts.

For memory the same data are repeated: photographs by symbolic links, shards by hard links. Each
row is a fresh process which reads some batches. USS is the private memory of one of its 2 workers;
PSS is the memory of all three processes, where what they share counts once.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from asrgan.configuration import compose
from asrgan.data import Crops, IterationBatches, Preparation, open_source
from asrgan.data.shards import MANIFEST, TILES
from asrgan.imaging import find_images

T = TypeVar("T")

LEAST_RATIO = 15
WARM_UP = 4  # batches


def loader_of(place: Path, *, cache_mib: float) -> DataLoader[Tensor]:
    """The loader of `PhotographData` with the settings of `asrgan train`."""
    config = compose("train", [f"data.train={place}", "data.validation=null"])
    data = config["data"]
    source = open_source(
        place,
        minimum_size_px=data["crop_size_px"],
        cache_mib=cache_mib,
        shuffle_shards=data["shuffle_shards"],
        stream_cache_dir=data["stream_cache_dir"],
        stream_cache_mib=data["stream_cache_mib"],
    )
    augmentation = instantiate(data["augmentation"], _convert_="all")
    crops = Crops(
        source, crop_size_px=data["crop_size_px"], seed=config["seed"], augmentation=augmentation
    )
    batches = IterationBatches(
        first_iteration=0,
        last_iteration=10**6,
        batch_size=data["batch_size"],
        rank=0,
        world_size=1,
    )
    return DataLoader(crops, batch_sampler=batches, num_workers=2)


def crops_per_second(place: Path, num_batches: int, *, cache_mib: float = 0) -> float:
    """Of so many batches, after a few that fill the queues."""
    batches = iter(loader_of(place, cache_mib=cache_mib))
    for _ in range(WARM_UP):
        next(batches)
    start = time.perf_counter()
    count = sum(len(batch) for batch in islice(batches, num_batches))
    return count / (time.perf_counter() - start)


def memory_mib(place: Path, num_batches: int) -> tuple[float, float]:
    """Private memory of a worker, and proportional memory of all processes, in MiB."""
    batches = iter(loader_of(place, cache_mib=0))
    for _ in range(num_batches):
        next(batches)
    workers = [child.pid for child in multiprocessing.active_children() if child.pid]
    private = sum(_rollup(pid, "Private_Clean") + _rollup(pid, "Private_Dirty") for pid in workers)
    return private / len(workers), sum(_rollup(pid, "Pss") for pid in [os.getpid(), *workers])


def _rollup(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"no {field}")


def prepare(folder: Path, output: Path) -> None:
    """`asrgan prepare` without its words."""
    config = compose("prepare", [f"input={folder}", f"output={output}"])
    preparation = Preparation(
        folder,
        output,
        tiling=instantiate(config["tiling"]),
        shard_mib=config["shard_mib"],
        held_out=config["held_out"],
        held_out_bits=config["held_out_bits"],
        num_workers=config["num_workers"],
    )
    with preparation.exclusive():
        preparation.run(progress=lambda: None)


def repeat_photographs(folder: Path, output: Path, times: int) -> Path:
    """A folder with so many links to each photograph."""
    for number in range(times):
        part = output / f"{number:04d}"
        part.mkdir(parents=True)
        for path in folder.iterdir():
            (part / path.name).symlink_to(path.resolve())
    return output


def repeat_shards(prepared: Path, output: Path, times: int) -> Path:
    """A prepared folder with so many links to each shard, and a table as long as theirs."""
    output.mkdir()
    manifest = json.loads((prepared / MANIFEST).read_bytes())
    shards, rows = manifest["shards"], np.load(prepared / TILES)
    links: list[dict[str, Any]] = []
    tables: list[NDArray[np.void]] = []
    for _ in range(times):
        table = rows.copy()
        table["shard"] += len(links)
        tables.append(table)
        for shard in shards:
            link = {**shard, "name": f"shard-{len(links):05d}.tar"}
            (output / link["name"]).hardlink_to(prepared / shard["name"])
            links.append(link)
    np.save(output / TILES, np.concatenate(tables))
    manifest["shards"] = links
    manifest["tiles"]["sha256"] = hashlib.sha256((output / TILES).read_bytes()).hexdigest()
    (output / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return output


def alone(task: Callable[[], T]) -> T:
    """The result of a task in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(task).result()


def main() -> None:
    """Prints two tables; fails if prepared data are not enough times faster."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=100)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    with tempfile.TemporaryDirectory() as directory:
        temporary = Path(directory)
        prepared = temporary / "prepared"
        prepare(folder, prepared)
        tasks = {
            "photographs, each decoded": partial(crops_per_second, folder, 8),
            "photographs, all in memory": partial(crops_per_second, folder, 200, cache_mib=1e6),
            "prepared": partial(crops_per_second, prepared, 200),
        }
        rates: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(arguments.rounds):
            for name, task in tasks.items():
                rates[name].append(task())
        medians = {name: statistics.median(values) for name, values in rates.items()}
        slowest = medians["photographs, each decoded"]
        print("| source | crops/s | ratio | rounds |\n| --- | --- | --- | --- |")
        for name, median in medians.items():
            rounds = ", ".join(f"{rate:.0f}" for rate in rates[name])
            print(f"| {name} | {median:.0f} | {median / slowest:.1f} | {rounds} |")
        num_photographs = len(find_images(folder))
        times = arguments.repetitions
        many = repeat_photographs(folder, temporary / "many", times)
        many_prepared = repeat_shards(prepared, temporary / "many_prepared", times)
        print("\n| source | photographs | USS of a worker, MiB | PSS of all, MiB |")
        print("| --- | --- | --- | --- |")
        for name, few_place, many_place, num_batches in (
            ("photographs, each decoded", folder, many, 16),
            ("prepared", prepared, many_prepared, 400),
        ):
            for place, count in ((few_place, 1), (many_place, times)):
                private, proportional = alone(partial(memory_mib, place, num_batches))
                print(
                    f"| {name} | {count * num_photographs} | {private:.0f} | {proportional:.0f} |"
                )
    if medians["prepared"] < LEAST_RATIO * slowest:
        raise SystemExit(f"prepared data give less than {LEAST_RATIO} times as many crops")


if __name__ == "__main__":
    main()
