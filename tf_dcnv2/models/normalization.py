"""The normalisations a detector can use."""

from typing import Any

import keras


def make_normalization(
    norm: str, channels: int, *, epsilon: float, momentum: float = 0.99, **arguments: Any
) -> keras.layers.Layer:
    """Frozen or trainable batch normalisation, or group normalisation with up to 32 groups.

    Args:
        norm: "frozen_batch", "batch" or "group".
        channels: of its input.
        epsilon: added to variances.
        momentum: of the moving averages of "batch".
        **arguments: of every Keras layer, such as `name`.
    """
    if norm == "group":
        groups = next(count for count in (32, 16, 8, 4, 2, 1) if channels % count == 0)
        return keras.layers.GroupNormalization(groups=groups, epsilon=epsilon, **arguments)
    layer = keras.layers.BatchNormalization(epsilon=epsilon, momentum=momentum, **arguments)
    if norm == "frozen_batch":
        # A BatchNormalization that is not trainable normalises by its moving averages, also in training.
        layer.trainable = False
    return layer
