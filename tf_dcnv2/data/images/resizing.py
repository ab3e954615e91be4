"""One rule for how an image becomes the network's input, shared by training, evaluation and prediction.

The way back, for boxes, is here too.
"""

from typing import Literal

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tf_dcnv2._core.checked_types import PositiveInt, checked_arguments

# Sides of padded images are multiples of this unless stated otherwise: the coarsest stride of stages 2 to 5.
SIZE_MULTIPLE = 32

# Who resizes: TensorFlow, with values rounded to whole ones; "torchvision": likewise, not rounded; OpenCV, as
# mmdetection; Pillow, as detectron2, which averages over the pixels that shrink into one.
Resizing = Literal["tensorflow", "torchvision", "opencv", "pillow"]


def resized_shape(
    height: tf.Tensor,
    width: tf.Tensor,
    *,
    short_side: int,
    max_side: int,
    canvas: tuple[int, int] | None = None,
    resizing: Resizing = "tensorflow",
) -> tf.Tensor:
    """Size of an image after resizing: shorter side to `short_side`, longer side at most `max_side`.

    Args:
        height: scalar int tensor, image height in pixels.
        width: scalar int tensor.
        short_side: wanted length of the shorter side in pixels.
        max_side: upper bound of the longer side; wins over `short_side`.
        canvas: optional `(height, width)` the result must fit into.
        resizing: "torchvision" rounds sizes down.

    Returns:
        `(2,)` int32 tensor `(height, width)`, each at least 1. The aspect ratio is kept up to rounding.
    """
    size = tf.cast(tf.stack([height, width]), tf.float32)
    scale = tf.minimum(short_side / tf.reduce_min(size), max_side / tf.reduce_max(size))
    limit = tf.fill([2], tf.int32.max)
    if canvas is not None:
        limit = tf.constant(canvas, tf.int32)
        scale = tf.minimum(scale, tf.reduce_min(tf.cast(limit, tf.float32) / size))
    if resizing == "torchvision":
        # In the precision in which it is done there: a scale that was rounded down may cost a pixel.
        scaled = tf.floor(tf.cast(size, tf.float64) * tf.cast(scale, tf.float64))
    else:
        scaled = tf.round(size * scale)
    return tf.clip_by_value(tf.cast(scaled, tf.int32), 1, limit)


def resize_image(image: tf.Tensor, shape: tf.Tensor, resizing: Resizing = "tensorflow") -> tf.Tensor:
    """Bilinear resize of an `(H, W, 3)` uint8 image to `shape`.

    Args:
        image: pixels.
        shape: int32 `(2,)`, height and width.
        resizing: whose arithmetic to follow, see `Resizing`.

    Returns:
        uint8, or float32 0..255 with "torchvision", which does not round.
    """
    if resizing in _LIBRARIES:
        resized = tf.numpy_function(_LIBRARIES[resizing], [image, shape], tf.uint8)
    else:
        resized = tf.image.resize(image, shape, method="bilinear")
        if resizing == "tensorflow":
            resized = tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)
    return tf.ensure_shape(resized, [None, None, 3])


def _opencv(image: np.ndarray, shape: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(image, (int(shape[1]), int(shape[0])), interpolation=cv2.INTER_LINEAR)


def _pillow(image: np.ndarray, shape: np.ndarray) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((int(shape[1]), int(shape[0])), Image.Resampling.BILINEAR))


_LIBRARIES = {"opencv": _opencv, "pillow": _pillow}


def pad_to_multiple(image: tf.Tensor, size_multiple: int) -> tf.Tensor:
    """Adds zeros at the bottom and right so that both sides are multiples of `size_multiple`."""
    shape = tf.shape(image)[:2]
    missing = -shape % size_multiple
    return tf.pad(image, [[0, missing[0]], [0, missing[1]], [0, 0]])


@checked_arguments
def prepare_image(
    image: np.ndarray,
    *,
    short_side: PositiveInt = 800,
    max_side: PositiveInt = 1333,
    size_multiple: PositiveInt = SIZE_MULTIPLE,
    resizing: Resizing = "tensorflow",
) -> dict[str, tf.Tensor]:
    """Turns one image into a detector's input, exactly as `load_records` does.

    Args:
        image: `(H, W, 3)` uint8 RGB, for instance from `read_image`.
        short_side: length of the shorter side after resizing, in pixels.
        max_side: upper bound of the longer side.
        size_multiple: the padded size is a multiple of this.
        resizing: whose arithmetic resizes: "tensorflow", or for detectors that were trained with it, "torchvision",
            "opencv" (mmdetection) or "pillow" (detectron2).

    Returns:
        `{"images": (1, H', W', 3) float32 0..255, "image_sizes": (1, 2) float32 height and width without padding}`.
        `boxes_in_original` maps what is found in it back to `image`.

    Raises:
        ValueError: `image` is not `(H, W, 3)`, or a size is not positive.

    Example:
        >>> inputs = prepare_image(read_image("cells.jpg"), short_side=320)
        >>> detections = detector(inputs)
    """
    if np.ndim(image) != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be a (height, width, 3) array. Received: shape {np.shape(image)}")
    shape = resized_shape(image.shape[0], image.shape[1], short_side=short_side, max_side=max_side, resizing=resizing)
    resized = resize_image(tf.convert_to_tensor(image, tf.uint8), shape, resizing)
    padded = tf.cast(pad_to_multiple(resized, size_multiple), tf.float32)
    return {"images": padded[None], "image_sizes": tf.cast(shape, tf.float32)[None]}


def boxes_in_original(boxes: ArrayLike, image_size: ArrayLike, original_size: ArrayLike) -> np.ndarray:
    """Maps boxes in a resized image to the image that it was made from.

    Args:
        boxes: `(..., 4)` `[y1, x1, y2, x2]` in pixels of the resized image.
        image_size: its `(height, width)` in pixels, without padding.
        original_size: `(height, width)` of the original.

    Returns:
        `(..., 4)` float64, in pixels of the original.

    Example:
        >>> boxes_in_original([[0, 0, 10, 20]], image_size=(100, 200), original_size=(50, 50))
        array([[0., 0., 5., 5.]])
    """
    scale = np.asarray(original_size, np.float64) / np.asarray(image_size, np.float64)
    return np.asarray(boxes, np.float64) * np.tile(scale, 2)
