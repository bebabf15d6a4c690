"""Ends a training that is one of many trials, and not a good one."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from asrgan.engine.super_resolution import SuperResolution


class Pruning(Callback):
    """Reports each validation to an Optuna study, whose pruner may end the training.

    Everything goes through the storage, so that the trial may run in any process of any machine.

    Args:
        storage: URL of Optuna's.
        study: its name there.
        trial: number of the trial within it.
        objective: a validation score; the mean over the benchmarks is reported.
        pruner: an Optuna pruner.

    Attributes:
        is_pruned: whether it has ended the training.
    """

    def __init__(
        self, *, storage: str, study: str, trial: int, objective: str, pruner: Any
    ) -> None:
        self._place = storage, study, trial
        self._objective = objective
        self._pruner = pruner
        self.is_pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports, and asks the pruner."""
        assert isinstance(pl_module, SuperResolution)
        is_bad = trainer.is_global_zero and self._is_bad(pl_module)
        self.is_pruned = trainer.strategy.broadcast(is_bad)
        trainer.should_stop |= self.is_pruned

    def _is_bad(self, module: SuperResolution) -> bool:
        import optuna
        from optuna.storages import get_storage

        url, name, number = self._place
        storage = get_storage(url)
        trial_id = storage.get_trial_id_from_study_id_trial_number(
            storage.get_study_id_from_name(name), number
        )
        score = float(module.validation_scores[self._objective])
        storage.set_trial_intermediate_value(trial_id, module.iteration, score)
        study = optuna.load_study(study_name=name, storage=storage)
        return self._pruner.prune(study, storage.get_trial(trial_id))
