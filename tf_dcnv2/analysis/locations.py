"""Sampling locations and bins, with the strength with which they act on a node (paper sec. 3.2)."""

import re
from collections.abc import Collection
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.analysis._network import network_of
from tf_dcnv2.analysis._response import Response, response_of
from tf_dcnv2.analysis._sampling import CONVOLUTIONS, ConvolutionSamples, Sampled, recorded
from tf_dcnv2.analysis.nodes import ConvNode, Node, RoINode

Layers = str | Collection[str] | re.Pattern[str] | None


class LayerSamples(NamedTuple):
    """Where one convolution samples its input, and how much each sample means to a node.

    Attributes:
        layer: the layer's name.
        locations: `(Ho, Wo, G, K, 2)`, (y, x) in pixels of the image, for each output cell, deformable group and tap.
            Whole numbers are the centres of pixels: (3, 5) is that of `image[3, 5]`.
        strengths: `(Ho, Wo, G, K)`, magnitude of the gradient of the node's response with respect to the location,
            response per pixel. 0 where the modulation is 0 and where a sample does not reach the node.
        modulation: `(Ho, Wo, G, K)`; 1 for a layer without modulation.
    """

    layer: str
    locations: np.ndarray
    strengths: np.ndarray
    modulation: np.ndarray


class Bins(NamedTuple):
    """The bins that a box head pools of a RoI.

    Attributes:
        locations: `(P, Q, 2)`, their centres (y, x) in pixels of the image, counted from its edge as in boxes.
        strengths: `(P, Q)`, magnitude of the gradient of the node's response with respect to the location, response
            per pixel.
        modulation: `(P, Q)`; 1 for a layer without modulation.
        bin_size: (height, width) of a bin in pixels.
    """

    locations: np.ndarray
    strengths: np.ndarray
    modulation: np.ndarray
    bin_size: tuple[float, float]


class NodeSamples:
    """What the chosen convolutions that a node depends on sampled, from one run of the network.

    Args:
        model: a detector, or any Keras model.
        image: as for `effective_sampling_locations`, and so are `node` and `layers`.
        node: a cell or a RoI.
        layers: which convolutions.

    Attributes:
        position: (y, x) of a cell in pixels of the image; of a RoI its upper left corner.

    Raises:
        ValueError: the model has no such node on this image, or none of the layers.
    """

    def __init__(self, model: keras.Model, image: Any, node: Node, layers: Layers = None) -> None:
        network = network_of(model).with_regular_layers_made_deformable()
        response = Response(network, image, node)
        with tf.GradientTape(watch_accessed_variables=False) as tape, recorded(tape) as calls:
            value = response.value()
        calls = _chosen([call for call in calls if isinstance(call.layer, CONVOLUTIONS)], layers)
        gradients = tape.gradient(value, [call.offset for call in calls])
        grids = network.grids(response.size)
        self.position = response.region[:2]
        self._found: list[tuple[ConvolutionSamples, np.ndarray]] = []
        for call, gradient in zip(calls, gradients, strict=True):
            if gradient is not None:
                samples = ConvolutionSamples(call, grids)
                self._found.append((samples, samples.strengths(gradient)))

    def by_layer(self) -> list[LayerSamples]:
        """See `effective_sampling_locations`."""
        return [
            LayerSamples(samples.name, samples.locations, strengths, samples.modulation)
            for samples, strengths in self._found
        ]

    def traced_back(self, depth: int) -> np.ndarray:
        """See `sampling_locations`."""
        found = np.array([self.position])
        for samples, _ in reversed(self._found[-depth:]):
            cells = np.rint(samples.output_grid.cells(found)).astype(int)
            on_map = ((cells >= 0) & (cells < samples.output_grid.size)).all(axis=-1)
            rows, columns = cells[on_map].T
            found = samples.locations[rows, columns].reshape(-1, 2)
        return found.astype(np.float32)


def effective_sampling_locations(
    model: keras.Model, image: Any, node: Node, *, layers: Layers = None
) -> list[LayerSamples]:
    """Every location that the convolutions of a model sample, with the strength with which it acts on a node.

    Stacks of deformable and regular convolutions are treated alike: a regular one samples its fixed grid. The strength
    of a location is the magnitude of the gradient of the node's response (the sum of its channels) with respect to
    moving it, everything that follows from the move included. Deformable ConvNets v2, sec. 3.2, fig. 1.

    Locations are exact through convolutions, poolings and paddings of a functional or Sequential model, and of models
    nested in it. After a layer that is used more than once, and in subclassed models, they follow from the sizes of the
    feature maps: the cells of a map cover the image evenly. Regular convolutions of subclassed models, and those of
    other classes than `Conv2D` and `GroupedConv2D`, are left out.

    Args:
        model: a detector, or any Keras model.
        image: `(H, W, C)` as the model takes it. For a detector, RGB 0..255, at the size that the network sees:
            see `network_image`.
        node: a `ConvNode`, or for a detector a `RoINode`.
        layers: which convolutions: a name, several, or a compiled regular expression that is searched for in the names.
            By default all with a kernel larger than 1x1, and all deformable ones.

    Returns:
        One entry for each call of a layer that the node depends on, in the order in which they run.

    Raises:
        ValueError: the model has no such node on this image, or none of the layers.

    Example:
        >>> samples = effective_sampling_locations(detector, image, ConvNode("C5", 4, 7), layers=re.compile("conv5_"))
        >>> samples[0].locations.shape
        (10, 14, 1, 9, 2)
    """
    return NodeSamples(model, image, node, layers).by_layer()


def sampling_locations(
    model: keras.Model, image: Any, node: ConvNode, *, depth: int = 3, layers: Layers = None
) -> np.ndarray:
    """The locations that the last convolutions before a node sample on its behalf, all with the same weight.

    Each of the K locations that the last layer samples for the node lies in a cell of the layer before, which samples
    K locations for that one, and so on: K**depth locations, less those beyond a map. They are what Deformable ConvNets
    (arXiv:1703.06211, fig. 5) draws.

    Args:
        model: a detector, or any Keras model.
        image: as for `effective_sampling_locations`.
        node: a cell of a feature map.
        depth: how many convolutions, the node's own first.
        layers: which convolutions count, as for `effective_sampling_locations`.

    Returns:
        float32 `(N, 2)`, (y, x) in pixels of the image.

    Raises:
        ValueError: the model has no such node on this image, or none of the layers.

    Example:
        >>> sampling_locations(detector, image, ConvNode("C5", 4, 7), layers=re.compile("conv5_")).shape
        (729, 2)
    """
    if not isinstance(node, ConvNode):
        raise ValueError(f"node must be a ConvNode; effective_bin_locations has the bins of RoIs. Received: {node!r}")
    return NodeSamples(model, image, node, layers).traced_back(depth)


def effective_bin_locations(detector: keras.Model, image: Any, node: RoINode) -> Bins:
    """The bins of a RoI, with the strength with which each acts on the node (paper sec. 3.2, fig. 2).

    Args:
        detector: a Faster or Mask R-CNN, with regular or deformable RoI pooling.
        image: `(H, W, 3)` RGB 0..255, at the size that the network sees: see `network_image`.
        node: the RoI; with a `category_id` the strengths are those for the score of the class.

    Raises:
        ValueError: `node` is no RoI on this image.

    Example:
        >>> effective_bin_locations(detector, image, RoINode((30.0, 40.0, 130.0, 200.0))).strengths.shape
        (7, 7)
    """
    if not isinstance(node, RoINode):
        raise ValueError(f"node must be a RoINode. Received: {node!r}")
    response = response_of(detector, image, node)
    with tf.GradientTape(watch_accessed_variables=False) as tape, recorded(tape) as calls:
        value = response.value()
    call = next(call for call in reversed(calls) if not isinstance(call.layer, CONVOLUTIONS))
    gradient = tape.gradient(value, call.offset, unconnected_gradients="zero").numpy()[0]
    return _bins(call, gradient, response.region)


def _bins(call: Sampled, gradient: np.ndarray, box: tuple[float, float, float, float]) -> Bins:
    y1, x1, y2, x2 = box
    size, bins = np.array([y2 - y1, x2 - x1]), np.array(call.layer.output_size)
    unit = call.layer.gamma * size  # pixels for an offset of 1
    centres = np.stack(np.meshgrid(*map(np.arange, bins), indexing="ij"), axis=-1) + 0.5
    return Bins(
        locations=np.array([y1, x1]) + centres * size / bins + unit * call.offset.numpy()[0],
        strengths=np.linalg.norm(gradient / unit, axis=-1),
        modulation=np.ones(bins, np.float32) if call.mask is None else call.mask.numpy()[0],
        bin_size=tuple((size / bins).tolist()),
    )


def _chosen(calls: list[Sampled], layers: Layers) -> list[Sampled]:
    names = {layers} if isinstance(layers, str) else layers
    if isinstance(names, re.Pattern):
        chosen = [call for call in calls if names.search(call.layer.name)]
    else:
        chosen = [call for call in calls if names is None or call.layer.name in names]
    if not chosen:
        available = ", ".join(call.layer.name for call in calls) or "none"
        raise ValueError(
            f"layers must choose convolutions that run before the node. Received: layers={layers!r}. There are: "
            f"{available}"
        )
    return chosen
