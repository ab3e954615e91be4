"""A deformable convolution to measure, and what TensorFlow has to compute it or as much as it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from benchmarks.cases import FLOAT32, KERNEL_SIZE, TAPS, ConvCase, Precision
from tf_dcnv2.ops import deform_conv2d

NATIVE = "tf-dcnv2, native op"
COMPOSITE = "tf-dcnv2, composite"
DENSE = "dense convolution"
MATMUL = "matrix product"

# Runs a contender once; what it returns is there, on a GPU too, when the call is over.
Run = Callable[[], Sequence]

_OFFSET_DEVIATION_PX = 2.0


class ConvData(NamedTuple):
    """Tensors of a `ConvCase` with G groups: `(1, H, W, C)`, `(3, 3, C / G, C)`, `(1, H, W, 18)`, `(1, H, W, 9)`,
    `(1, H, W, C)`."""

    x: tf.Tensor
    kernel: tf.Tensor
    offset: tf.Tensor
    mask: tf.Tensor
    dy: tf.Tensor


def make_data(case: ConvCase, precision: Precision = FLOAT32, seed: int = 0) -> ConvData:
    """Of one image: offsets of two pixels' deviation, a mask uniform in [0, 1), outputs with a third of variance."""
    random = np.random.default_rng(seed)
    grid = (1, case.height, case.width)
    inputs = case.channels // case.groups
    arrays = ConvData(
        x=random.standard_normal((*grid, case.channels), np.float32),
        kernel=random.standard_normal((KERNEL_SIZE, KERNEL_SIZE, inputs, case.channels), np.float32)
        / np.float32(np.sqrt(TAPS * inputs)),
        offset=_OFFSET_DEVIATION_PX * random.standard_normal((*grid, 2 * TAPS), np.float32),
        mask=random.random((*grid, TAPS), np.float32),
        dy=random.standard_normal((*grid, case.channels), np.float32),
    )
    typed = {"x", "kernel", "dy"}
    return ConvData(
        **{
            name: tf.constant(array, precision.storage if name in typed else tf.float32)
            for name, array in arrays._asdict().items()
        }
    )


def undeformed(data: ConvData) -> ConvData:
    """The same with offsets of zero and a mask of one, where deformable and dense convolution are equal."""
    return data._replace(offset=tf.zeros_like(data.offset), mask=tf.ones_like(data.mask))


def forward(contender: str, data: ConvData) -> Run:
    """The contender's forward pass; its one output is `(1, H, W, C)`."""
    if contender == MATMUL:
        return compiled(lambda columns, kernel: [_matmul(columns, kernel)], (_columns(data.x), data.kernel))
    function, inputs = _differentiable(contender, data)
    return compiled(lambda *tensors: [function(*tensors)], inputs)


def forward_backward(contender: str, data: ConvData) -> Run:
    """Output and gradients of all the contender's inputs: x and kernel, and offset and mask where it has them."""
    function, inputs = _differentiable(contender, data)

    def run(dy, *tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = function(*tensors)
        # Without the output among the results TensorFlow would leave out the forward pass of a dense convolution.
        return [y, *tape.gradient(y, tensors, output_gradients=dy)]

    return compiled(run, (data.dy, *inputs))


def _differentiable(contender: str, data: ConvData) -> tuple[Callable[..., tf.Tensor], tuple[tf.Tensor, ...]]:
    if contender == DENSE:
        return _dense, data[:2]
    implementation = {NATIVE: "native", COMPOSITE: "composite"}[contender]
    return (lambda *tensors: deform_conv2d(*tensors, implementation=implementation)), data[:4]


def _dense(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    if kernel.shape[2] == 1:  # TensorFlow has an op of its own for one group for each channel
        return tf.nn.depthwise_conv2d(x, tf.transpose(kernel, [0, 1, 3, 2]), [1] * 4, "SAME")
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def _columns(x: tf.Tensor) -> tf.Tensor:
    sizes = [1, KERNEL_SIZE, KERNEL_SIZE, 1]
    return tf.image.extract_patches(x, sizes, strides=[1] * 4, rates=[1] * 4, padding="SAME")


def _matmul(columns: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    depth, channels = columns.shape[-1], kernel.shape[-1]
    y = tf.matmul(tf.reshape(columns, [-1, depth]), tf.reshape(kernel, [depth, channels]))
    return tf.reshape(y, [*columns.shape[:3], channels])


def compiled(function: Callable[..., list[tf.Tensor]], arguments: Sequence) -> Run:
    """A function of tensors, compiled to a graph and bound to its arguments."""
    # A concrete function: TensorFlow would warn that making so many functions traces each of them.
    graph = tf.function(function, autograph=False).get_concrete_function(*arguments)

    def run() -> list[tf.Tensor]:
        outputs = graph(*arguments)
        tf.test.experimental.sync_devices()
        return outputs

    return run
