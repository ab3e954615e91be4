"""Images as a detector sees them, and nodes by their place on them."""

import os

import keras
import numpy as np

from tf_dcnv2.analysis._network import network_of
from tf_dcnv2.analysis._response import as_batch, located_map, response_of
from tf_dcnv2.analysis.nodes import ConvNode
from tf_dcnv2.data import prepare_image, read_image
from tf_dcnv2.models import FasterRCNN


def network_image(
    detector: FasterRCNN,
    image: str | os.PathLike | np.ndarray,
    *,
    short_side: int | None = None,
    max_side: int | None = None,
) -> np.ndarray:
    """An image at the size that a detector sees it at, in whose pixels everything in `tf_dcnv2.analysis` is given.

    Args:
        detector: a Faster or Mask R-CNN.
        image: the path of a file, or `(H, W, 3)` uint8 RGB.
        short_side: length of the shorter side in pixels; by default the detector's own.
        max_side: upper bound of the longer side, likewise.

    Returns:
        float32 `(H', W', 3)` RGB 0..255, without the padding of batches.

    Raises:
        ValueError: the file is no image, or the array is no RGB image.

    Example:
        >>> network_image(detector, "cells.jpg", short_side=320).shape
        (320, 427, 3)
    """
    pixels = image if isinstance(image, np.ndarray) else read_image(image)
    inputs = prepare_image(
        pixels,
        short_side=short_side or detector.short_side,
        max_side=max_side or detector.max_side,
        size_multiple=1,
    )
    return inputs["images"][0].numpy()


def node_position(model: keras.Model, image: np.ndarray, node: ConvNode) -> tuple[float, float]:
    """Where a cell of a feature map lies on the image, (y, x) in pixels, whole numbers being their centres.

    Args:
        model: a detector, or any Keras model.
        image: `(H, W, C)` as the model takes it.
        node: the cell.

    Raises:
        ValueError: there is no such cell on this image.

    Example:
        >>> node_position(detector, image, ConvNode("C5", row=7, column=12))
        (224.0, 384.0)
    """
    y, x, *_ = response_of(model, image, node).region
    return y, x


def node_at(model: keras.Model, image: np.ndarray, layer: str | None, point: tuple[float, float]) -> ConvNode:
    """The cell of a feature map that lies nearest to a point of the image.

    Args:
        model: a detector, or any Keras model.
        image: `(H, W, C)` as the model takes it.
        layer: the feature map, as in `ConvNode`.
        point: (y, x) in pixels of the image.

    Raises:
        ValueError: there is no such map, or the point is not on the image.

    Example:
        >>> node_at(detector, image, "C5", (120.0, 200.0))
        ConvNode(layer='C5', row=7, column=12, channel=None)
    """
    images = as_batch(image)
    height, width = images.shape[1:3]
    if not (0 <= point[0] < height and 0 <= point[1] < width):
        raise ValueError(f"point must lie on the image of {height} x {width} pixels. Received: point={point}")
    _, size, grid = located_map(network_of(model), images, layer)
    row, column = np.clip(np.rint(grid.cells(np.asarray(point))), 0, np.array(size[:2]) - 1).astype(int).tolist()
    return ConvNode(layer, row, column)
