"""The offsets and the modulation that a model predicts for an image, as arrays and in numbers."""

from typing import Any, NamedTuple

import keras
import numpy as np

from tf_dcnv2.analysis._network import network_of
from tf_dcnv2.analysis._response import as_batch
from tf_dcnv2.analysis._sampling import CONVOLUTIONS, ConvolutionSamples, Sampled, recorded
from tf_dcnv2.layers import RoIAlign


class LayerOffsets(NamedTuple):
    """What one deformable layer predicted.

    Attributes:
        layer: the layer's name.
        offsets: (dy, dx). Of a convolution `(Ho, Wo, G, K, 2)` in cells of the layer's input, for each output cell,
            deformable group and tap; of RoI pooling `(N, P, Q, 2)` in pixels of the image, for each RoI and bin.
        modulation: of a convolution `(Ho, Wo, G, K)`, of RoI pooling `(N, P, Q)`; `None` for a layer without.
        outside: bool, in the shape of the modulation: whether the location is a cell or more beyond the layer's input,
            where it contributes zero, as taps in the padding do. `None` for RoI pooling.
        pixels: (height, width) in pixels of the image of what the offsets count, a cell of the layer's input; (1, 1)
            for RoI pooling.
    """

    layer: str
    offsets: np.ndarray
    modulation: np.ndarray | None
    outside: np.ndarray | None
    pixels: tuple[float, float]


class OffsetStatistics(NamedTuple):
    """The offsets of one layer in numbers. Lengths are those of the vector (dy, dx), in the unit of `LayerOffsets`.

    Attributes:
        layer: the layer's name.
        mean: mean length.
        p99: 99th percentile of the lengths.
        largest: greatest length.
        outside: share of the locations that lie beyond the layer's input, 0..1; `None` for RoI pooling.
        modulation: mean modulation; `None` for a layer without.
        modulation_range: 1st and 99th percentile of the modulation; `None` for a layer without.
    """

    layer: str
    mean: float
    p99: float
    largest: float
    outside: float | None
    modulation: float | None
    modulation_range: tuple[float, float] | None


def predicted_offsets(model: keras.Model, image: Any) -> list[LayerOffsets]:
    """The offsets and modulation of every deformable layer on one image.

    Args:
        model: a detector, whose heads run on its own proposals and detections, or any Keras model.
        image: `(H, W, C)` as the model takes it. For a detector, RGB 0..255, at the size that the network sees:
            see `network_image`.

    Returns:
        One entry for each call of a deformable layer, in the order in which they run; empty for a model without.

    Raises:
        ValueError: `image` is no such array.

    Example:
        >>> for layer in predicted_offsets(detector, image):
        ...     print(layer.layer, layer.offsets.shape)
    """
    network = network_of(model)
    images = as_batch(image)
    with recorded() as calls:
        network.run(images)
    grids = network.grids(tuple(images.shape[1:3]))
    return [
        _of_convolution(ConvolutionSamples(call, grids), call)
        if isinstance(call.layer, CONVOLUTIONS)
        else _of_rois(call)
        for call in calls
        if not isinstance(call.layer, RoIAlign)
    ]


def offset_statistics(model: keras.Model, image: Any) -> list[OffsetStatistics]:
    """The offsets of every deformable layer on one image in numbers: are they doing anything, and are they sane?

    Offsets of zero everywhere mean that the branches have not learned yet; a great share of locations outside of the
    map, or a length near the size of the map, that they diverge.

    Args:
        model: a detector or any Keras model.
        image: as for `predicted_offsets`.

    Returns:
        One entry for each call of a deformable layer, in the order in which they run; empty for a model without.

    Raises:
        ValueError: `image` is no such array.

    Example:
        >>> max(offset_statistics(detector, image), key=lambda layer: layer.p99).layer
        'conv5_block3_2_conv'
    """
    return [statistics_of(layer) for layer in predicted_offsets(model, image)]


def _of_convolution(samples: ConvolutionSamples, call: Sampled) -> LayerOffsets:
    modulation = None if call.mask is None else samples.modulation
    return LayerOffsets(samples.name, samples.offsets, modulation, samples.outside, samples.grid.step)


def _of_rois(call: Sampled) -> LayerOffsets:
    boxes = call.inputs[1].numpy()
    unit = call.layer.gamma * (boxes[:, 2:] - boxes[:, :2])
    offsets = call.offset.numpy() * unit[:, None, None]
    return LayerOffsets(call.layer.path, offsets, None if call.mask is None else call.mask.numpy(), None, (1.0, 1.0))


def statistics_of(layer: LayerOffsets) -> OffsetStatistics:
    """The numbers of `offset_statistics` for a layer of `predicted_offsets`."""
    lengths = np.linalg.norm(layer.offsets, axis=-1)
    if not lengths.size:  # no RoI
        lengths = np.zeros(1)
    modulation = layer.modulation if layer.modulation is not None and layer.modulation.size else None
    return OffsetStatistics(
        layer=layer.layer,
        mean=float(lengths.mean()),
        p99=float(np.percentile(lengths, 99)),
        largest=float(lengths.max()),
        outside=None if layer.outside is None else float(layer.outside.mean()),
        modulation=None if modulation is None else float(modulation.mean()),
        modulation_range=None if modulation is None else tuple(np.percentile(modulation, [1, 99]).tolist()),
    )
