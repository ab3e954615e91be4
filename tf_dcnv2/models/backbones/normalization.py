"""The three normalisations a detector can use."""

from typing import Any

import keras

from tf_dcnv2.models.config import BackboneConfig


def make_normalization(config: BackboneConfig, channels: int, **arguments: Any) -> keras.layers.Layer:
    """Frozen or trainable batch normalisation, or group normalisation with up to 32 groups.

    Args:
        config: which, and its settings.
        channels: of its input.
        **arguments: of every Keras layer, such as `name`.
    """
    if config.norm == "group":
        groups = next(count for count in (32, 16, 8, 4, 2, 1) if channels % count == 0)
        return keras.layers.GroupNormalization(groups=groups, epsilon=config.norm_epsilon, **arguments)
    layer = keras.layers.BatchNormalization(epsilon=config.norm_epsilon, momentum=config.norm_momentum, **arguments)
    if config.norm == "frozen_batch":
        # A BatchNormalization that is not trainable normalises by its moving averages, also in training.
        layer.trainable = False
    return layer
