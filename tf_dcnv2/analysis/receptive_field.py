"""Effective receptive fields (paper sec. 3.2)."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.analysis._response import response_of
from tf_dcnv2.analysis.nodes import Node


def effective_receptive_field(model: keras.Model, image: Any, node: Node) -> np.ndarray:
    """How strongly each pixel of an image acts on a node: the magnitude of the gradient of the node's response.

    The response is the sum of the node's channels, as in Luo et al. (arXiv:1701.04128), and the magnitude that of the
    gradient with respect to all channels of the pixel. Deformable ConvNets v2, sec. 3.2, fig. 1 and 2.

    Args:
        model: a detector, or any Keras model.
        image: `(H, W, C)` as the model takes it. For a detector, RGB 0..255, at the size that the network sees:
            see `network_image`.
        node: a `ConvNode`, or for a detector a `RoINode`.

    Returns:
        float32 `(H, W)`, at least 0, response per unit of intensity.

    Raises:
        ValueError: the model has no such node on this image; the message says what it has.

    Example:
        >>> image = tf_dcnv2.analysis.network_image(detector, "cells.jpg")
        >>> field = tf_dcnv2.analysis.effective_receptive_field(detector, image, ConvNode("C5", row=4, column=7))
        >>> field.shape == image.shape[:2]
        True
    """
    response = response_of(model, image, node)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(response.image)
        value = response.value()
    gradient = tape.gradient(value, response.image, unconnected_gradients="zero")
    return tf.norm(gradient[0], axis=-1).numpy()
