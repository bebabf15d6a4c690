"""A generator -> pictures of any size within a memory budget, exactly as the whole network would.

Memory goes where maps are at HR size, and nothing there needs a whole map: a convolution sees a few
rows around each row. So a picture goes through the network in bands of rows from top to bottom, and
each convolution remembers the last rows that it saw (`convolution`). Bands need no overlap: nothing
is computed twice, and there is no seam to blend. Only attention needs all rows before it can give
the first: the features wait, in memory or in a file (`rows`), while query, key and value of the
pooled map, which are small, are collected; its map is never stored (`attention`). `network` is a
generator as data; `plan` says how many rows at a time fit the memory and the processor's caches;
`forecast` says what a plan will cost; `streaming` does it; `upscaler` is what others use.
"""

from asrgan.inference.forecast import Forecast
from asrgan.inference.memory import (
    MemoryBudgetError,
    PeakMemory,
    as_text,
    held_bytes,
    parse_memory,
)
from asrgan.inference.network import Network, with_attention
from asrgan.inference.upscaler import Upscaler

__all__ = [
    "Forecast",
    "MemoryBudgetError",
    "Network",
    "PeakMemory",
    "Upscaler",
    "as_text",
    "held_bytes",
    "parse_memory",
    "with_attention",
]
