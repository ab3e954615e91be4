"""What the layers of a network sampled while it ran."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.analysis._grid import Grids, window_of
from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D, observe_sampling
from tf_dcnv2.ops.window import Window

Sampling = tuple[tf.Tensor | None, tf.Tensor | None]
Size = tuple[int, int]
CONVOLUTIONS = (DeformableConv2D, ModulatedDeformableConv2D)


class Sampled(NamedTuple):
    """One call of a layer of this package.

    Attributes:
        layer: the layer.
        inputs: what it sampled: `(x,)`, or `(features, boxes, box_indices, levels)` of RoI pooling.
        offset: as the layer's op takes it.
        mask: the modulation, likewise; `None` for a layer without.
    """

    layer: keras.layers.Layer
    inputs: tuple[Any, ...]
    offset: tf.Tensor
    mask: tf.Tensor | None


@contextlib.contextmanager
def recorded(tape: tf.GradientTape | None = None) -> Iterator[list[Sampled]]:
    """Collects the calls of this context, in their order, and lets `tape` watch their offsets.

    RoIAlign has no offsets: it gets zeros, which move nothing.
    """
    calls: list[Sampled] = []

    def record(layer: keras.layers.Layer, inputs: tuple, offset: tf.Tensor | None, mask: tf.Tensor | None) -> Sampling:
        if offset is None:
            offset = tf.zeros([tf.shape(inputs[1])[0], *layer.output_size, 2])
        if tape is not None:
            tape.watch(offset)
        calls.append(Sampled(layer, inputs, offset, mask))
        return offset, mask

    with observe_sampling(record):
        yield calls


class ConvolutionSamples:
    """The sampling locations of one call of a deformable convolution on one image.

    Attributes:
        offsets: `(Ho, Wo, G, K, 2)`, (dy, dx) in cells of the input, for each of G deformable groups and K taps.
        cells: `(Ho, Wo, G, K, 2)`, the locations (y, x) in cells of the layer's input.
        modulation: `(Ho, Wo, G, K)`, 1 where the layer has none.
        grid: where the cells of its input lie on the image.
        output_grid: where those of its output do.
    """

    def __init__(self, call: Sampled, grids: Grids) -> None:
        layer = call.layer
        window, taps = window_of(layer), layer.kernel_size[0] * layer.kernel_size[1]
        input_size = tuple(call.inputs[0].shape[1:3])
        self.name = layer.name
        self.grid = grids.of_input(layer, input_size)
        self.output_grid = self.grid.after_window(window, layer.kernel_size)
        self._shape = (*self.output_grid.size, layer.deformable_groups, taps)
        self.offsets = call.offset.numpy()[0].reshape(*self._shape, 2)
        self.cells = _tap_cells(self.output_grid.size, input_size, window, layer.kernel_size) + self.offsets
        self.modulation = np.ones(self._shape, np.float32)
        if call.mask is not None:
            self.modulation = call.mask.numpy()[0].reshape(self._shape)

    @property
    def locations(self) -> np.ndarray:
        """`(Ho, Wo, G, K, 2)`, (y, x) in pixels of the image."""
        return self.grid.pixels(self.cells)

    @property
    def outside(self) -> np.ndarray:
        """`(Ho, Wo, G, K)`, whether a location is a cell or more beyond the map, where it contributes zero."""
        return ((self.cells <= -1) | (self.cells >= np.asarray(self.grid.size))).any(axis=-1)

    def strengths(self, gradient: tf.Tensor | None) -> np.ndarray:
        """`(Ho, Wo, G, K)`, the magnitude per pixel of the image of a gradient with respect to the offsets."""
        if gradient is None:
            return np.zeros(self._shape, np.float32)
        return np.linalg.norm(gradient.numpy()[0].reshape(*self._shape, 2) / np.asarray(self.grid.step), axis=-1)


def _tap_cells(output_size: Size, input_size: Size, window: Window, kernel_size: Size) -> np.ndarray:
    """Where the taps lie without offsets: `(Ho, Wo, 1, K, 2)` in cells of the input."""
    axes = []
    for axis, (before, _) in enumerate(window.padding_pixels(input_size, kernel_size)):
        first = np.arange(output_size[axis]) * window.strides[axis] - before
        axes.append(first[:, None] + np.arange(kernel_size[axis]) * window.dilations[axis])
    rows, columns = axes
    shape = (*output_size, *kernel_size)
    grid = np.stack(
        [np.broadcast_to(rows[:, None, :, None], shape), np.broadcast_to(columns[None, :, None, :], shape)], axis=-1
    )
    return grid.reshape(*output_size, 1, kernel_size[0] * kernel_size[1], 2)
