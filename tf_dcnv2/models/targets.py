"""What anchors and RoIs should predict: matching them with the objects, and sampling them for the losses.

Shapes: B images, A anchors, R candidate RoIs, S sampled RoIs, M object slots (unused ones have label 0).
Labels: 0 is background, 1..C are the classes.
"""

from typing import NamedTuple

import tensorflow as tf
from official.vision.ops import box_ops

from tf_dcnv2.models.config import BoxHeadConfig, RPNConfig
from tf_dcnv2.models.sampling import balanced_sample, random_keys


class SampledAnchors(NamedTuple):
    """The N anchors, of all images of a batch, that enter the losses of the RPN.

    Attributes:
        image_indices: int32 `(N,)`.
        anchor_indices: int32 `(N,)`.
        positive: bool `(N,)`, the anchor is on an object.
        deltas: `(N, 4)`, the encoded box of the matched object, zeros where `positive` is false.
    """

    image_indices: tf.Tensor
    anchor_indices: tf.Tensor
    positive: tf.Tensor
    deltas: tf.Tensor


class SampledRoIs(NamedTuple):
    """RoIs that enter the losses of the heads.

    Attributes:
        boxes: `(B, S, 4)` in pixels.
        labels: int32 `(B, S)`.
        object_boxes: `(B, S, 4)`, of the object that overlaps the RoI most.
        valid: bool `(B, S)`, false for filling.
        objects: int32 `(B, S)`, the slot of that object.
    """

    boxes: tf.Tensor
    labels: tf.Tensor
    object_boxes: tf.Tensor
    valid: tf.Tensor
    objects: tf.Tensor


def overlaps(boxes: tf.Tensor, object_boxes: tf.Tensor, object_labels: tf.Tensor) -> tf.Tensor:
    """IoU `(B, N, M)` of boxes `(B, N, 4)` with objects; -1 for unused slots."""
    unused = (object_labels == 0)[..., None]
    return box_ops.bbox_overlap(boxes, tf.where(unused, -1.0, object_boxes))


def sample_anchors(
    anchors: tf.Tensor, object_boxes: tf.Tensor, object_labels: tf.Tensor, config: RPNConfig, seeds: tf.Tensor
) -> SampledAnchors:
    """Draws `config.samples` anchors an image, at most half of them on objects.

    On an object: IoU >= `positive_iou` with some object, or no anchor overlaps that object more. Background: IoU below
    `negative_iou` with all. Others are not drawn.

    Args:
        anchors: `(A, 4)` boxes in pixels, the same for all images.
        object_boxes: `(B, M, 4)` in pixels.
        object_labels: `(B, M)`, 0 in unused slots.
        config: thresholds and number of samples.
        seeds: int64 `(B, 2)`, what the random choice for each image follows from.
    """
    of_images = tf.repeat(anchors[None], tf.shape(object_boxes)[0], axis=0)
    iou = overlaps(of_images, object_boxes, object_labels)
    best_iou = tf.reduce_max(iou, axis=2)
    best_of_object = tf.reduce_max(iou, axis=1, keepdims=True)
    is_best = tf.reduce_any((iou == best_of_object) & (iou > 0), axis=2)
    positive = (best_iou >= config.positive_iou) | is_best
    negative = (best_iou < config.negative_iou) & ~positive
    keys = random_keys(seeds, tf.shape(positive)[1], "anchors")
    where = tf.where(balanced_sample(positive, negative, keys, config.samples, 0.5))
    images, indices = tf.unstack(tf.cast(where, tf.int32), axis=1)
    positive, anchors = tf.gather_nd(positive, where), tf.gather(anchors, indices)
    objects = tf.argmax(tf.gather_nd(iou, where), axis=1, output_type=tf.int32)
    matched = tf.gather_nd(object_boxes, tf.stack([images, objects], axis=1))
    # Zero targets where nothing is matched: encoding an empty box would give the logarithm of zero.
    deltas = box_ops.encode_boxes(tf.where(positive[:, None], matched, anchors), anchors)
    return SampledAnchors(images, indices, positive, deltas)


def sample_rois(
    proposals: tf.Tensor, object_boxes: tf.Tensor, object_labels: tf.Tensor, config: BoxHeadConfig, seeds: tf.Tensor
) -> SampledRoIs:
    """Draws `samples` RoIs an image from proposals and objects, at most `positive_fraction` of them on objects.

    The choice for each image follows from its row of `seeds` `(B, 2)`.
    """
    candidates = tf.concat([proposals, object_boxes], axis=1)
    iou = overlaps(candidates, object_boxes, object_labels)
    best_iou = tf.reduce_max(iou, axis=2)
    not_empty = tf.reduce_all(candidates[..., 2:] > candidates[..., :2], axis=-1)
    positive = (best_iou >= config.positive_iou) & not_empty
    negative = (best_iou < config.positive_iou) & not_empty
    keys = random_keys(seeds, tf.shape(positive)[1], "rois")
    sampled = balanced_sample(positive, negative, keys, config.samples, config.positive_fraction)
    indices = tf.math.top_k(tf.cast(sampled, tf.int32), tf.minimum(config.samples, tf.shape(sampled)[1])).indices

    def sample(values: tf.Tensor) -> tf.Tensor:
        return tf.gather(values, indices, batch_dims=1)

    match = sample(tf.argmax(iou, axis=2, output_type=tf.int32))
    labels = tf.where(sample(positive), tf.gather(object_labels, match, batch_dims=1), 0)
    return SampledRoIs(
        tf.stop_gradient(sample(candidates)),
        labels,
        tf.gather(object_boxes, match, batch_dims=1),
        sample(sampled),
        match,
    )


def mask_targets(boxes: tf.Tensor, masks: tf.Tensor, frames: tf.Tensor, size: int) -> tf.Tensor:
    """Which of `size` x `size` equal cells of each RoI its object covers.

    Args:
        boxes: `(N, 4)`, N RoIs in pixels.
        masks: uint8 `(N, R, R)`, the object of each, sampled in R x R equal cells of a frame; zero outside.
        frames: `(N, 4)`, these frames in pixels.
        size: cells along each axis of an RoI.

    Returns:
        float32 `(N, size, size)`, 1 where at least half of a cell is covered, 0 elsewhere.
    """
    resolution = tf.shape(masks)[1]
    rows, columns = (_shared_lengths(boxes, frames, axis, size, resolution) for axis in (0, 1))
    covered = tf.einsum("nir,nrc,njc->nij", rows, tf.cast(masks, tf.float32), columns)
    # Sums of what is exactly half may be a rounding error below it.
    return tf.cast(covered >= 0.5 - 1e-5, tf.float32)


def _shared_lengths(boxes: tf.Tensor, frames: tf.Tensor, axis: int, size: int, resolution: tf.Tensor) -> tf.Tensor:
    """`(N, size, resolution)`: the part of each cell of a box that lies in each cell of its frame, along an axis."""

    def edges(corners: tf.Tensor, cells: int | tf.Tensor) -> tf.Tensor:
        near, far = corners[:, axis, None], corners[:, axis + 2, None]
        return near + (far - near) * tf.range(cells + 1, dtype=tf.float32) / tf.cast(cells, tf.float32)

    of_box, of_frame = edges(boxes, size)[:, :, None], edges(frames, resolution)[:, None]
    shared = tf.minimum(of_box[:, 1:], of_frame[..., 1:]) - tf.maximum(of_box[:, :-1], of_frame[..., :-1])
    return tf.math.divide_no_nan(tf.maximum(shared, 0.0), of_box[:, 1:] - of_box[:, :-1])
