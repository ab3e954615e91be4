"""The epochs of a run, which may begin and end inside a pass of `fit`."""

from collections.abc import Sequence
from typing import Any

import keras

from tf_dcnv2.training.progress import RunProgress


def is_due_after(epoch: int, every: int, callback: keras.callbacks.Callback) -> bool:
    """Whether what a callback does every so many epochs is due after `epoch`, counted from 0: the last one counts too.

    Args:
        epoch: that has ended.
        every: epochs; 0 for the last one only.
        callback: that asks, for what it knows of `fit`.
    """
    is_last = callback.model.stop_training or epoch + 1 == callback.params.get("epochs")
    return is_last or (every > 0 and (epoch + 1) % every == 0)


class EpochsOfRun(keras.callbacks.Callback):
    """Divides one endless epoch of `fit` into the epochs of a run, for the callbacks that follow it.

    `fit` begins an epoch when it begins. A run that goes on inside an epoch has to end that epoch where it would have
    ended, so that evaluations, backups and the rows of the log are those of a run that was never stopped.

    Args:
        progress: of the run.
        callbacks: what sees the run's epochs; one of them, `SpendBudget`, counts the steps.
    """

    def __init__(self, progress: RunProgress, callbacks: Sequence[keras.callbacks.Callback]):
        super().__init__()
        self._progress = progress
        self._callbacks = callbacks
        self._in_epoch = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins the run for the callbacks."""
        self._list = keras.callbacks.CallbackList(
            list(self._callbacks),
            model=self.model,
            epochs=self._progress.epochs,
            steps=self._progress.steps_per_epoch,
        )
        # `fit` is about to reset the means, which a run inside an epoch has been given back.
        self._means = [(one, keras.ops.convert_to_numpy(one)) for one in self.model.metrics_variables]
        self._list.on_train_begin()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Gives the metrics back what `fit` has reset."""
        for variable, value in self._means:
            variable.assign(value)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Begins an epoch, if the last one is over, and a step."""
        if not self._in_epoch:
            self._in_epoch = True
            if self._progress.step_of_epoch == 0:
                self.model.reset_metrics()
            self._list.on_epoch_begin(self._progress.state.epochs)
        self._list.on_train_batch_begin(self._progress.step_of_epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Ends a step, and the epoch if it was the last one of it."""
        step = self._progress.step_of_epoch
        self._list.on_train_batch_end(step, logs)
        if self._progress.is_end_of_epoch:
            self._in_epoch = False
            self._list.on_epoch_end(self._progress.state.epochs, dict(logs or {}))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Ends the run for the callbacks."""
        self._list.on_train_end()
