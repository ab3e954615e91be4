"""From predicted deltas to boxes."""

import math
from typing import Literal

import tensorflow as tf
from official.vision.ops import box_ops

DeltaLimits = Literal["above", "both"]
_LARGEST_LOG_SIZE = math.log(1000 / 16)


def decode_boxes(
    deltas: tf.Tensor,
    boxes: tf.Tensor,
    image_sizes: tf.Tensor,
    *,
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    limits: DeltaLimits = "above",
) -> tf.Tensor:
    """Moves and resizes boxes by deltas, and clips them to their images.

    Args:
        deltas: `(B, ..., 4)`, (dy, dx, dh, dw) in sizes of the boxes and in logarithms, times `weights`.
        boxes: `[y1, x1, y2, x2]` in pixels, in a shape that broadcasts with that of `deltas`.
        image_sizes: `(B, 2)`, height and width of each image in pixels.
        weights: factors of the deltas.
        limits: whether (dh, dw) are kept from above log(1000 / 16) only, or from below its negative too.

    Returns:
        Boxes in the shape of `deltas`.
    """
    if limits == "both":
        lowest = tf.constant([-math.inf, -math.inf, -_LARGEST_LOG_SIZE * weights[2], -_LARGEST_LOG_SIZE * weights[3]])
        deltas = tf.maximum(deltas, tf.cast(lowest, deltas.dtype))
    decoded = box_ops.decode_boxes(deltas, boxes, weights=list(weights))
    missing = deltas.shape.rank - 2
    return box_ops.clip_boxes(decoded, tf.reshape(image_sizes, [-1, *[1] * missing, 2]))
