"""The normalisations a detector can use."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, for channels last, which in training calls TensorFlow's fused kernel.

    Keras writes the moments and what follows from them as a dozen ops, each of which reads the map and writes another
    one, in float32 whatever its dtype. Statistics are float32 here too, and the moving variance is the same one,
    without Bessel's correction. Batches that several replicas share go Keras' way, and so does float64.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        """`inputs` `(B, H, W, C)`, normalised by their own statistics in training, otherwise by the moving averages."""
        learns = training and self.trainable
        if not learns or mask is not None or self.synchronized or inputs.dtype == tf.float64:
            return super().call(inputs, training=training, mask=mask)
        none = tf.zeros([0])
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=none,
            variance=none,
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        variance *= tf.maximum(count - 1.0, 1.0) / count
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return outputs


def make_normalization(
    norm: str, channels: int, *, epsilon: float, momentum: float = 0.99, **arguments: Any
) -> keras.layers.Layer:
    """Frozen or trainable batch normalisation, or group normalisation with up to 32 groups.

    Args:
        norm: "frozen_batch", "batch" or "group".
        channels: of its input.
        epsilon: added to variances.
        momentum: of the moving averages of "batch".
        **arguments: of every Keras layer, such as `name`.
    """
    if norm == "group":
        groups = next(count for count in (32, 16, 8, 4, 2, 1) if channels % count == 0)
        return keras.layers.GroupNormalization(groups=groups, epsilon=epsilon, **arguments)
    layer = BatchNormalization(epsilon=epsilon, momentum=momentum, **arguments)
    if norm == "frozen_batch":
        # A BatchNormalization that is not trainable normalises by its moving averages, also in training.
        layer.trainable = False
    return layer
