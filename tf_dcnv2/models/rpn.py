"""Region proposal network: which anchors hold an object, and where exactly.

Shapes: B images, L levels, A anchors of all levels of an image, P proposals.
"""

import keras
import tensorflow as tf
from official.vision.ops import box_ops

from tf_dcnv2.models.config import RPNConfig
from tf_dcnv2.models.suppression import suppress


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class RPNHead(keras.layers.Layer):
    """One 3x3 convolution and two 1x1 ones, shared by all levels (Ren et al., arXiv:1506.01497).

    Input: a list of `(B, H, W, C)` levels.
    Output: for each level, objectness logits `(B, H*W*K)` and box deltas `(B, H*W*K, 4)` for K anchors a cell.
    """

    def __init__(self, channels: int, anchors_per_cell: int, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)

        def convolution(filters, size, name, **arguments):
            return keras.layers.Conv2D(
                filters,
                size,
                padding="same",
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
                kernel_regularizer=kernel_regularizer,
                name=name,
                **arguments,
            )

        self.shared = convolution(channels, 3, "shared", activation="relu")
        # float32 outputs: scores are ranked and boxes are coordinates, whatever the compute dtype.
        self.objectness = convolution(anchors_per_cell, 1, "objectness", dtype="float32")
        self.boxes = convolution(4 * anchors_per_cell, 1, "boxes", dtype="float32")

    def build(self, input_shape) -> None:
        self.shared.build(input_shape)
        hidden = (*input_shape[:-1], self.shared.filters)
        self.objectness.build(hidden)
        self.boxes.build(hidden)

    def call(self, levels: list[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        logits, deltas = [], []
        for level in levels:
            batch = tf.shape(level)[0]
            hidden = self.shared(level)
            logits.append(tf.reshape(self.objectness(hidden), [batch, -1]))
            deltas.append(tf.reshape(self.boxes(hidden), [batch, -1, 4]))
        return logits, deltas


def propose(
    logits: list[tf.Tensor],
    deltas: list[tf.Tensor],
    anchors: list[tf.Tensor],
    image_sizes: tf.Tensor,
    config: RPNConfig,
    training: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The best boxes of each image after non-maximum suppression within each level.

    Args:
        logits, deltas: of `RPNHead`; anchors: of `Anchors`.
        image_sizes: `(B, 2)` true height and width, to which boxes are clipped.
        config: counts and thresholds; `training` picks the first or second count of each pair.

    Returns:
        Boxes `(B, P, 4)` in pixels and their scores `(B, P)`, best first, filled up with zeros. No gradient.
    """
    pre_nms = config.pre_nms[0 if training else 1]
    count = config.proposals[0 if training else 1]
    boxes, ranks = [], []
    for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors, strict=True):
        best = tf.math.top_k(level_logits, tf.minimum(pre_nms, tf.shape(level_logits)[1]))
        decoded = box_ops.decode_boxes(
            tf.gather(level_deltas, best.indices, batch_dims=1), tf.gather(level_anchors, best.indices)
        )
        decoded = box_ops.clip_boxes(decoded, image_sizes[:, None, :])
        # Ranked by logit: probabilities of logits above 17 are all 1.
        kept = suppress(decoded[:, :, None, :], best.values[:, :, None], count=count, iou=config.nms_iou)
        boxes.append(kept.boxes)
        ranks.append(kept.scores)
    boxes, ranks = tf.concat(boxes, axis=1), tf.concat(ranks, axis=1)
    if len(logits) > 1:
        best = tf.math.top_k(ranks, count)
        boxes, ranks = tf.gather(boxes, best.indices, batch_dims=1), best.values
    return tf.stop_gradient(boxes), tf.stop_gradient(tf.sigmoid(ranks))
