"""Non-maximum suppression of padded batches of boxes."""

from typing import NamedTuple

import tensorflow as tf


class Kept(NamedTuple):
    """What suppression leaves of each image, best first, at most K boxes.

    Attributes:
        boxes: `(B, K, 4)`, zeros when unused.
        scores: `(B, K)`, 0 when unused.
        classes: int32 `(B, K)`, index of the class, 0 when unused.
        count: int32 `(B,)`, how many there are.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    classes: tf.Tensor
    count: tf.Tensor


def suppress(
    boxes: tf.Tensor,
    scores: tf.Tensor,
    *,
    count: int,
    iou: float,
    min_score: float = 0.0,
    smallest_side: float = 0.0,
) -> Kept:
    """The best boxes of each image after non-maximum suppression within each class.

    Args:
        boxes: `(B, N, C, 4)` in pixels, one for each class, or `(B, N, 1, 4)`, one for all. Empty ones are left out.
        scores: `(B, N, C)`, positive numbers that rank the boxes. TensorFlow's op pads its results with scores of -1
            before it sorts them, so that boxes with lower ones, such as logits, would be lost.
        count: boxes kept of an image.
        iou: overlap above which the weaker of two boxes of a class is dropped.
        min_score: boxes must score higher than this.
        smallest_side: boxes with a shorter side, in pixels, are left out too.
    """
    # An empty box overlaps nothing, so suppression would never drop it: give it the score of none instead.
    sides = boxes[..., 2:] - boxes[..., :2]
    empty = tf.reduce_any((sides <= 0) | (sides < smallest_side), axis=-1)
    kept = tf.image.combined_non_max_suppression(
        boxes,
        tf.where(empty, 0.0, scores),
        max_output_size_per_class=count,
        max_total_size=count,
        iou_threshold=iou,
        score_threshold=min_score,
        clip_boxes=False,
    )
    used = tf.sequence_mask(kept.valid_detections, count)
    return Kept(
        kept.nmsed_boxes,
        tf.where(used, kept.nmsed_scores, 0.0),
        tf.cast(kept.nmsed_classes, tf.int32),
        kept.valid_detections,
    )
