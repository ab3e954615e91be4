"""What a detector wants of a backbone."""

from collections.abc import Mapping
from typing import Protocol

import tensorflow as tf


class Backbone(Protocol):
    """A Keras layer or model from images to feature maps of several levels.

    Level l is called `"C{l}"` and has a stride of 2**l pixels, or less where the last stage is dilated: "C2" to "C5" of
    a ResNet have strides 4, 8, 16 and 32. A backbone need not have all of them; the neck says which it takes.

    Attributes:
        strides: pixels per cell of each level.
        channels: of each level.
    """

    strides: Mapping[str, int]
    channels: Mapping[str, int]

    def preprocess(self, images: tf.Tensor) -> tf.Tensor:
        """RGB images `(B, H, W, 3)` in 0..255 as a call takes them."""

    def __call__(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Feature maps `(B, H, W, C)` by level of preprocessed images of any size."""
