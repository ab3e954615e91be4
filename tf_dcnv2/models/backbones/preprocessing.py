"""From RGB pixels to what a backbone was trained on."""

from collections.abc import Sequence
from typing import Literal

import keras
import tensorflow as tf

Preprocessing = Literal["caffe", "torch", "unit", "rgb", "bgr", "none"]


def preprocess(
    images: tf.Tensor,
    preprocessing: Preprocessing,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
) -> tf.Tensor:
    """RGB images `(B, H, W, 3)` in 0..255 as a backbone takes them.

    Args:
        images: pixels.
        preprocessing: "caffe" (BGR, ImageNet's mean subtracted), "torch" (RGB, ImageNet's mean and deviation), "unit"
            (RGB scaled to [-1, 1]), "rgb" or "bgr" (normalised by `mean` and `deviation`, in this order of channels),
            or "none" (for networks that begin with a normalisation of their own).
        mean: of each channel, for "rgb" and "bgr".
        deviation: of each channel, likewise.
    """
    if preprocessing == "none":
        return images
    if preprocessing in ("rgb", "bgr"):
        ordered = images if preprocessing == "rgb" else tf.reverse(images, axis=[-1])
        return (ordered - tf.constant(mean, images.dtype)) / tf.constant(deviation, images.dtype)
    if preprocessing == "unit":
        return images / 127.5 - 1.0
    # Keras has the other two by the same names.
    return keras.applications.imagenet_utils.preprocess_input(images, data_format="channels_last", mode=preprocessing)
