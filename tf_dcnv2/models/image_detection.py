"""Detection on images of any size: read, resize, call, and back to the pixels of the image."""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tf_dcnv2.data import prepare_image, read_image
from tf_dcnv2.data.images.resizing import boxes_in_original

Image: TypeAlias = str | os.PathLike | np.ndarray | tf.Tensor


class ImageDetection:
    """A detector as a function of images, compiled once for images of all sizes.

    Args:
        detector: a function from `images` `(B, H, W, 3)` and `image_sizes` `(B, 2)` to detections.
    """

    def __init__(self, detector: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]):
        self._function = tf.function(
            lambda images, image_sizes: detector(images, image_sizes),
            input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 2])],
        )

    def __call__(
        self, images: Image | Sequence[Image], *, upright: bool, batch_size: int = 1, **size: Any
    ) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
        """The detections of an image, or of each of a list; see `FasterRCNN.detect`."""
        if not isinstance(images, list | tuple):
            return self._batch([images], upright, size)[0]
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1. Received: batch_size={batch_size}")
        starts = range(0, len(images), batch_size)
        return [found for start in starts for found in self._batch(images[start : start + batch_size], upright, size)]

    def _batch(self, images: Sequence[Image], upright: bool, size: dict[str, Any]) -> list[dict[str, np.ndarray]]:
        pixels = [
            read_image(image, upright=upright) if isinstance(image, str | os.PathLike) else _as_uint8(image)
            for image in images
        ]
        prepared = [prepare_image(image, **size) for image in pixels]
        height, width = np.max([image["images"].shape[1:3] for image in prepared], axis=0)
        padded = [tf.image.pad_to_bounding_box(image["images"], 0, 0, height, width) for image in prepared]
        image_sizes = tf.concat([image["image_sizes"] for image in prepared], axis=0)
        detections = {
            key: value.numpy() for key, value in self._function(tf.concat(padded, axis=0), image_sizes).items()
        }
        counts = detections.pop("num_detections")
        found = []
        for index, image in enumerate(pixels):
            of_image = {name: values[index, : counts[index]] for name, values in detections.items()}
            boxes = boxes_in_original(of_image["boxes"], image_sizes[index], image.shape[:2])
            found.append({**of_image, "boxes": boxes.astype(np.float32)})
        return found


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
