"""Mask head of Mask R-CNN: which pixels of a RoI belong to the object, for each class (He et al., arXiv:1703.06870).

Shapes: N RoIs of all images, P x P bins, C classes (without background).
"""

from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.models.config import MaskHeadConfig
from tf_dcnv2.models.heads.roi_head import RoIHead


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class MaskHead(RoIHead):
    """RoIs on feature maps -> mask logits `(N, 2P, 2P, C)`: RoI pooling, 3x3 convolutions, upsampling, 1x1 convolution.

    Args:
        num_classes: C.
        strides: pixels per cell of each RoI feature level: `neck.strides["roi"]`.
        in_channels: channels of every level: `neck.channels["roi"]`.
        config: a `MaskHeadConfig`; or leave it out and give its fields by keyword.
        canonical_size: side in pixels of a RoI that is pooled from level 4; half the side, one level finer.
        kernel_regularizer: of every kernel, those of the pooling's offset branch included.

    Example:
        >>> head = MaskHead(num_classes=3, strides=(16,), in_channels=256)
        >>> head([tf.zeros([1, 14, 14, 256])], tf.constant([[0.0, 0.0, 100.0, 100.0]]), tf.constant([0])).shape
        TensorShape([1, 28, 28, 3])
    """

    settings = MaskHeadConfig
    config: MaskHeadConfig

    def _make_layers(self) -> None:
        config, num_classes = self.config, self.num_classes
        self.convolutions = self._make_convolutions(
            config.convolutions, config.channels, kernel_initializer="he_normal"
        )
        self.upsampling = keras.layers.Conv2DTranspose(
            config.channels,
            2,
            strides=2,
            activation="relu",
            kernel_initializer="he_normal",
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name="upsampling",
        )
        self.classifier = keras.layers.Conv2D(
            num_classes,
            1,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            kernel_regularizer=self.kernel_regularizer,
            dtype="float32",
            name="classifier",
        )

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. Their shapes follow from the constructor's arguments, whatever `input_shape` is."""
        super().build()
        side, channels = self.config.pool_size, self.in_channels
        for layer in self.convolutions:
            layer.build((None, side, side, channels))
            channels = self.config.channels
        self.upsampling.build((None, side, side, channels))
        self.classifier.build((None, 2 * side, 2 * side, self.config.channels))

    def call(self, levels: list[tf.Tensor], boxes: tf.Tensor, image_indices: tf.Tensor) -> tf.Tensor:
        """Logits of all classes for boxes `(N, 4)` in pixels, each of the image `image_indices` `(N,)`; N may be 0."""
        count = tf.shape(boxes)[0]
        # TensorFlow's convolutions fail on empty batches: an empty RoI stands in, and is dropped at the end.
        missing = tf.cast(count == 0, tf.int32)
        boxes, image_indices = tf.pad(boxes, [[0, missing], [0, 0]]), tf.pad(image_indices, [[0, missing]])
        x = self.pool(levels, boxes, image_indices)
        for layer in (*self.convolutions, self.upsampling, self.classifier):
            x = layer(x)
        return x[:count]


def mask_of_class(class_masks: tf.Tensor, class_indices: tf.Tensor) -> tf.Tensor:
    """The mask `(N, S, S)` of one class 0..C-1 for each RoI, out of those of all classes `(N, S, S, C)`."""
    return tf.gather(class_masks, class_indices, axis=3, batch_dims=1)
