"""Losses of a two-stage detector, scalars in float32.

Each is the mean, over the images of the batch, of what the image's own samples give. So the losses and gradients of a
batch are the means of those of its parts, weighted by their numbers of images: it makes no difference whether a batch
is computed at once, in parts one after another, or on several devices.
"""

import tensorflow as tf
from official.vision.ops import box_ops

from tf_dcnv2.models.targets import SampledAnchors, SampledRoIs


def smooth_l1(difference: tf.Tensor, beta: float) -> tf.Tensor:
    """Quadratic below `beta`, linear above, continuous in value and slope (Girshick, arXiv:1504.08083); L1 for 0."""
    size = tf.abs(difference)
    if beta == 0:
        return size
    return tf.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def rpn_losses(
    logits: tf.Tensor, deltas: tf.Tensor, sample: SampledAnchors, num_images: tf.Tensor, *, beta: float = 1.0 / 9.0
) -> dict[str, tf.Tensor]:
    """Objectness and box losses (smooth L1 with `beta`) of an image's sampled anchors, both divided by their number.

    Args:
        logits: `(N,)` of the sampled anchors.
        deltas: `(N, 4)` of the sampled anchors.
        sample: the anchors and what they should predict.
        num_images: B.
        beta: of the smooth L1 loss of boxes.
    """
    positive = tf.cast(sample.positive, tf.float32)
    objectness = tf.nn.sigmoid_cross_entropy_with_logits(labels=positive, logits=logits)
    box = tf.reduce_sum(smooth_l1(deltas - sample.deltas, beta), axis=-1)
    return {
        "rpn_class_loss": tf.reduce_mean(means_of_images(objectness, sample.image_indices, num_images)),
        "rpn_box_loss": tf.reduce_mean(means_of_images(box * positive, sample.image_indices, num_images)),
    }


def box_head_losses(
    class_logits: tf.Tensor,
    class_deltas: tf.Tensor,
    rois: SampledRoIs,
    box_weights: tuple[float, ...],
    *,
    beta: float = 1.0,
) -> dict[str, tf.Tensor]:
    """Classification and class-specific box losses, both divided by the number of an image's sampled RoIs.

    Args:
        class_logits: `(B, S, C + 1)` outputs for the sampled RoIs; class 0 is background.
        class_deltas: `(B, S, C, 4)`, of which those of an RoI's own class count.
        rois: the RoIs and what they should predict.
        box_weights: factors of (dy, dx, dh, dw) in the encoding of a box.
        beta: of the smooth L1 loss of boxes.
    """
    valid = tf.cast(rois.valid, tf.float32)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=rois.labels, logits=class_logits)
    is_object = tf.cast(rois.labels > 0, tf.float32)
    own_deltas = tf.gather(class_deltas, tf.maximum(rois.labels - 1, 0), batch_dims=2)
    goal = tf.where((rois.labels > 0)[..., None], rois.object_boxes, rois.boxes)
    wanted = box_ops.encode_boxes(goal, rois.boxes, weights=list(box_weights))
    box = tf.reduce_sum(smooth_l1(own_deltas - wanted, beta), axis=-1)
    return {
        "class_loss": _mean_of_images(cross_entropy, valid),
        "box_loss": _mean_of_images(box * is_object, valid),
    }


def mask_loss(logits: tf.Tensor, targets: tf.Tensor, image_indices: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of every pixel, averaged over the RoIs of an image and their pixels; 0 without RoIs.

    Args:
        logits: `(N, S, S)`, of each RoI's own class.
        targets: `(N, S, S)`, 1 on the object and 0 elsewhere.
        image_indices: int32 `(N,)`, the image of each RoI.
        weights: `(B,)`, of the images in the mean over images.
    """
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    of_rois = tf.reduce_mean(cross_entropy, axis=[1, 2])
    return tf.reduce_mean(weights * means_of_images(of_rois, image_indices, tf.shape(weights)[0]))


def means_of_images(values: tf.Tensor, image_indices: tf.Tensor, num_images: tf.Tensor) -> tf.Tensor:
    """The mean `(B,)` of each image's own values, 0 where it has none.

    Args:
        values: float32 `(N,)`, of all images.
        image_indices: int32 `(N,)`, the image of each.
        num_images: B.
    """
    sums = tf.math.unsorted_segment_sum(values, image_indices, num_images)
    counts = tf.math.unsorted_segment_sum(tf.ones_like(values), image_indices, num_images)
    return tf.math.divide_no_nan(sums, counts)


def _mean_of_images(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The mean over images of the mean of the values `(B, N)` whose weight `(B, N)` is 1; the others have weight 0."""
    sums = tf.reduce_sum(values * weights, axis=1)
    return tf.reduce_mean(tf.math.divide_no_nan(sums, tf.reduce_sum(weights, axis=1)))
