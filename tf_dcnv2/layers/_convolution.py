"""An ordinary convolution with every combination of strides, dilation and padding that the deformable one takes."""

from collections.abc import Sequence

import tensorflow as tf

from tf_dcnv2.ops import arguments


def convolution(
    x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: arguments.Padding, dilation_rate: Sequence[int]
) -> tf.Tensor:
    """Convolves `x` `(B, H, W, C)` with `kernel` `(kh, kw, C, O)`, trainable on CPUs whatever the dilation.

    TensorFlow has no CPU gradient for dilated convolutions: `tf.nn.convolution` works around it, without strides.
    """
    mode, explicit = arguments.padding_mode(padding)
    if max(dilation_rate) == 1:
        return tf.nn.conv2d(x, kernel, strides, _all_axes(explicit[:2], explicit[2:]) if explicit else mode)
    if max(strides) == 1 and not explicit:
        return tf.nn.convolution(x, kernel, padding=mode, dilations=dilation_rate)
    if mode == "SAME":
        sides = [
            arguments.same_padding(tf.shape(x)[1 + axis], kernel.shape[axis], strides[axis], dilation_rate[axis])
            for axis in (0, 1)
        ]
    else:
        sides = [explicit[:2] or (0, 0), explicit[2:] or (0, 0)]
    dense = tf.nn.convolution(tf.pad(x, _all_axes(*sides)), kernel, padding="VALID", dilations=dilation_rate)
    return dense[:, :: strides[0], :: strides[1]]


def _all_axes(rows: Sequence, columns: Sequence) -> list:
    return [(0, 0), rows, columns, (0, 0)]
