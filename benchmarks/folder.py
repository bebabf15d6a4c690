"""How much of a folder's time the network has, with and without reading and writing beside it.

    python benchmarks/folder.py WEIGHTS PHOTOGRAPHS [--count 200] [--size 320x240] [--rounds 4]

Cuts pieces out of the photographs, writes them as JPEG and as PNG, and enlarges them by what
`asrgan upscale` uses. In each round a part of them goes through `LocalEngine`, and the same part
one stage after the other, so that both meet the same noise of the machine.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from asrgan.imaging import find_images, read_image
from asrgan.inference.jobs import Job, LocalEngine, Recipe, Result, Worker, find_jobs, folder_at
from asrgan.pictures import Picture, write_picture


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("weights")
    parser.add_argument("photographs")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--size", default="320x240", help="width x height of the pieces, px")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--precision", default="auto")
    arguments = parser.parse_args()
    print("| originals | way | pictures/s | MP/s | network | read | write |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for suffix in ("jpg", "png"):
        with tempfile.TemporaryDirectory() as folder:
            _cut(arguments, Path(folder, "in"), suffix)
            recipe = Recipe(arguments.weights, quality=95, precision=arguments.precision)
            output = folder_at(f"{folder}/out")
            jobs = find_jobs(f"{folder}/in", output, recipe, column="path")
            worker = Worker(
                recipe, recipe_id="", output=output.location, memory=None, device="auto"
            )
            _compare(jobs, worker, arguments.rounds, suffix)


def _cut(arguments: argparse.Namespace, folder: Path, suffix: str) -> None:
    width, height = (int(side) for side in arguments.size.split("x"))
    paths = find_images(arguments.photographs)
    for number in range(arguments.count):
        photograph = read_image(paths[number % len(paths)])
        top = (7 * number) % max(1, photograph.shape[0] - height)
        left = (11 * number) % max(1, photograph.shape[1] - width)
        piece = photograph[top : top + height, left : left + width]
        write_picture(folder / f"{number:04}.{suffix}", Picture(piece.copy()))


def _compare(jobs: list[Job], worker: Worker, rounds: int, suffix: str) -> None:
    ways = {"beside the network": LocalEngine().run, "one after the other": _in_turn}
    seconds = dict.fromkeys(ways, 0.0)
    rows: dict[str, list[Result]] = {way: [] for way in ways}
    list(_in_turn(jobs[:2], worker))  # warms up
    for number in range(rounds):
        for way, run in ways.items():
            start = time.perf_counter()
            rows[way] += run(jobs[number::rounds], worker)
            seconds[way] += time.perf_counter() - start
    for way, wall_s in seconds.items():
        stages = zip(
            *((r.network_s or 0, r.read_s or 0, r.write_s or 0) for r in rows[way]), strict=True
        )
        shares = " | ".join(f"{sum(stage) / wall_s:.0%}" for stage in stages)
        pixels = sum((r.output_width_px or 0) * (r.output_height_px or 0) for r in rows[way])
        speed = f"{len(jobs) / wall_s:.2f} | {pixels / 1e6 / wall_s:.2f}"
        print(f"| {suffix} | {way} | {speed} | {shares} |")


def _in_turn(jobs: Iterable[Job], worker: Worker) -> list[Result]:
    return [worker.write(worker.enlarge(worker.read(job))) for job in jobs]


if __name__ == "__main__":
    main()
