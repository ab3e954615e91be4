"""Watches the offsets of deformable layers while they learn."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tf_dcnv2._core.checked_types import PositiveInt, check_for
from tf_dcnv2.analysis import LayerOffsets, OffsetStatistics, predicted_offsets, statistics_of

LOG_NAMES = ("offset_mean", "offset_p99", "offset_outside", "modulation")

# A layer whose samples reach across half of its map, or miss it that often, sees little of what lies below it.
_LONGEST_SHARE = 0.5
_MOST_OUTSIDE = 0.5


class OffsetMonitor(keras.callbacks.Callback):
    """Measures the offsets of every deformable layer on one image, and warns once of each layer that seems to diverge.

    Four numbers join the logs of `fit`, NaN for epochs that are left out:

    * `offset_mean`: mean length of the offsets in pixels of the image, over all layers;
    * `offset_p99`: 99th percentile of the lengths in pixels, of the layer where it is largest;
    * `offset_outside`: share of the samples of a convolution that lie beyond its input, where they contribute zero, of
      the layer where it is largest. Taps in the padding of a regular convolution count too;
    * `modulation`: mean modulation over all layers that have it.

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
            layers = predicted_offsets(self._watched, self._image)
            statistics = [statistics_of(layer) for layer in layers]
            numbers.update(_summary(layers, statistics))
            for layer, of_layer in zip(layers, statistics, strict=True):
                self._warn_of(layer, of_layer)
            if self._on_result is not None:
                self._on_result(statistics)
        if logs is not None:
            logs.update(numbers)

    def _warn_of(self, layer: LayerOffsets, statistics: OffsetStatistics) -> None:
        outside = statistics.outside
        if outside is None or layer.layer in self._warned:
            return
        side = max(layer.offsets.shape[:2])
        if statistics.p99 <= _LONGEST_SHARE * side and outside <= _MOST_OUTSIDE:
            return
        self._warned.add(layer.layer)
        self._on_warning(
            f"The offsets of {layer.layer} may be diverging: 1 % of them are longer than {statistics.p99:.1f} cells, "
            f"on a map of {layer.offsets.shape[0]} x {layer.offsets.shape[1]}, and {100 * outside:.0f} % of the "
            "samples lie beyond it. A lower learning rate or offset_learning_rate_multiplier, offset_clip, or a bound "
            "of the gradient's norm may help."
        )


def _summary(layers: list[LayerOffsets], statistics: list[OffsetStatistics]) -> dict[str, float]:
    in_pixels = [float(np.mean(layer.pixels)) for layer in layers]
    means = [pixels * one.mean for pixels, one in zip(in_pixels, statistics, strict=True)]
    p99s = [pixels * one.p99 for pixels, one in zip(in_pixels, statistics, strict=True)]
    outside = [one.outside for one in statistics if one.outside is not None]
    modulation = [one.modulation for one in statistics if one.modulation is not None]
    return {
        "offset_mean": float(np.mean(means)) if means else 0.0,
        "offset_p99": max(p99s, default=0.0),
        "offset_outside": max(outside, default=0.0),
        "modulation": float(np.mean(modulation)) if modulation else math.nan,
    }
