"""Any functional Keras model as the backbone of a detector."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2._core.misspelt_names import did_you_mean
from tf_dcnv2.models.backbones.preprocessing import Preprocessing, preprocess

# Wide enough for the strides of networks that lose a border pixel at every convolution.
_PROBE_PX = 1024


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class KerasBackbone(keras.Model):
    """Feature maps of a functional Keras model, taken from its layers by name.

    The layers that no feature map depends on, such as a classifier, are left out. Weights, and what is trained of them,
    are those of `model`; deformable convolutions come from `tf_dcnv2.layers.make_deformable(model)`.

    Input: `(B, H, W, 3)`, preprocessed. Any H and W.
    Output: a dictionary of feature maps by level.

    Args:
        model: takes images `(B, H, W, 3)` of any size: `input_shape=(None, None, 3)`.
        features: level -> name of the layer whose output it is, such as `{"C4": "block_13_expand_relu"}`. Level l has a
            stride of about 2**l pixels; the detector's neck says which levels it wants.
        preprocessing: what the model takes: "caffe", "torch", "unit" or "none", see `preprocess`.

    Raises:
        ValueError: the model is not functional, takes images of one size only, or has no such layer.

    Example:
        >>> network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(None, None, 3))
        >>> features = {"C4": "block_13_expand_relu", "C5": "out_relu"}
        >>> backbone = KerasBackbone(network, features, preprocessing="unit")
        >>> backbone.strides
        {'C4': 16, 'C5': 32}
    """

    def __init__(
        self,
        model: keras.Model,
        features: Mapping[str, str],
        *,
        preprocessing: Preprocessing = "none",
        name: str = "backbone",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        _check(model, features)
        outputs = {level: model.get_layer(layer).output for level, layer in features.items()}
        self._network = keras.Model(model.inputs, outputs, name=model.name)
        self.features = dict(features)
        self.preprocessing = preprocessing
        shapes = self._network.compute_output_shape((None, _PROBE_PX, _PROBE_PX, 3))
        self.strides = {level: round(_PROBE_PX / shape[1]) for level, shape in shapes.items()}
        self.channels = {level: shape[-1] for level, shape in shapes.items()}
        self.built = True

    def preprocess(self, images: tf.Tensor) -> tf.Tensor:
        """RGB images `(B, H, W, 3)` in 0..255 as a call takes them."""
        return preprocess(images, self.preprocessing)

    @property
    def network(self) -> keras.Model:
        """The functional model from preprocessed images to the feature maps, with the layers of the given one."""
        return self._network

    def call(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
        """Feature maps by level of preprocessed images `(B, H, W, 3)`."""
        return self._network(images, training=training)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {
            "model": keras.saving.serialize_keras_object(self._network),
            "features": dict(self.features),
            "preprocessing": self.preprocessing,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None) -> "KerasBackbone":
        """Makes the backbone of a configuration, with the layers of its model but not their weights."""
        return cls(**{**config, "model": keras.saving.deserialize_keras_object(config["model"])})


def _check(model: keras.Model, features: Mapping[str, str]) -> None:
    if not isinstance(model, keras.Model) or not hasattr(model, "inputs") or not model.inputs:
        raise ValueError(
            "model must be a functional or Sequential Keras model, whose layers have outputs of their own. "
            f"Received: {type(model).__name__}"
        )
    shape = tuple(model.inputs[0].shape)
    if len(model.inputs) != 1 or len(shape) != 4 or shape[1:3] != (None, None):
        raise ValueError(
            "model must take images of any size: build it with input_shape=(None, None, 3). "
            f"Received: inputs of shape {[tuple(tensor.shape) for tensor in model.inputs]}"
        )
    if not features:
        raise ValueError("features must name at least one layer. Received: {}")
    layers = [layer.name for layer in model.layers]
    for level, name in features.items():
        if name not in layers:
            raise ValueError(
                f"features[{level!r}] must be the name of a layer of {model.name!r}, such as {', '.join(layers[-3:])}. "
                f"Received: {name!r}.{did_you_mean([name], layers)}"
            )
