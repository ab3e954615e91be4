"""What the two deformable convolution layers share: variables, offset branch, shapes and configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.layers._convolution import convolution
from tf_dcnv2.layers._observation import as_observed
from tf_dcnv2.layers._types import Activation, Constraint, Initializer, IntPair, Regularizer, Shape
from tf_dcnv2.ops import arguments
from tf_dcnv2.ops.deform_conv2d import convolve
from tf_dcnv2.ops.implementation import IMPLEMENTATIONS
from tf_dcnv2.ops.window import Padding, Window


class DeformableConvBase(keras.layers.Layer):
    """A convolution that samples its input where its offset branch says.

    Subclasses set `modulated`: whether the branch also predicts a modulation for each tap.
    """

    modulated: bool

    def __init__(
        self,
        filters: int,
        kernel_size: IntPair,
        strides: IntPair = 1,
        padding: Padding = "valid",
        data_format: str | None = None,
        dilation_rate: IntPair = 1,
        groups: int = 1,
        activation: Activation = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        activity_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        deformable_groups: int = 1,
        offset_clip: float | None = None,
        offset_learning_rate_multiplier: float = 0.1,
        implementation: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self.filters = arguments.integer(filters, "filters", minimum=1)
        self.kernel_size = arguments.pair(kernel_size, "kernel_size")
        self._window = Window.from_arguments(
            strides=strides, padding=padding, dilation_rate=dilation_rate, deformable_groups=deformable_groups
        )
        self.strides = self._window.strides
        self.padding = self._window.padding_argument
        self.data_format = data_format or keras.config.image_data_format()
        self.dilation_rate = self._window.dilations
        self.groups = arguments.integer(groups, "groups", minimum=1)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.deformable_groups = self._window.deformable_groups
        self.offset_clip = None if offset_clip is None else arguments.positive(offset_clip, "offset_clip")
        self.offset_learning_rate_multiplier = arguments.number(
            offset_learning_rate_multiplier, "offset_learning_rate_multiplier", "at least 0", lambda rate: rate >= 0
        )
        self.implementation = implementation
        self._check_arguments()
        self.input_spec = keras.layers.InputSpec(ndim=4)
        # XLA has no kernel for custom ops: Keras must not choose jit_compile=True by itself.
        self.supports_jit = implementation == "composite"

    def _check_arguments(self) -> None:
        if self.data_format != "channels_last":
            raise ValueError(
                f'data_format must be "channels_last". Received: data_format={self.data_format!r}, as the argument or '
                "from keras.config.image_data_format()."
            )
        if self.filters % self.groups:
            raise ValueError(f"groups must divide filters. Received: groups={self.groups}, filters={self.filters}.")
        if self.implementation not in IMPLEMENTATIONS:
            raise ValueError(f"implementation must be one of {IMPLEMENTATIONS}. Received: {self.implementation!r}.")

    @property
    def _samples(self) -> int:
        """Positions sampled for one output pixel."""
        return self._window.samples_per_pixel(self.kernel_size)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1] or 0  # refused if unknown, as 0 is
        for name, divisor in (("groups", self.groups), ("deformable_groups", self.deformable_groups)):
            if channels == 0 or channels % divisor:
                raise ValueError(
                    f"{name} must divide the channels of the input, which must be known and at least one. "
                    f"Received: {name}={divisor}, input_shape={tuple(input_shape)}, in the layer {self.name!r}."
                )
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        offset_channels = (3 if self.modulated else 2) * self._samples
        kernel_shape = (*self.kernel_size, channels // self.groups, self.filters)
        offset_shape = (*self.kernel_size, channels, offset_channels)
        received = (
            f"filters={self.filters}, kernel_size={self.kernel_size}, deformable_groups={self.deformable_groups}, "
            f"input_shape={tuple(input_shape)}"
        )
        self.kernel = self.add_weight(
            name="kernel",
            shape=arguments.weights_shape(kernel_shape, received),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.offset_kernel = self._add_offset_weight(
            "offset_kernel", arguments.weights_shape(offset_shape, received), self.kernel_regularizer
        )
        self.offset_bias = self._add_offset_weight("offset_bias", (offset_channels,), self.bias_regularizer)

    def _add_offset_weight(
        self, name: str, shape: tuple[int, ...], regularizer: keras.regularizers.Regularizer | None
    ) -> keras.Variable:
        """A variable of the offset branch: zero at first, slow to learn, never in half precision."""
        dtype = arguments.coordinate_dtype(tf.as_dtype(self.compute_dtype)).name
        variable = self.add_weight(
            name=name, shape=shape, initializer="zeros", dtype=dtype, autocast=False, regularizer=regularizer
        )
        variable.learning_rate_multiplier = self.offset_learning_rate_multiplier
        return variable

    @property
    def _convolution_weights(self) -> list[keras.Variable]:
        """What a `Conv2D` has too, in its order."""
        return [self.kernel, self.bias] if self.use_bias else [self.kernel]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Sets all variables, or those of the convolution from what `Conv2D.get_weights` returns.

        In the second case the offset branch keeps its values, so that a new layer starts as that `Conv2D` (times the
        initial modulation).

        Args:
            weights: arrays `[kernel, bias, offset_kernel, offset_bias]` or `[kernel, bias]`, without `bias` for a layer
                that has none.

        Raises:
            ValueError: another number of arrays, or another shape.
        """
        if not self.built:
            raise ValueError(f"{self.name} has no weights yet: call it, or its build(input_shape), before set_weights.")
        if len(weights) == len(self._convolution_weights):
            weights = [*weights, self.offset_kernel.numpy(), self.offset_bias.numpy()]
        if len(weights) != len(self.weights):
            names = ["kernel", "bias"] if self.use_bias else ["kernel"]
            raise ValueError(
                f"{self.name} takes the arrays [{', '.join(names)}] of a Conv2D with use_bias={self.use_bias}, or "
                f"[{', '.join(names)}, offset_kernel, offset_bias]. Received: {len(weights)} arrays."
            )
        super().set_weights(weights)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Reads the variables from a file, where they may be those of a `Conv2D` in the place of this layer."""
        if self.built and len(store.keys()) == len(self._convolution_weights):
            for index, variable in enumerate(self._convolution_weights):
                variable.assign(store[str(index)])
        elif self.built and not store.keys():
            raise ValueError(
                f"The file has no weights for {self.name}, a {type(self).__name__}: Keras looks for them by the "
                "classes of the layers and their order, and does not find those of a model that has Conv2D there (and "
                "may mix up the Conv2D layers that are left). Load the file into that model, and use "
                "tf_dcnv2.layers.make_deformable(model) or copy layer by layer: layer.set_weights(conv.get_weights())."
            )
        else:
            super().load_own_variables(store)

    def sampling(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Where the layer samples `inputs` and how strongly, in the form that `tf_dcnv2.ops.deform_conv2d` takes.

        Args:
            inputs: `(B, H, W, C)` features.

        Returns:
            The offset `(B, Ho, Wo, G*K*2)` in pixels, as (deformable group, tap, (dy, dx)), and the modulation
            `(B, Ho, Wo, G*K)`, or `None` for a layer without modulation. float32, or float64 for a float64 layer.
        """
        kernel = tf.convert_to_tensor(self.offset_kernel)
        inputs = tf.cast(inputs, kernel.dtype)
        self.compute_output_shape(inputs.shape)  # refuses windows that do not fit
        branch = convolution(inputs, kernel, self._window)
        branch += tf.convert_to_tensor(self.offset_bias)
        offset, mask = branch, None
        if self.modulated:
            offset, logits = tf.split(branch, [2 * self._samples, self._samples], axis=-1)
            mask = self._modulation(logits)
        if self.offset_clip is not None:
            offset = tf.clip_by_value(offset, -self.offset_clip, self.offset_clip)
        return offset, mask

    def _modulation(self, logits: tf.Tensor) -> tf.Tensor:
        """The modulation from the branch's remaining channels; called where the layer is `modulated`."""
        raise NotImplementedError(f"{type(self).__name__} must implement _modulation")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        offset, mask = as_observed(self, (inputs,), *self.sampling(inputs))
        outputs = convolve(inputs, self.kernel, offset, mask, self._window, self.implementation)
        if self.use_bias:
            outputs += tf.convert_to_tensor(self.bias, outputs.dtype)
        return self.activation(outputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size = self._window.output_size(input_shape[1:3], self.kernel_size)
        if any(pixels is not None and pixels < 0 for pixels in size):
            raise ValueError(
                f"kernel_size={self.kernel_size} with dilation_rate={self.dilation_rate} does not fit the input "
                f"with padding={self.padding}. Received: input_shape={tuple(input_shape)}."
            )
        return (input_shape[0], *size, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "deformable_groups": self.deformable_groups,
            "offset_clip": self.offset_clip,
            "offset_learning_rate_multiplier": self.offset_learning_rate_multiplier,
            "implementation": self.implementation,
        }
