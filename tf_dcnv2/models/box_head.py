"""Fast R-CNN head: RoI pooling, two fully connected layers, class scores and class-specific boxes.

Shapes: B images, R RoIs per image, C classes (without background).
"""

from typing import NamedTuple

import keras
import tensorflow as tf
from official.vision.ops import box_ops

from tf_dcnv2.models.config import BoxHeadConfig
from tf_dcnv2.models.neck import Neck
from tf_dcnv2.models.roi_head import RoIHead
from tf_dcnv2.models.suppression import suppress


class Detections(NamedTuple):
    """Final detections of each image, best first: at most D, filled up with zeros.

    Attributes:
        boxes: `(B, D, 4)` in pixels.
        scores: `(B, D)` in [0, 1].
        class_indices: int32 `(B, D)` in 0..C-1.
        count: int32 `(B,)`, how many there are.
    """

    boxes: tf.Tensor
    scores: tf.Tensor
    class_indices: tf.Tensor
    count: tf.Tensor


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class BoxHead(RoIHead):
    """RoIs on feature maps -> class logits `(B, R, C + 1)` and box deltas `(B, R, C, 4)`; class 0 is background.

    Args:
        config: a `BoxHeadConfig`.
        neck: gives the strides and channels of the RoI feature levels.
        num_classes: C.
        canonical_size: of the rule that gives each RoI its level, see `NeckConfig`.
        kernel_regularizer: of every kernel of the head, those of the pooling's offset branch included.
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
        super().__init__(config, neck, canonical_size=canonical_size, kernel_regularizer=kernel_regularizer, **kwargs)
        self.num_classes = num_classes

        def dense(units, stddev=None, **arguments):
            if stddev:
                arguments["kernel_initializer"] = keras.initializers.RandomNormal(stddev=stddev)
            return keras.layers.Dense(units, kernel_regularizer=kernel_regularizer, **arguments)

        self.fc1 = dense(config.units, activation="relu", name="fc1")
        self.fc2 = dense(config.units, activation="relu", name="fc2")
        self.classifier = dense(num_classes + 1, stddev=0.01, dtype="float32", name="classifier")
        self.regressor = dense(4 * num_classes, stddev=0.001, dtype="float32", name="regressor")

    def build(self, input_shape=None) -> None:
        super().build()
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
        batch, count = tf.shape(boxes)[0], tf.shape(boxes)[1]
        if level_indices is not None:
            level_indices = tf.reshape(level_indices, [-1])
        image_indices = tf.repeat(tf.range(batch), count)
        pooled = self.pool(levels, tf.reshape(boxes, [-1, 4]), image_indices, level_indices)
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
) -> Detections:
    """Final detections: decode every class' box, suppress overlaps within each class, keep the best.

    Args:
        boxes: RoIs `(B, R, 4)`, zeros where there is none; the others as `BoxHead` returns them.
        image_sizes: `(B, 2)` true height and width, to which boxes are clipped.
    """
    scores = tf.nn.softmax(class_logits)[..., 1:]
    decoded = box_ops.decode_boxes(class_deltas, boxes[:, :, None, :], weights=list(config.box_weights))
    decoded = box_ops.clip_boxes(decoded, image_sizes[:, None, None, :])
    kept = suppress(decoded, scores, count=config.max_detections, iou=config.nms_iou, min_score=config.score_threshold)
    return Detections(kept.boxes, tf.maximum(kept.scores, 0.0), kept.classes, kept.count)
