"""An ordinary convolution with every combination of strides, dilation and padding that the deformable one takes."""

import math
from collections.abc import Sequence

import tensorflow as tf

from tf_dcnv2.ops.implementation import in_inference_graph, under_xla
from tf_dcnv2.ops.shapes import sizes_of
from tf_dcnv2.ops.window import Window

# Elements of an output for which memory may be short.
_LARGE = 2**28


def convolution(x: tf.Tensor, kernel: tf.Tensor, window: Window) -> tf.Tensor:
    """Convolves `x` `(B, H, W, C)` with `kernel` `(kh, kw, C, O)`, on CPUs too whatever the sizes and the dilation.

    Without output pixels TensorFlow's own convolution has outputs of a wrong shape, undefined gradients, or crashes,
    depending on the dtype: that case is kept from it.
    """
    if in_inference_graph():
        return _convolve(x, kernel, window)
    batch, *size, _ = sizes_of(x)
    shape = [batch, *window.output_size(size, kernel.shape[:2]), kernel.shape[3]]

    def convolve() -> tf.Tensor:
        return _convolve(x, kernel, window)

    def no_pixels() -> tf.Tensor:
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


def _make_sure_of_memory(shape: Sequence[int], dtype: tf.DType) -> list[tf.Tensor]:
    """Fails if there is no memory for a tensor of a large `shape`; TensorFlow's convolution crashes for lack of it."""
    if math.prod(shape) < _LARGE:
        return []
    if max(shape) >= 2**31:
        raise ValueError(f"The padding is too large: the output would have the shape {tuple(shape)}.")
    return [tf.raw_ops.Empty(shape=shape, dtype=dtype)]


def _convolve(x: tf.Tensor, kernel: tf.Tensor, window: Window) -> tf.Tensor:
    """Where there is something to convolve.

    TensorFlow has no CPU gradient for dilated convolutions: `tf.nn.convolution` works around it, without strides. XLA
    has the gradient, and cannot compile the way around where sizes are unknown. onnxruntime, which has none, takes
    dilation with strides only where the padding is known.
    """
    strides, dilations = window.strides, window.dilations
    in_one_op = max(dilations) == 1 or under_xla() or (in_inference_graph() and max(strides) == 1)
    if window.padding != "EXPLICIT":
        if in_one_op:
            return tf.nn.conv2d(x, kernel, strides, window.padding, dilations=dilations)
        if max(strides) == 1:
            return tf.nn.convolution(x, kernel, padding=window.padding, dilations=dilations)
    rows, columns = window.padding_pixels(sizes_of(x)[1:3], kernel.shape[:2])
    padding = [(0, 0), rows, columns, (0, 0)]
    if in_one_op:
        return tf.nn.conv2d(x, kernel, strides, padding, dilations=dilations)
    dense = tf.nn.convolution(tf.pad(x, padding), kernel, padding="VALID", dilations=dilations)
    return dense[:, :: strides[0], :: strides[1]]
