"""Fast R-CNN head: RoI pooling, two fully connected layers, class scores and class-specific boxes.

Shapes: B images, R RoIs per image, C classes (without background).
"""

import keras
import tensorflow as tf
from official.vision.ops import box_ops

from tf_dcnv2.layers import DeformableRoIPooling, ModulatedDeformableRoIPooling, RoIAlign
from tf_dcnv2.models.config import BoxHeadConfig
from tf_dcnv2.models.neck import Neck
from tf_dcnv2.models.suppression import suppress
from tf_dcnv2.ops.roi_pool import fpn_levels


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class BoxHead(keras.layers.Layer):
    """RoIs on feature maps -> class logits `(B, R, C + 1)` and box deltas `(B, R, C, 4)`; class 0 is background.

    Args:
        config: a `BoxHeadConfig`.
        neck: gives the strides and channels of the RoI feature levels.
        num_classes: C.
        canonical_size: of the rule that gives each RoI its level, see `NeckConfig`.
    """

    def __init__(
        self,
        config: BoxHeadConfig,
        neck: Neck,
        num_classes: int,
        *,
        canonical_size: float = 224.0,
        kernel_regularizer=None,
        **kwargs,
    ):
        # Without autocast, which would round boxes to half precision.
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self.num_classes = num_classes
        self._strides = neck.roi_strides
        self._channels = neck.roi_channels
        self._canonical_size = canonical_size
        arguments = {"output_size": config.pool_size, "spatial_scale": [1.0 / s for s in neck.roi_strides]}
        if config.pooling == "none":
            self.pooling = RoIAlign(**arguments, name="pooling")
        else:
            pooling = DeformableRoIPooling if config.pooling == "v1" else ModulatedDeformableRoIPooling
            self.pooling = pooling(**arguments, hidden_units=config.pool_branch_units, name="pooling")

        def dense(units, stddev=None, **arguments):
            if stddev:
                arguments["kernel_initializer"] = keras.initializers.RandomNormal(stddev=stddev)
            return keras.layers.Dense(units, kernel_regularizer=kernel_regularizer, **arguments)

        self.fc1 = dense(config.units, activation="relu", name="fc1")
        self.fc2 = dense(config.units, activation="relu", name="fc2")
        self.classifier = dense(num_classes + 1, stddev=0.01, dtype="float32", name="classifier")
        self.regressor = dense(4 * num_classes, stddev=0.001, dtype="float32", name="regressor")

    def build(self, input_shape=None) -> None:
        levels = [(None, None, None, self._channels)] * len(self._strides)
        self.pooling.build(levels)
        self.fc1.build((None, self.config.pool_size**2 * self._channels))
        for layer in (self.fc2, self.classifier, self.regressor):
            layer.build((None, self.config.units))

    def features(self, levels: list[tf.Tensor], boxes: tf.Tensor, level_indices: tf.Tensor | None = None) -> tf.Tensor:
        """The 2-fc feature `(B, R, units)` of boxes `(B, R, 4)`; the one that is mimicked (paper sec. 4.3).

        Args:
            levels: RoI features, finest first.
            boxes: in pixels of the network image.
            level_indices: int32 `(B, R)`, the level of each RoI; by default the FPN rule.
        """
        if level_indices is None:
            finest = self._strides[0].bit_length() - 1  # level l has stride 2**l
            level_indices = fpn_levels(boxes, len(self._strides), finest=finest, canonical_size=self._canonical_size)
        batch, count = tf.shape(boxes)[0], tf.shape(boxes)[1]
        pooled = self.pooling(
            levels,
            tf.reshape(boxes, [-1, 4]),
            tf.repeat(tf.range(batch), count),
            levels=tf.reshape(level_indices, [-1]),
        )
        flat = tf.reshape(pooled, [batch * count, self.config.pool_size**2 * self._channels])
        return tf.reshape(self.fc2(self.fc1(flat)), [batch, count, self.config.units])

    def predict(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Class logits and box deltas from the 2-fc features."""
        shape = tf.shape(features)
        deltas = self.regressor(features)
        return self.classifier(features), tf.reshape(deltas, [shape[0], shape[1], self.num_classes, 4])

    def call(self, levels: list[tf.Tensor], boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.predict(self.features(levels, boxes))


def detect(
    boxes: tf.Tensor, class_logits: tf.Tensor, class_deltas: tf.Tensor, image_sizes: tf.Tensor, config: BoxHeadConfig
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Final detections: decode every class' box, suppress overlaps within each class, keep the best.

    Args:
        boxes: RoIs `(B, R, 4)`, zeros where there is none; the others as `BoxHead` returns them.
        image_sizes: `(B, 2)` true height and width, to which boxes are clipped.

    Returns:
        boxes `(B, D, 4)`, scores `(B, D)`, class indices int32 `(B, D)` in 0..C-1, counts int32 `(B,)`; best first.
    """
    scores = tf.nn.softmax(class_logits)[..., 1:]
    decoded = box_ops.decode_boxes(class_deltas, boxes[:, :, None, :], weights=list(config.box_weights))
    decoded = box_ops.clip_boxes(decoded, image_sizes[:, None, None, :])
    kept = suppress(decoded, scores, count=config.max_detections, iou=config.nms_iou, min_score=config.score_threshold)
    return kept.nmsed_boxes, kept.nmsed_scores, tf.cast(kept.nmsed_classes, tf.int32), kept.valid_detections
