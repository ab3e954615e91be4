"""Where the cells of feature maps lie on the image, from the layers between them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np

from tf_dcnv2.analysis._graph import graph_of
from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D
from tf_dcnv2.ops.window import Window

_Pair = tuple[float, float]
_POOLING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D)
_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    DeformableConv2D,
    ModulatedDeformableConv2D,
)


@dataclasses.dataclass(frozen=True)
class Grid:
    """The cells of a feature map: cell (i, j) lies at pixel `origin + step * (i, j)` of the image.

    Pixels are counted by their centres: the image itself has the origin (0, 0) and the step (1, 1).

    Attributes:
        size: rows and columns of cells.
        origin: (y, x) of the first cell in pixels.
        step: pixels from one cell to the next, down and right.
    """

    size: tuple[int, int]
    origin: _Pair = (0.0, 0.0)
    step: _Pair = (1.0, 1.0)

    def pixels(self, cells: np.ndarray) -> np.ndarray:
        """Positions `(..., 2)` in pixels of positions in cells, which need not be whole."""
        return np.asarray(self.origin) + np.asarray(self.step) * cells

    def cells(self, pixels: np.ndarray) -> np.ndarray:
        """Positions `(..., 2)` in cells of positions in pixels."""
        return (pixels - np.asarray(self.origin)) / np.asarray(self.step)

    def resampled(self, size: Sequence[Any], first: Sequence[float], every: Sequence[float]) -> "Grid":
        """The grid whose cells lie at `first + every * (i, j)`, in cells of this one."""
        return Grid(
            (int(size[0]), int(size[1])),
            origin=(self.origin[0] + self.step[0] * first[0], self.origin[1] + self.step[1] * first[1]),
            step=(self.step[0] * every[0], self.step[1] * every[1]),
        )

    def covered_by(self, size: Sequence[int]) -> "Grid":
        """The grid of a map of another size that covers the same area, as resizing lays it."""
        every = [mine / its for mine, its in zip(self.size, size, strict=True)]
        return self.resampled(size, [(ratio - 1) / 2 for ratio in every], every)

    def after_window(self, window: Window, kernel_size: tuple[int, int]) -> "Grid":
        """The grid of what a window of this `kernel_size` computes: a cell lies at the middle of its taps."""
        before = [pixels for pixels, _ in window.padding_pixels(self.size, kernel_size)]
        middle = [(taps - 1) * dilation / 2 for taps, dilation in zip(kernel_size, window.dilations, strict=True)]
        first = [centre - padding for centre, padding in zip(middle, before, strict=True)]
        return self.resampled(window.output_size(self.size, kernel_size), first, window.strides)

    def after_layer(self, layer: keras.layers.Layer, channels: int) -> "Grid":
        """The grid of a layer's output, by its size where nothing else is known about the layer."""
        if isinstance(layer, _CONVOLUTIONS):
            return self.after_window(window_of(layer), layer.kernel_size)
        if isinstance(layer, _POOLING):
            return self.after_window(
                Window.from_arguments(strides=layer.strides, padding=layer.padding), tuple(layer.pool_size)
            )
        if isinstance(layer, keras.layers.ZeroPadding2D):
            (top, bottom), (left, right) = layer.padding
            return self.resampled((self.size[0] + top + bottom, self.size[1] + left + right), (-top, -left), (1, 1))
        if isinstance(layer, keras.layers.Cropping2D):
            (top, bottom), (left, right) = layer.cropping
            return self.resampled((self.size[0] - top - bottom, self.size[1] - left - right), (top, left), (1, 1))
        size = layer.compute_output_shape((1, *self.size, channels))[1:3]
        return self if tuple(size) == self.size else self.covered_by(size)


def window_of(layer: keras.layers.Layer) -> Window:
    """The window of a convolution, regular or deformable."""
    return Window.from_arguments(strides=layer.strides, padding=layer.padding, dilation_rate=layer.dilation_rate)


class Grids:
    """The grids of the tensors of a graph, for an image of one size.

    Args:
        image_size: rows and columns of pixels.
        graph: a functional or Sequential model; `None` if there is none, and for maps that are not of the graph, the
            grid follows from the size of the map.
    """

    def __init__(self, image_size: tuple[int, int], graph: keras.Model | None) -> None:
        self._image = Grid(image_size)
        self._by_tensor: dict[int, Grid] = {}
        if graph is not None:
            self._by_tensor[id(graph.inputs[0])] = self._image
            self._follow(graph)

    def _follow(self, graph: keras.Model) -> None:
        """Goes through the layers in the order of the graph, and into nested models.

        What follows a layer that nothing is known about is placed by its size.
        """
        for layer in graph.operations:
            inputs, outputs = _tensors(layer, "input"), _tensors(layer, "output")
            grids = [self._by_tensor[id(tensor)] for tensor in inputs if id(tensor) in self._by_tensor]
            if not grids or not isinstance(layer, keras.layers.Layer) or any(len(one.shape) != 4 for one in outputs):
                continue
            nested = graph_of(layer)
            if nested is not None and len(inputs) == 1:
                self._by_tensor[id(nested.inputs[0])] = grids[0]
                self._follow(nested)
                for outer, inner in zip(outputs, nested.outputs, strict=True):
                    if id(inner) in self._by_tensor:
                        self._by_tensor[id(outer)] = self._by_tensor[id(inner)]
            else:
                # Additions and concatenations join maps of one size.
                grid = grids[0] if len(inputs) > 1 else grids[0].after_layer(layer, inputs[0].shape[-1])
                self._by_tensor.update({id(tensor): grid for tensor in outputs})

    def of_input(self, layer: keras.Operation, size: tuple[int, int]) -> Grid:
        """The grid of a map of `size` cells that is the input of `layer`."""
        return self.of_tensor(next(iter(_tensors(layer, "input")), None), size)

    def of_tensor(self, tensor: keras.KerasTensor | None, size: tuple[int, int]) -> Grid:
        """The grid of a map of `size` cells that is this tensor of the graph, or of one that is not in it."""
        grid = self._by_tensor.get(id(tensor))
        return grid if grid is not None and grid.size == tuple(size) else self._image.covered_by(size)


def _tensors(layer: keras.Operation, attribute: Literal["input", "output"]) -> list[keras.KerasTensor]:
    """The tensors of the one call of a layer in its graph; none if there are several calls, or none."""
    # A model's own attributes are the tensors inside it; its operation's are those of its call.
    of_call = getattr(keras.Operation, attribute)
    try:
        return keras.tree.flatten(of_call.fget(layer))
    except (AttributeError, ValueError):
        return []
