"""Means of what a step reports, read only when they are written."""

import torch
from torch import Tensor


class RunningMeans:
    """Sums of named scalars on their device, so that logging makes no step wait.

    ``state`` and ``restore`` let a resumed run write the row that an undisturbed one writes.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Adds one value, a scalar tensor."""
        value = value.detach().float()
        self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._counts[name] = self._counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """The mean of each name since the last reset; one transfer from the device."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values())).tolist()
        return {
            name: total / self._counts[name] for name, total in zip(self._sums, sums, strict=True)
        }

    def reset(self) -> None:
        """Forgets all values."""
        self._sums.clear()
        self._counts.clear()

    def state(self) -> dict[str, tuple[Tensor, int]]:
        """What ``restore`` takes: (sum, count) of each name."""
        return {name: (total, self._counts[name]) for name, total in self._sums.items()}

    def restore(self, state: dict[str, tuple[Tensor, int]], *, device: torch.device) -> None:
        """Continues from an earlier ``state``."""
        self._sums = {name: total.to(device) for name, (total, _) in state.items()}
        self._counts = {name: count for name, (_, count) in state.items()}
