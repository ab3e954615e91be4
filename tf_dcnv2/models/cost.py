"""What calling a Keras model costs: its weights, and the multiply-adds of its layers at the sizes they run at.

Multiply-adds are those of convolutions and dense layers, padding included, and four for each value that deformable
convolutions and RoI poolings interpolate. Normalisation, activations, additions, pooling and plain TensorFlow
operations are left out.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.layers import (
    DeformableConv2D,
    DeformableRoIPooling,
    ModulatedDeformableConv2D,
    ModulatedDeformableRoIPooling,
    RoIAlign,
)

_CORNERS = 4  # of a bilinear interpolation


@dataclasses.dataclass(frozen=True)
class Cost:
    """Number of weights, moving averages included as in Keras' `count_params`, and of multiply-adds."""

    parameters: int = 0
    multiply_adds: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)


def model_cost(model: keras.Layer, *inputs: Any) -> Cost:
    """The cost of the call `model(*inputs)`, which is traced and not run.

    Args:
        model: any layer or model that is built.
        *inputs: arguments of the call, in which a `tf.TensorSpec` with all sizes known stands for each tensor.

    Raises:
        ValueError: the model is not built, is quantised, or has a layer whose multiply-adds are not known: see
            `multiply_adds`.

    Example:
        >>> network = keras.applications.MobileNetV2(weights=None)
        >>> model_cost(network, tf.TensorSpec([1, 224, 224, 3]))
        Cost(parameters=3538984, multiply_adds=300774272)
    """
    cost, _ = cost_and_outputs(model, *inputs)
    return cost


def cost_and_outputs(model: keras.Layer, *inputs: Any) -> tuple[Cost, Any]:
    """The cost of the call `model(*inputs)`, and the shapes of its outputs as `tf.TensorSpec`s: another model's inputs.

    See `model_cost`.
    """
    if not model.built:
        raise ValueError(f"model must be built: call its method build, or the model itself. Received: {model}")
    if any(layer.quantization_mode for layer in model._flatten_layers()):
        raise ValueError(f"model must not be quantised: count it before. Received: {model}")
    with _recorded_calls(model) as calls:
        outputs = tf.function(model).get_concrete_function(*inputs).structured_outputs
    cost = Cost(model.count_params(), sum(multiply_adds(*call) for call in calls))
    return cost, tf.nest.map_structure(lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), outputs)


@functools.singledispatch
def multiply_adds(layer: keras.Layer, inputs: Any, outputs: Any) -> int:
    """Multiply-adds of one call of `layer`, without those of the layers inside it.

    A layer without a kernel, a weight of its own that is called so, has none. Define those of a layer of your own by
    `multiply_adds.register`.

    Args:
        layer: a `Conv2D`, `DepthwiseConv2D`, `SeparableConv2D`, `Conv2DTranspose`, `Dense`, any layer of this package,
            a layer without a kernel, or one that is registered.
        inputs: first argument of the call; the values of tensors, and of those in `outputs`, are not known.
        outputs: what the call returned.

    Raises:
        ValueError: the layer has a kernel and is of another kind, or a size is unknown.

    Example:
        >>> @multiply_adds.register(keras.layers.Conv1D)
        ... def _(layer, inputs, outputs):
        ...     return math.prod(outputs.shape) * math.prod(layer.kernel.shape[:-1])
    """
    inside = {id(weight) for part in layer._flatten_layers(include_self=False) for weight in part.weights}
    kernels = [weight.name for weight in layer.weights if "kernel" in weight.name and id(weight) not in inside]
    if kernels:
        raise ValueError(
            f"The multiply-adds of a {type(layer).__name__} are not known: define them by a function, with "
            f"@multiply_adds.register({type(layer).__name__}). Received: layer {layer.name!r} with {', '.join(kernels)}"
        )
    return 0


@multiply_adds.register(keras.layers.Conv2D)
@multiply_adds.register(keras.layers.Dense)
def _convolution(layer: Any, inputs: tf.Tensor, outputs: tf.Tensor) -> int:
    return _size(outputs) * math.prod(layer.kernel.shape[:-1])


@multiply_adds.register(keras.layers.DepthwiseConv2D)
def _depthwise_convolution(layer: Any, inputs: tf.Tensor, outputs: tf.Tensor) -> int:
    return _size(outputs) * math.prod(layer.kernel_size)


@multiply_adds.register(keras.layers.SeparableConv2D)
def _separable_convolution(layer: Any, inputs: tf.Tensor, outputs: tf.Tensor) -> int:
    places = _size(outputs) // layer.filters
    return places * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))


@multiply_adds.register(keras.layers.Conv2DTranspose)
def _transposed_convolution(layer: Any, inputs: tf.Tensor, outputs: tf.Tensor) -> int:
    return _size(inputs) * math.prod(layer.kernel.shape[:-1])


@multiply_adds.register(DeformableConv2D)
@multiply_adds.register(ModulatedDeformableConv2D)
def _deformable_convolution(layer: Any, inputs: tf.Tensor, outputs: tf.Tensor) -> int:
    """The convolution, that of the offset branch, and a sample of each channel at each tap."""
    places = _size(outputs) // layer.filters
    samples = math.prod(layer.kernel_size) * inputs.shape[-1]
    return places * (math.prod(layer.kernel.shape) + math.prod(layer.offset_kernel.shape) + samples * _CORNERS)


@multiply_adds.register(RoIAlign)
def _roi_pooling(layer: Any, inputs: Any, outputs: tf.Tensor) -> int:
    if layer.sampling_ratio == 0:
        raise ValueError(
            "The multiply-adds of RoI pooling depend on the RoIs, unless sampling_ratio is at least 1. "
            f"Received: sampling_ratio=0, of layer {layer.name!r}"
        )
    return _size(outputs) * layer.sampling_ratio**2 * _CORNERS


@multiply_adds.register(DeformableRoIPooling)
@multiply_adds.register(ModulatedDeformableRoIPooling)
def _deformable_roi_pooling(layer: Any, inputs: Any, outputs: tf.Tensor) -> int:
    """RoIs are pooled twice: once for the offset branch, whose layers are counted by themselves, then moved."""
    return 2 * _roi_pooling(layer, inputs, outputs)


def _size(tensor: tf.Tensor) -> int:
    if not tensor.shape.is_fully_defined():
        raise ValueError(
            "Multiply-adds can be counted only where all sizes follow from those of the inputs. "
            f"Received: a layer with a tensor {tensor.name!r} of shape {tensor.shape}"
        )
    return tensor.shape.num_elements()


@contextlib.contextmanager
def _recorded_calls(model: keras.Layer) -> Iterator[list[tuple[keras.Layer, Any, Any]]]:
    """A list to which each call of `model` and of the layers inside it adds `(layer, first argument, outputs)`."""
    calls = []

    def recording(layer: keras.Layer) -> Callable[..., Any]:
        call = layer.call

        def call_and_record(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            calls.append((layer, next(iter([*args, *kwargs.values()]), None), outputs))
            return outputs

        return call_and_record

    layers = model._flatten_layers()
    for layer in layers:
        vars(layer)["call"] = recording(layer)  # hides the method of its class
    try:
        yield calls
    finally:
        for layer in layers:
            del vars(layer)["call"]
