"""Fast R-CNN head: RoI pooling, fully connected layers, class scores and class-specific boxes.

Shapes: B images, R RoIs per image, C classes (without background).
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_dcnv2.models.box_coding import decode_boxes
from tf_dcnv2.models.config import BoxHeadConfig
from tf_dcnv2.models.heads.roi_head import RoIHead
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
        num_classes: C.
        strides: pixels per cell of each RoI feature level: `neck.strides["roi"]`.
        in_channels: channels of every level: `neck.channels["roi"]`.
        config: a `BoxHeadConfig`; or leave it out and give its fields by keyword.
        canonical_size: side in pixels of a RoI that is pooled from level 4; half the side, one level finer.
        kernel_regularizer: of every kernel, those of the pooling's offset branch included.

    Example:
        >>> head = BoxHead(num_classes=3, strides=(16,), in_channels=256, pooling="v2")
        >>> boxes = tf.constant([[[0.0, 0.0, 100.0, 100.0]]])
        >>> class_logits, deltas = head([tf.zeros([1, 14, 14, 256])], boxes)
        >>> deltas.shape
        TensorShape([1, 1, 3, 4])
    """

    settings = BoxHeadConfig
    config: BoxHeadConfig

    def _make_layers(self) -> None:
        config, num_classes = self.config, self.num_classes
        hidden = {"activation": "relu", "dtype": self.dtype_policy}
        self.convolutions = self._make_convolutions(config.convolutions, config.conv_channels)
        self.fc1 = self._dense(config.units, "fc1", **hidden)
        self.fc2 = self._dense(config.units, "fc2", **hidden) if config.fully_connected > 1 else None
        # float32 outputs: scores are ranked and boxes are coordinates, whatever the compute dtype.
        self.classifier = self._dense(num_classes + 1, "classifier", stddev=0.01, dtype="float32")
        boxes = 1 if config.class_agnostic else num_classes
        self.regressor = self._dense(4 * boxes, "regressor", stddev=0.001, dtype="float32")

    def _dense(self, units: int, name: str, stddev: float | None = None, **arguments: Any) -> keras.layers.Dense:
        initializer = "glorot_uniform" if stddev is None else keras.initializers.RandomNormal(stddev=stddev)
        return keras.layers.Dense(
            units,
            kernel_initializer=initializer,
            kernel_regularizer=self.kernel_regularizer,
            name=name,
            **arguments,
        )

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. Their shapes follow from the constructor's arguments, whatever `input_shape` is."""
        super().build()
        side, channels = self.config.pool_size, self.in_channels
        for layer in self.convolutions:
            layer.build((None, side, side, channels))
            channels = self.config.conv_channels
        self.fc1.build((None, side**2 * channels))
        for layer in (self.fc2, self.classifier, self.regressor):
            if layer is not None:
                layer.build((None, self.config.units))

    def features(self, levels: list[tf.Tensor], boxes: tf.Tensor, level_indices: tf.Tensor | None = None) -> tf.Tensor:
        """The output `(B, R, units)` of the last fully connected layer for boxes `(B, R, 4)`.

        With two such layers it is the 2-fc feature that is mimicked (paper sec. 4.3).

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
        for layer in self.convolutions:
            pooled = layer(pooled)
        hidden = self.fc1(tf.reshape(pooled, [batch * count, self.config.pool_size**2 * pooled.shape[-1]]))
        if self.fc2 is not None:
            hidden = self.fc2(hidden)
        return tf.reshape(hidden, [batch, count, self.config.units])

    def predict(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Class logits and box deltas from the `features` of boxes."""
        shape = tf.shape(features)
        # Not -1: from a batch of any size OpenVINO infers wrong bounds for the number of classes.
        deltas = tf.reshape(self.regressor(features), [shape[0], shape[1], self.regressor.units // 4, 4])
        if self.config.class_agnostic:
            deltas = tf.repeat(deltas, self.num_classes, axis=2)
        return self.classifier(features), deltas

    def call(self, levels: list[tf.Tensor], boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Class logits `(B, R, C + 1)` and box deltas `(B, R, C, 4)` of boxes `(B, R, 4)` in pixels."""
        return self.predict(self.features(levels, boxes))

    def detections(
        self, boxes: tf.Tensor, class_logits: tf.Tensor, class_deltas: tf.Tensor, image_sizes: tf.Tensor
    ) -> Detections:
        """Final detections: decodes every class' box, suppresses overlaps within each class, keeps the best.

        Args:
            boxes: RoIs `(B, R, 4)`, zeros where there is none.
            class_logits: `(B, R, C + 1)` outputs for them.
            class_deltas: `(B, R, C, 4)` outputs for them.
            image_sizes: `(B, 2)` true height and width, to which boxes are clipped.
        """
        config = self.config
        scores = tf.nn.softmax(class_logits)[..., 1:]
        decoded = decode_boxes(
            class_deltas,
            boxes[:, :, None, :],
            image_sizes,
            weights=config.box_weights,
            limits=config.delta_limits,
        )
        kept = suppress(
            decoded,
            scores,
            count=config.max_detections,
            iou=config.nms_iou,
            min_score=config.score_threshold,
            smallest_side=config.smallest_side,
        )
        return Detections(kept.boxes, kept.scores, kept.classes, kept.count)
