"""The three normalisations a detector can use."""

import keras

from tf_dcnv2.models.config import BackboneConfig


def make_normalization(config: BackboneConfig, name: str, channels: int) -> keras.layers.Layer:
    """Frozen or trainable batch normalisation, or group normalisation with up to 32 groups."""
    if config.norm == "group":
        groups = next(count for count in (32, 16, 8, 4, 2, 1) if channels % count == 0)
        return keras.layers.GroupNormalization(groups=groups, epsilon=config.norm_epsilon, name=name)
    layer = keras.layers.BatchNormalization(epsilon=config.norm_epsilon, momentum=config.norm_momentum, name=name)
    if config.norm == "frozen_batch":
        # A BatchNormalization that is not trainable normalises by its moving averages, also in training.
        layer.trainable = False
    return layer
