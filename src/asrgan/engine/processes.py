"""Several processes that share one evaluation."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

from torch import distributed

from asrgan.engine.launching import translate_srun

T = TypeVar("T")

_WAIT = timedelta(days=7)  # one process may be done long before another; a dead one is noticed


@dataclass(frozen=True)
class Processes:
    """This process among those that were started together.

    Attributes:
        rank: its number; 0 writes the results.
        local_rank: its number on this machine.
        count: of all.
        group: of `torch.distributed`, where there are others.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1
    group: Any = None

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes the results."""
        return self.rank == 0

    def owns(self, number: int) -> bool:
        """Whether a piece of work is this process's; each is exactly one's."""
        return number % self.count == self.rank

    def gather(self, item: T) -> list[T]:
        """Everybody's item at the first process, by rank; an empty list at the others."""
        if self.group is None:
            return [item]
        items: list[Any] | None = [None] * self.count if self.is_first else None
        distributed.gather_object(item, items, group=self.group)
        return cast("list[T]", items or [])

    def from_first(self, item: T) -> T:
        """The first process's item, everywhere."""
        if self.group is None:
            return item
        items = [item]
        distributed.broadcast_object_list(items, group=self.group)
        return items[0]


@contextmanager
def join_processes() -> Generator[Processes]:
    """Finds the other processes where torchrun, srun or another launcher has started several.

    torchrun's variables (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR``,
    ``MASTER_PORT``) are the field's convention; see `translate_srun`. The processes talk through
    gloo, which needs no GPU: they exchange rows, not pictures.
    """
    environment = os.environ
    translate_srun(environment)
    count = int(environment.get("WORLD_SIZE", "1")) if "RANK" in environment else 1
    if count == 1:
        yield Processes()
        return
    distributed.init_process_group("gloo")
    try:
        rank = distributed.get_rank()
        local_rank = int(environment.get("LOCAL_RANK", rank))
        yield Processes(rank, local_rank, count, distributed.new_group(timeout=_WAIT))
    finally:
        distributed.destroy_process_group()
