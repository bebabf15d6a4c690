"""Memory and time of flexible self-attention on a large map.

Run `python benchmarks/attention_memory.py`. Each row is a fresh process with two threads: one call
on a small map to load the libraries, then one on a (1, 64, 500, 500) float32 map in eval mode.
Extra memory is how far that call raises the process's peak resident memory (ru_maxrss of
getrusage); the input is not part of it, the output is. The last row asks for the attention map
itself, which the layer never stores.
"""

import multiprocessing
import resource
import time
from functools import partial

import torch

from asrgan.models import FlexibleSelfAttention

LIMIT_MIB = 512  # of the layer pooled by 4
ROWS = [
    # name, pool size, store the map, channels last
    ("FSA, pool 4", 4, False, False),
    ("FSA, pool 4, channels last", 4, False, True),
    ("FSA, pool 8", 8, False, False),
    ("attention map of pool 4, stored", 4, True, False),
]


def measure(pool_size: int, store_map: bool, channels_last: bool) -> tuple[float, float]:
    """Extra peak memory in MiB and time in seconds."""
    torch.set_num_threads(2)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    layer = FlexibleSelfAttention(64, pool_size=pool_size, resize="transposed").eval()
    layer = layer.to(memory_format=memory_format)
    features = torch.rand(1, 64, 500, 500).contiguous(memory_format=memory_format)
    call = layer.attention_map if store_map else layer
    with torch.inference_mode():
        call(features[..., :40, :40])
        before = peak_mib()
        start = time.perf_counter()
        call(features)
        return peak_mib() - before, time.perf_counter() - start


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: in KiB


def main() -> None:
    """Prints the table; fails if the layer pooled by 4 needs more than its limit."""
    print("| (1, 64, 500, 500) float32, eval | extra peak memory, MiB | time, s |")
    print("|---|---|---|")
    memory_mib: dict[str, float] = {}
    for name, pool_size, store_map, channels_last in ROWS:
        # "spawn": a fork would inherit this process's peak.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory_mib[name], time_s = pool.apply(
                partial(measure, pool_size, store_map, channels_last)
            )
        print(f"| {name} | {memory_mib[name]:.0f} | {time_s:.2f} |")
    if memory_mib["FSA, pool 4"] > LIMIT_MIB:
        raise SystemExit(f"more than {LIMIT_MIB} MiB")


if __name__ == "__main__":
    main()
