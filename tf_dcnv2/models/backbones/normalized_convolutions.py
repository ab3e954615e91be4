"""Convolutions that are one with the batch normalisation after them."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from tf_dcnv2.models.normalization import BatchNormalization

# Elements of a kernel that takes longer to scale than the map of an image, as the last stage of a ResNet has them.
_LARGE_KERNEL = 2**19


class NormalizedConvolution(keras.layers.Layer):
    """A convolution and its batch normalisation, which takes no time of its own unless it learns from the batch.

    Otherwise moving averages are made part of kernel and bias: a kernel is scaled in less time than a map, and a
    convolution and its bias are one op with what follows them, in inference and in training.

    Args:
        convolution: a layer with `kernel` and `bias`, and without an activation.
        normalization: of its output.
    """

    def __init__(self, convolution: keras.layers.Layer, normalization: BatchNormalization):
        super().__init__(dtype=convolution.dtype_policy, name=convolution.name)
        self._convolution = convolution
        self._normalization = normalization

    def call(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """The normalised output for `x` `(B, H, W, C)`."""
        convolution, normalization = self._convolution, self._normalization
        if training and normalization.trainable:
            return normalization(convolution(x), training=True)
        scale = normalization.gamma * tf.math.rsqrt(normalization.moving_variance + normalization.epsilon)
        bias = (convolution.bias - normalization.moving_mean) * scale + normalization.beta
        # The layer itself is called, as whoever observes it or counts its cost expects.
        with keras.StatelessScope([(convolution.kernel, convolution.kernel * scale), (convolution.bias, bias)]):
            return convolution(x)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the convolution."""
        return self._convolution.compute_output_shape(input_shape)


class JoinedNormalizations:
    """A functional model's layers in a graph of their own, in which batch normalisations are part of convolutions.

    The model does not track this object, and its own graph stays as it is, for whoever looks between the layers.

    Args:
        images: the model's input.
        features: its outputs.

    Attributes:
        features: the same in this graph, to rounding.
    """

    def __init__(self, images: KerasTensor, features: Mapping[str, KerasTensor]):
        calls: dict[int, tuple[keras.layers.Layer, Any]] = {}

        def call(layer: keras.layers.Layer, x: Any, **arguments: Any) -> KerasTensor:
            if isinstance(layer, BatchNormalization):
                convolution, convolved = calls[id(x)]
                if math.prod(convolution.kernel.shape) < _LARGE_KERNEL:
                    return NormalizedConvolution(convolution, layer)(convolved)
            y = layer(x, **arguments)
            calls[id(y)] = layer, x
            return y

        separate = keras.Model(images, features, name="features")
        self._model = keras.models.clone_model(
            separate, input_tensors=images, clone_function=lambda layer: layer, call_function=call
        )
        self.features = self._model.output

    def __call__(self, x: tf.Tensor, training: bool | None) -> dict[str, tf.Tensor]:
        """The features of images."""
        return self._model(x, training=training)
