"""Losses of a two-stage detector. All are scalars in float32, averaged over the images of the batch."""

import tensorflow as tf
from official.vision.ops import box_ops

from tf_dcnv2.models.targets import AnchorTargets, SampledRoIs


def smooth_l1(difference: tf.Tensor, beta: float) -> tf.Tensor:
    """Quadratic below `beta`, linear above, continuous in value and slope (Girshick, arXiv:1504.08083); L1 for 0."""
    size = tf.abs(difference)
    if beta == 0:
        return size
    return tf.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def rpn_losses(
    logits: tf.Tensor, deltas: tf.Tensor, targets: AnchorTargets, *, beta: float = 1.0 / 9.0
) -> dict[str, tf.Tensor]:
    """Objectness and box losses (smooth L1 with `beta`) of the sampled anchors, both divided by their number."""
    sampled = tf.cast(targets.sampled, tf.float32)
    positive = tf.cast(targets.positive, tf.float32)
    count = tf.maximum(tf.reduce_sum(sampled), 1.0)
    objectness = tf.nn.sigmoid_cross_entropy_with_logits(labels=positive, logits=logits)
    box = tf.reduce_sum(smooth_l1(deltas - targets.deltas, beta), axis=-1)
    return {
        "rpn_class_loss": tf.reduce_sum(objectness * sampled) / count,
        "rpn_box_loss": tf.reduce_sum(box * sampled * positive) / count,
    }


def box_head_losses(
    class_logits: tf.Tensor,
    class_deltas: tf.Tensor,
    rois: SampledRoIs,
    box_weights: tuple[float, ...],
    *,
    beta: float = 1.0,
) -> dict[str, tf.Tensor]:
    """Classification and class-specific box losses, both divided by the number of sampled RoIs.

    Args:
        class_logits: `(B, S, C + 1)` outputs for the sampled RoIs; class 0 is background.
        class_deltas: `(B, S, C, 4)`, of which those of an RoI's own class count.
        rois: the RoIs and what they should predict.
        box_weights: factors of (dy, dx, dh, dw) in the encoding of a box.
        beta: of the smooth L1 loss of boxes.
    """
    valid = tf.cast(rois.valid, tf.float32)
    count = tf.maximum(tf.reduce_sum(valid), 1.0)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=rois.labels, logits=class_logits)
    is_object = tf.cast(rois.labels > 0, tf.float32) * valid
    own_deltas = tf.gather(class_deltas, tf.maximum(rois.labels - 1, 0), batch_dims=2)
    goal = tf.where((rois.labels > 0)[..., None], rois.object_boxes, rois.boxes)
    wanted = box_ops.encode_boxes(goal, rois.boxes, weights=list(box_weights))
    box = tf.reduce_sum(smooth_l1(own_deltas - wanted, beta), axis=-1)
    return {
        "class_loss": tf.reduce_sum(cross_entropy * valid) / count,
        "box_loss": tf.reduce_sum(box * is_object) / count,
    }


def mask_loss(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of every pixel, averaged over the RoIs and their pixels; 0 without RoIs.

    Args:
        logits: `(N, S, S)`, of each RoI's own class.
        targets: `(N, S, S)`, 1 on the object and 0 elsewhere.
    """
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.math.divide_no_nan(tf.reduce_sum(cross_entropy), tf.cast(tf.size(logits), tf.float32))
