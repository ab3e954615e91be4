"""Which level of a feature pyramid an RoI is pooled from."""

import tensorflow as tf


def fpn_levels(boxes: tf.Tensor, num_levels: int, *, finest: int = 2, canonical_size: float = 224.0) -> tf.Tensor:
    """The pyramid level of each RoI, floor(4 + log2(sqrt(area) / canonical_size)), as an index into a list of levels.

    Args:
        boxes: `(..., 4)`, `[y1, x1, y2, x2]` in pixels of the network image.
        num_levels: length of the list.
        finest: level of the list's first map, 2 for a list P2, P3, ...; RoIs of finer or coarser levels go to its ends.
        canonical_size: side in pixels of a RoI of level 4.

    Returns:
        `(...)` int32 in [0, num_levels). Boxes that are NaN or have no area belong to index 0.
    """
    size = tf.maximum(boxes[..., 2:4] - boxes[..., :2], 0)
    area = tf.reduce_prod(size, axis=-1)
    # Level k is reached at the side canonical_size * 2**(k - 4): comparing areas says the same as the logarithm,
    # without rounding.
    upper_levels = range(finest + 1, finest + num_levels)
    limits = tf.constant([(canonical_size * 2.0 ** (level - 4)) ** 2 for level in upper_levels], boxes.dtype)
    # Summed as floating-point numbers: TensorFlow moves sums of int32 from a GPU to the host.
    return tf.cast(tf.reduce_sum(tf.cast(area[..., tf.newaxis] >= limits, boxes.dtype), axis=-1), tf.int32)
