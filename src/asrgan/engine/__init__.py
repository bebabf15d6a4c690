"""Training: the LightningModule, the average of weights, callbacks, loggers."""

from asrgan.engine.averaging import start_average, update_average
from asrgan.engine.checkpoints import Checkpoints, Schedule, read_progress
from asrgan.engine.directions import DIRECTIONS
from asrgan.engine.hardware import (
    best_precision,
    check_compile_mode,
    check_devices,
    gan_strategy,
    is_on_gpu,
    keep_freed_memory,
    num_loader_workers,
    peak_memory_mib,
    share_threads,
)
from asrgan.engine.launching import Launch, find_launch
from asrgan.engine.loggers import (
    IterationLogger,
    MetricsTable,
    TensorBoardLogger,
    WandbLogger,
    offline_runs,
)
from asrgan.engine.means import RunningMeans
from asrgan.engine.processes import Processes, join_processes
from asrgan.engine.progress import Progress
from asrgan.engine.pruning import Pruning
from asrgan.engine.rehearsal import Rehearsal
from asrgan.engine.samples import Samples
from asrgan.engine.super_resolution import Batch, Optimization, SuperResolution
from asrgan.engine.watch import Watch

__all__ = [
    "DIRECTIONS",
    "Batch",
    "Checkpoints",
    "IterationLogger",
    "Launch",
    "MetricsTable",
    "Optimization",
    "Processes",
    "Progress",
    "Pruning",
    "Rehearsal",
    "RunningMeans",
    "Samples",
    "Schedule",
    "SuperResolution",
    "TensorBoardLogger",
    "WandbLogger",
    "Watch",
    "best_precision",
    "check_compile_mode",
    "check_devices",
    "find_launch",
    "gan_strategy",
    "is_on_gpu",
    "join_processes",
    "keep_freed_memory",
    "num_loader_workers",
    "offline_runs",
    "peak_memory_mib",
    "read_progress",
    "share_threads",
    "start_average",
    "update_average",
]
