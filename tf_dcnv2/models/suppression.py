"""Non-maximum suppression of padded batches of boxes."""

import tensorflow as tf


def suppress(boxes: tf.Tensor, scores: tf.Tensor, *, count: int, iou: float, min_score: float = 0.0):
    """The best boxes of each image after non-maximum suppression within each class.

    Args:
        boxes: `(B, N, C, 4)` in pixels, one for each class.
        scores: `(B, N, C)`.
        count: boxes kept of an image.
        iou: overlap above which the weaker of two boxes of a class is dropped.
        min_score: boxes must score higher than this.

    Returns:
        As `tf.image.combined_non_max_suppression`, best first, filled up with zeros.
    """
    # An empty box overlaps nothing, so suppression would never drop it: give it no score instead.
    empty = tf.reduce_any(boxes[..., 2:] <= boxes[..., :2], axis=-1)
    return tf.image.combined_non_max_suppression(
        boxes,
        tf.where(empty, 0.0, scores),
        max_output_size_per_class=count,
        max_total_size=count,
        iou_threshold=iou,
        score_threshold=min_score,
        clip_boxes=False,
    )
