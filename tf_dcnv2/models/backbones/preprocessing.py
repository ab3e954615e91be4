"""From RGB pixels to what a backbone was trained on."""

from typing import Literal

import keras
import tensorflow as tf

Preprocessing = Literal["caffe", "torch", "unit", "none"]


def preprocess(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """RGB images `(B, H, W, 3)` in 0..255 as a backbone takes them.

    Args:
        images: pixels.
        preprocessing: "caffe" (BGR, ImageNet's mean subtracted), "torch" (RGB, ImageNet's mean and deviation), "unit"
            (RGB scaled to [-1, 1]) or "none" (for networks that begin with a normalisation of their own).
    """
    if preprocessing == "none":
        return images
    if preprocessing == "unit":
        return images / 127.5 - 1.0
    # Keras has the other two by the same names.
    return keras.applications.imagenet_utils.preprocess_input(images, data_format="channels_last", mode=preprocessing)
