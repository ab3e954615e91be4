"""`fit` that goes on where it was killed."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tf_dcnv2._core.checked_types import PositiveFloat, PositiveInt, checked_arguments
from tf_dcnv2.training.backups import Backups, RunState
from tf_dcnv2.training.budget import Budget, CountSteps
from tf_dcnv2.training.checkpoints import Checkpoints, run_variables
from tf_dcnv2.training.epochs import EpochsOfRun
from tf_dcnv2.training.progress import RunProgress


class Resumable(EpochsOfRun):
    """Keeps checkpoints of `fit`, and lets the next `fit` go on from the last one, inside an epoch too.

    `fit` gets one endless stream of batches, which this callback divides into epochs for the callbacks it is given. A
    model that is killed and goes on sees the batches that it would have seen, with the weights, the optimizer's state
    and the means of the losses that it would have had: under `tf.config.experimental.enable_op_determinism` it ends
    with the same weights, bit by bit. State of other callbacks is not kept.

    Args:
        folder: of the checkpoints; each is one file that is written whole, and the last two are kept.
        epochs: of the whole training.
        steps_per_epoch: batches of an epoch.
        callbacks: those that follow the epochs, such as `CocoEvaluation`; give them here instead of to `fit`.
        steps: after how many steps a checkpoint is written inside an epoch; None for never.
        minutes: likewise. There is one at the end of every epoch.

    Attributes:
        start_step: steps that were made before; the batch with which the stream has to begin, counted from 0.

    Raises:
        ValueError: from `fit`: the checkpoint is of another model or optimizer.
        OSError: from `fit`: a checkpoint cannot be written; the one before it is still there.

    Example:
        >>> resumable = tf_dcnv2.training.Resumable("runs/cells/state", epochs=12, steps_per_epoch=500)
        >>> batches = tf_dcnv2.data.load_records(
        ...     "records/train", batch_size=2, training=True, repeat=True, seed=0, start_step=resumable.start_step
        ... )
        >>> detector.fit(batches, callbacks=[resumable])
    """

    @checked_arguments
    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        epochs: PositiveInt,
        steps_per_epoch: PositiveInt,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        steps: PositiveInt | None = None,
        minutes: PositiveFloat | None = 10.0,
    ):
        backups = Backups(Path(folder))
        state = backups.load_state() or RunState()
        budget = Budget(epochs * steps_per_epoch, None, state.steps, state.seconds)
        progress = RunProgress(budget, steps_per_epoch, state)
        super().__init__(
            progress, [CountSteps(budget), *callbacks, Checkpoints(backups, progress, steps=steps, minutes=minutes)]
        )
        self._backups = backups
        self.start_step = state.steps

    @property
    def history(self) -> tuple[dict[str, float], ...]:
        """Losses and metrics of all epochs that have ended, those of earlier processes included."""
        return self._progress.state.history

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the model, if there is a checkpoint, what it had then."""
        if (backup := self._backups.load()) is not None:
            backup.restore(run_variables(self.model))
        # `fit` begins with this epoch: with the one after its only one it makes no step.
        self.model._initial_epoch = int(self._progress.budget.progress >= 1.0)
        super().on_train_begin(logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends the training for the callbacks."""
        self.model._initial_epoch = 0
        super().on_train_end(logs)
