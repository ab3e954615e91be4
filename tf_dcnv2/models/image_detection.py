"""Detection on single images of any size: read, resize, call, and back to the pixels of the image."""

import os
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.data import prepare_image, read_image
from tf_dcnv2.data.images.resizing import boxes_in_original

Image: TypeAlias = str | os.PathLike | np.ndarray | tf.Tensor


class ImageDetection:
    """A detector as a function of one image, compiled once for images of all sizes.

    Args:
        detector: a function from `images` `(B, H, W, 3)` and `image_sizes` `(B, 2)` to detections.
    """

    def __init__(self, detector: keras.Model):
        self._function = tf.function(
            lambda images, image_sizes: detector(images, image_sizes),
            input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 2])],
        )

    def __call__(self, image: Image, *, upright: bool, **size: Any) -> dict[str, np.ndarray]:
        """The detections of an image; see `FasterRCNN.detect`."""
        pixels = read_image(image, upright=upright) if isinstance(image, str | os.PathLike) else _as_uint8(image)
        inputs = prepare_image(pixels, **size)
        detections = {name: value[0].numpy() for name, value in self._function(**inputs).items()}
        count = detections.pop("num_detections")
        detections = {name: values[:count] for name, values in detections.items()}
        boxes = boxes_in_original(detections["boxes"], inputs["image_sizes"][0], pixels.shape[:2])
        return {**detections, "boxes": boxes.astype(np.float32)}


def _as_uint8(image: np.ndarray | tf.Tensor) -> np.ndarray:
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or 0 in pixels.shape:
        raise ValueError(
            "An image must be an RGB array of shape (H, W, 3), or the path of a file; several images go into a list. "
            f"Received: an array of shape {pixels.shape}"
        )
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    scaled_down = np.issubdtype(pixels.dtype, np.floating) and 0 < high <= 1
    if not (low >= 0 and high <= 255) or scaled_down:  # NaN compares false
        raise ValueError(
            f"An image must have values 0..255. Received: a {pixels.dtype.name} array with values {low:g}..{high:g}"
        )
    return np.rint(pixels).astype(np.uint8)
