"""What a node answers to an image, as a differentiable function."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.analysis._grid import Grid
from tf_dcnv2.analysis._network import DetectorNetwork, MapFunction, Network, network_of
from tf_dcnv2.analysis.nodes import ConvNode, Node, RoINode

_Box = tuple[float, float, float, float]


class Response:
    """A node of a model, on one image.

    Args:
        network: the model.
        image: `(H, W, C)` as the model takes it; of a detector, RGB 0..255 at the size that the network sees.
        node: which node.

    Attributes:
        image: float32 `(1, H, W, C)`.
        region: `(y1, x1, y2, x2)` in pixels: of a RoI its box, of a cell the point where it lies, twice.

    Raises:
        ValueError: the image is none, or the model has no such node on it; the message says what it has.
    """

    def __init__(self, network: Network, image: Any, node: Node) -> None:
        self.network = network
        self.image = as_batch(image)
        self.size = (int(self.image.shape[1]), int(self.image.shape[2]))
        if isinstance(node, ConvNode):
            self._respond, self.region = self._of_cell(node)
        elif isinstance(node, RoINode):
            self._respond, self.region = self._of_roi(node)
        else:
            raise TypeError(f"node must be a ConvNode or a RoINode. Received: {node!r}")

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """The node's vector `(B, F)`, float32, on images `(B, H, W, C)`."""
        return self.of_prepared(self.network.prepare(images))

    def of_prepared(self, images: tf.Tensor) -> tf.Tensor:
        """The same on what `network.prepare` made of images."""
        return tf.cast(self._respond(images), tf.float32)

    def value(self) -> tf.Tensor:
        """The sum of the node's vector on the image: the scalar whose gradients are taken."""
        return tf.reduce_sum(self(self.image))

    def _of_cell(self, node: ConvNode) -> tuple[Callable[[tf.Tensor], tf.Tensor], _Box]:
        feature_map, (rows, columns, channels), grid = located_map(self.network, self.image, node.layer)
        where = "the model's output" if node.layer is None else node.layer
        if not (0 <= node.row < rows and 0 <= node.column < columns):
            raise ValueError(
                f"node must be a cell of {where}, which has {rows} rows and {columns} columns on an image of "
                f"{self.size[0]} x {self.size[1]} pixels. Received: row={node.row}, column={node.column}"
            )
        if node.channel is not None and not 0 <= node.channel < channels:
            raise ValueError(f"channel must be one of the {channels} of {where}. Received: channel={node.channel}")
        chosen = slice(None) if node.channel is None else slice(node.channel, node.channel + 1)
        y, x = grid.pixels(np.array([node.row, node.column])).tolist()
        return lambda images: feature_map(images)[:, node.row, node.column, chosen], (y, x, y, x)

    def _of_roi(self, node: RoINode) -> tuple[Callable[[tf.Tensor], tf.Tensor], _Box]:
        network = self.network
        if not isinstance(network, DetectorNetwork):
            raise ValueError(f"A RoINode needs a detector, which has a head for RoIs. Received: node={node}")
        y1, x1, y2, x2 = map(float, node.box)
        if not (0 <= y1 < y2 <= self.size[0] and 0 <= x1 < x2 <= self.size[1]):
            raise ValueError(
                f"box must be (y1, x1, y2, x2) within the image of {self.size[0]} x {self.size[1]} pixels. "
                f"Received: box={node.box}"
            )
        known = network.detector.category_ids
        if node.category_id is not None and node.category_id not in known:
            raise ValueError(f"category_id must be one of {known}. Received: category_id={node.category_id}")
        box = tf.constant([y1, x1, y2, x2])

        def respond(images: tf.Tensor) -> tf.Tensor:
            features = network.roi_features(images, box)
            if node.category_id is None:
                return features
            return network.class_logits(features, node.category_id)[:, None]

        return respond, (y1, x1, y2, x2)


def located_map(
    network: Network, images: tf.Tensor, layer: str | None
) -> tuple[MapFunction, tuple[int, int, int], Grid]:
    """A feature map as a function of prepared images, its rows, columns and channels, and where its cells lie.

    Raises:
        ValueError: there is no such map.
    """
    feature_map = network.feature_map(layer)
    shape = feature_map(network.prepare(images)).shape
    if shape.rank != 4:
        raise ValueError(f"layer must name a feature map (B, H, W, C). Received: layer={layer!r}, of shape {shape}")
    grid = network.grid(layer, tuple(images.shape[1:3]), tuple(shape[1:3]))
    return feature_map, tuple(shape[1:]), grid


def response_of(model: keras.Model, image: Any, node: Node) -> Response:
    """A node of a detector or another Keras model on an image."""
    return Response(network_of(model), image, node)


def as_batch(image: Any) -> tf.Tensor:
    """An image `(H, W, C)` as a float32 batch of one.

    Raises:
        ValueError: it is no such array, or has values that are not finite.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 3 or 0 in pixels.shape or not np.issubdtype(pixels.dtype, np.number):
        raise ValueError(
            f"image must be an array (H, W, C) of numbers. Received: shape {pixels.shape}, dtype {pixels.dtype}"
        )
    if not np.isfinite(pixels).all():
        raise ValueError("image must have finite values. Received: NaN or infinity")
    return tf.constant(pixels[None], tf.float32)
