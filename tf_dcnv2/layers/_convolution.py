"""An ordinary convolution with every combination of strides, dilation and padding that the deformable one takes."""

import math
from collections.abc import Sequence

import tensorflow as tf

from tf_dcnv2.ops import arguments
from tf_dcnv2.ops.implementation import under_xla
from tf_dcnv2.ops.shapes import sizes_of

# Elements of an output for which memory may be short.
_LARGE = 2**28


def convolution(
    x: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: arguments.Padding, dilation_rate: Sequence[int]
) -> tf.Tensor:
    """Convolves `x` `(B, H, W, C)` with `kernel` `(kh, kw, C, O)`, on CPUs too whatever the sizes and the dilation.

    Without output pixels TensorFlow's own convolution has outputs of a wrong shape, undefined gradients, or crashes,
    depending on the dtype: that case is kept from it.
    """
    mode, explicit = arguments.padding_mode(padding)
    window = zip(sizes_of(x)[1:3], kernel.shape[:2], strides, dilation_rate, strict=True)
    pixels = [
        arguments.conv_output_length(*axis, mode, explicit[2 * number : 2 * number + 2])
        for number, axis in enumerate(window)
    ]
    shape = [sizes_of(x)[0], *pixels, kernel.shape[3]]

    def convolve():
        return _convolve(x, kernel, strides, mode, explicit, dilation_rate)

    def no_pixels():
        # Depends on its inputs, for gradients of zero instead of none.
        return tf.broadcast_to(tf.reduce_sum(x) + tf.reduce_sum(kernel), shape)

    if not any(map(tf.is_tensor, shape)):
        if 0 in shape:
            return no_pixels()
        with tf.control_dependencies(_make_sure_of_memory(shape, x.dtype)):
            return convolve()
    y = tf.cond(tf.reduce_any(tf.equal(shape, 0)), no_pixels, convolve)
    y.set_shape([None if tf.is_tensor(size) else size for size in shape])
    return y


def _make_sure_of_memory(shape, dtype):
    """Fails if there is no memory for a tensor of a large `shape`; TensorFlow's convolution crashes for lack of it."""
    if math.prod(shape) < _LARGE:
        return []
    if max(shape) >= 2**31:
        raise ValueError(f"The padding is too large: the output would have the shape {tuple(shape)}.")
    return [tf.raw_ops.Empty(shape=shape, dtype=dtype)]


def _convolve(x, kernel, strides, mode, explicit, dilation_rate):
    """Where there is something to convolve.

    TensorFlow has no CPU gradient for dilated convolutions: `tf.nn.convolution` works around it, without strides. XLA
    has the gradient, and cannot compile the way around where sizes are unknown.
    """
    if max(dilation_rate) == 1 or under_xla():
        padding = _all_axes(explicit[:2], explicit[2:]) if explicit else mode
        return tf.nn.conv2d(x, kernel, strides, padding, dilations=dilation_rate)
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
