"""Watches the offsets of deformable layers while they learn."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import keras

from tf_dcnv2._core.checked_types import PositiveInt, check_for
from tf_dcnv2.analysis import OffsetStatistics, predicted_offsets, summarize_offsets

LOG_NAMES = ("offset_mean", "offset_p99", "offset_outside", "modulation")


class OffsetMonitor(keras.callbacks.Callback):
    """Measures the offsets of every deformable layer on one image, and warns once of each layer that seems to diverge.

    `offset_mean`, `offset_p99`, `offset_outside` and `modulation`, the numbers of an `OffsetSummary`, join the logs of
    `fit`; they are NaN for epochs that are left out.

    Args:
        model: a detector, or any Keras model with deformable layers; `model` of `fit` may be its `FeatureMimicking`.
        image: `(H, W, C)` as the model takes it, see `tf_dcnv2.analysis.network_image`.
        every: epochs between two looks.
        on_result: called with the `OffsetStatistics` of all layers after each look.
        on_warning: called with a sentence for the user; by default `warnings.warn`.

    Example:
        >>> image = tf_dcnv2.analysis.network_image(detector, "cells.jpg")
        >>> detector.fit(train, epochs=12, callbacks=[tf_dcnv2.training.OffsetMonitor(detector, image)])
    """

    def __init__(
        self,
        model: keras.Model,
        image: Any,
        every: int = 1,
        on_result: Callable[[list[OffsetStatistics]], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
    ):
        super().__init__()
        self._watched = model
        self._image = image
        self._every = check_for(PositiveInt)(every, "every")
        self._on_result = on_result
        self._on_warning = on_warning or (lambda text: warnings.warn(text, stacklevel=2))
        self._warned: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks if it is time for that, and adds the numbers to `logs`."""
        numbers = dict.fromkeys(LOG_NAMES, math.nan)
        if (epoch + 1) % self._every == 0:
            *values, layers, warnings_of = summarize_offsets(predicted_offsets(self._watched, self._image))
            numbers.update(zip(LOG_NAMES, values, strict=True))
            for name, warning in warnings_of.items():
                if name not in self._warned:
                    self._warned.add(name)
                    self._on_warning(warning)
            if self._on_result is not None:
                self._on_result(layers)
        if logs is not None:
            logs.update(numbers)
