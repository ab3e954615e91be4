"""Curves and pictures for TensorBoard."""

import math
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2._core.checked_types import PositiveInt, checked_arguments
from tf_dcnv2.optimizers import steps_made


class TensorBoardSummaries(keras.callbacks.Callback):
    """Writes what `fit` logs as TensorBoard reads it: losses, learning rate, AP and offsets, by step.

    Place it after the callbacks that add to the logs, such as `CocoEvaluation` and `OffsetMonitor`.

    Args:
        folder: of the event files, for `tensorboard --logdir`.
        every: steps between two entries of losses and learning rate inside an epoch.

    Example:
        >>> summaries = tf_dcnv2.training.TensorBoardSummaries("runs/cells/tensorboard")
        >>> pictures = tf_dcnv2.training.DetectionPictures(detector, held_out, on_pictures=summaries.add_pictures)
        >>> detector.fit(batches, epochs=20, callbacks=[pictures, summaries])
    """

    @checked_arguments
    def __init__(self, folder: str | os.PathLike, every: PositiveInt = 20):
        super().__init__()
        self._folder = folder
        self._every = every

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens an event file."""
        self._writer = tf.summary.create_file_writer(os.fspath(self._folder))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the losses, means since the epoch began, and the learning rate if it is time for that."""
        step = steps_made(self.model.optimizer)
        if step % self._every == 0:
            self._write(
                step,
                {
                    **(logs or {}),
                    "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
                },
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes all that was logged."""
        self._write(steps_made(self.model.optimizer), {f"epoch/{name}": of for name, of in (logs or {}).items()})
        self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the event file."""
        self._writer.close()

    def add_pictures(self, epoch: int, pictures: Sequence[np.ndarray]) -> None:
        """Writes `(H, W, 3)` uint8 pictures of any sizes, as `DetectionPictures(on_pictures=...)` gives them."""
        with self._writer.as_default(steps_made(self.model.optimizer)):
            for index, picture in enumerate(pictures):
                tf.summary.image(f"detections/{index}", picture[None])

    def _write(self, step: int, values: dict[str, Any]) -> None:
        with self._writer.as_default(step):
            for name, value in values.items():
                if math.isfinite(value):  # epochs without an evaluation have no AP
                    tf.summary.scalar(name, value)
