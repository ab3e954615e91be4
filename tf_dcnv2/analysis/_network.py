"""A Keras model or a detector as functions from images to feature maps, whose layers have names and places."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2._core.misspelt_names import did_you_mean
from tf_dcnv2.analysis._graph import graph_of
from tf_dcnv2.analysis._grid import Grid, Grids
from tf_dcnv2.layers import make_deformable, spatial_convolutions
from tf_dcnv2.models import FasterRCNN

MapFunction = Callable[[tf.Tensor], tf.Tensor]


class Network:
    """Any Keras model of one input.

    Args:
        model: from images `(B, H, W, C)` to a feature map, or to several by name.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._graph = graph_of(model)
        self._tensors = {} if self._graph is None else _named_tensors(self._graph)

    def prepare(self, images: tf.Tensor) -> tf.Tensor:
        """Images `(B, H, W, C)` as `feature_map` takes them; what is masked is zero after this."""
        return images

    def run(self, images: tf.Tensor) -> None:
        """Calls the whole model on images."""
        self._model(images, training=False)

    def with_regular_layers_made_deformable(self) -> "Network":
        """The same function, whose convolutions larger than 1x1 have offsets of zero where they had none."""
        return self if self._graph is None else Network(_made_deformable(self._graph))

    def feature_map(self, name: str | None) -> MapFunction:
        """The function from prepared images to the map `(B, h, w, C)` of a name, or of the model's only output.

        Raises:
            ValueError: there is no such map.
        """
        if self._graph is not None and name in self._tensors:
            cut = keras.Model(self._graph.inputs[0], self._tensors[name])
            return lambda images: cut(images, training=False)
        return lambda images: self._choose(name, self._model(images, training=False))

    def _choose(self, name: str | None, outputs: Any) -> tf.Tensor:
        if isinstance(outputs, Mapping) and name in outputs:
            return outputs[name]
        if name is None and not isinstance(outputs, Mapping | list | tuple):
            return outputs
        levels = self._levels_of(outputs)
        layers = [] if self._graph is None else [layer.name for layer in self._graph.layers]
        known = ", ".join([*levels, *(["those of its layers"] if layers else [])]) or "its output, None"
        raise ValueError(
            f"layer must name a feature map of {self._model.name}, which has: {known}. "
            f"Received: layer={name!r}.{did_you_mean([name], [*levels, *layers])}"
        )

    def _levels_of(self, outputs: Any) -> list[str]:
        """The names of the maps that the model computes besides those of its layers."""
        return list(outputs) if isinstance(outputs, Mapping) else []

    def grid(self, name: str | None, image_size: tuple[int, int], map_size: tuple[int, int]) -> Grid:
        """Where the cells of a map of `map_size` cells lie on an image of `image_size` pixels."""
        return Grids(image_size, self._graph).of_tensor(self._tensors.get(name), map_size)

    def grids(self, image_size: tuple[int, int]) -> Grids:
        """Where the inputs and outputs of all layers lie on an image of `image_size` pixels."""
        return Grids(image_size, self._graph)


class DetectorNetwork(Network):
    """A Faster or Mask R-CNN: its backbone's layers and levels, the levels of its neck, and RoIs in its box head."""

    def __init__(self, detector: FasterRCNN, backbone: keras.Model | None = None) -> None:
        super().__init__(backbone if backbone is not None else detector.backbone)
        self.detector = detector
        self._pyramid = {
            f"P{stride.bit_length() - 1}": (kind, index)
            for kind in ("roi", "rpn")
            for index, stride in enumerate(detector.neck.strides[kind])
        }

    def prepare(self, images: tf.Tensor) -> tf.Tensor:
        sizes = tf.repeat(tf.shape(images)[None, 1:3], tf.shape(images)[0], axis=0)
        return self.detector.prepare(images, tf.cast(sizes, tf.float32))

    def run(self, images: tf.Tensor) -> None:
        self.detector(images, training=False)

    def with_regular_layers_made_deformable(self) -> "DetectorNetwork":
        return self if self._graph is None else DetectorNetwork(self.detector, _made_deformable(self._graph))

    def feature_map(self, name: str | None) -> MapFunction:
        if name in self._pyramid and name not in self._tensors:
            kind, index = self._pyramid[name]
            return lambda images: self._levels(images)[kind][index]
        return super().feature_map(name)

    def _levels_of(self, outputs: Any) -> list[str]:
        return sorted({*super()._levels_of(outputs), *self._pyramid})

    def _levels(self, images: tf.Tensor) -> dict[str, list[tf.Tensor]]:
        return self.detector.neck(self._model(images, training=False), training=False)

    def roi_features(self, images: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
        """The 2-fc features `(B, units)` of one box `(4,)` on each of the prepared images."""
        boxes = tf.repeat(box[None, None], tf.shape(images)[0], axis=0)
        return self.detector.box_head.features(self._levels(images)["roi"], boxes)[:, 0]

    def class_logits(self, features: tf.Tensor, category_id: int) -> tf.Tensor:
        """The logits `(B,)` of a class from 2-fc features."""
        index = 1 + self.detector.category_ids.index(category_id)
        logits, _ = self.detector.box_head.predict(features[:, None])
        return logits[:, 0, index]


def network_of(model: keras.Model) -> Network:
    """The model as a network.

    Raises:
        TypeError: it is no Keras model.
        ValueError: it takes several inputs.
    """
    if isinstance(model, FasterRCNN):
        return DetectorNetwork(model)
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a detector or another Keras model. Received: {type(model).__name__}")
    if len(getattr(model, "inputs", None) or [None]) > 1:
        raise ValueError(f"model must take one input, an image. Received: {model.name} with {len(model.inputs)} inputs")
    return Network(model)


def _named_tensors(graph: keras.Model) -> dict[str | None, keras.KerasTensor]:
    """Maps by the names of the layers that compute them, and by the keys of the model's outputs."""
    named = {}
    for layer in graph.layers:
        try:
            output = layer.output
        except (AttributeError, ValueError):  # called more than once
            continue
        if isinstance(output, keras.KerasTensor) and len(output.shape) == 4:
            named[layer.name] = output
    outputs = graph.output
    if isinstance(outputs, Mapping):
        named.update(outputs)
    elif isinstance(outputs, keras.KerasTensor):
        named[None] = outputs
    return named


def _made_deformable(graph: keras.Model) -> keras.Model:
    # A plain model, which can be rebuilt whatever the class of `graph`.
    plain = keras.Model(graph.inputs[0], graph.output, name=graph.name)
    return make_deformable(plain, modulated=False) if spatial_convolutions(plain) else plain
