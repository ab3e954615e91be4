"""An ordinary convolution with every combination of strides, dilation and padding that the deformable one takes."""

from collections.abc import Sequence

import tensorflow as tf

from tf_dcnv2.ops import arguments


def convolution(
    x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: arguments.Padding, dilation_rate: Sequence[int]
) -> tf.Tensor:
    """Convolves `x` `(B, H, W, C)` with `kernel` `(kh, kw, C, O)`, on CPUs too whatever the dilation and batch size."""
    window = (kernel, strides, padding, dilation_rate)
    if x.shape[0]:
        return _convolve(x, *window)
    # On CPUs TensorFlow's float32 convolution gives an empty batch the shape of its input: it gets one blank image.

    def convolve_blank():
        # Not by tf.pad, which oneDNN merges into the convolution as if it padded rows and columns.
        blank = tf.zeros(tf.concat([[1], tf.shape(x)[1:]], axis=0), x.dtype)
        return _convolve(tf.concat([x, blank], axis=0), *window)[:0]

    if x.shape[0] == 0:
        return convolve_blank()
    return tf.cond(tf.equal(tf.shape(x)[0], 0), convolve_blank, lambda: _convolve(x, *window))


def _convolve(x, kernel, strides, padding, dilation_rate):
    """Without a care for empty batches.

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
