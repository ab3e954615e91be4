"""Grouped convolution, as ResNeXt has it, at the speed of TensorFlow's own kernels."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` for `groups` above 1, channels last.

    Keras compiles every grouped convolution with XLA, anew for each image size, because TensorFlow's kernels for CPUs
    once had none; that takes seconds a layer, and a SavedModel that holds such a convolution needs XLA. TensorFlow's
    kernels have them now. Their gradients on a CPU are oneDNN's, which is on by default on x86.

    Example:
        >>> layer = tf_dcnv2.layers.GroupedConv2D(8, 3, groups=4, padding="same")
        >>> layer(keras.ops.ones((1, 16, 16, 4))).shape
        TensorShape([1, 16, 16, 8])
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Convolves `(B, H, W, C)` with `(kh, kw, C // groups, O)`; the layer adds bias and activation."""
        return tf.nn.conv2d(
            tf.convert_to_tensor(inputs),
            tf.convert_to_tensor(kernel),
            self.strides,
            self.padding.upper(),
            dilations=self.dilation_rate,
        )
