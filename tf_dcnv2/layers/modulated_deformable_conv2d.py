"""Modulated deformable convolution (DCNv2)."""

from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.layers._deformable_conv import DeformableConvBase
from tf_dcnv2.layers._types import Activation, Constraint, Initializer, IntPair, Regularizer
from tf_dcnv2.ops import arguments
from tf_dcnv2.ops.window import Padding


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class ModulatedDeformableConv2D(DeformableConvBase):
    """A 2D convolution whose taps move and change in strength: y(p) = sum_k w_k x(p + p_k + dp_k) dm_k.

    Deformable ConvNets v2 (arXiv:1811.11168), eq. 1. Offsets dp_k and modulation dm_k in [0, `mask_scale`] come from
    one convolution over the same input, of the same kernel size, strides, padding and dilation, the modulation through
    a sigmoid.

    Takes the place of `keras.layers.Conv2D`. The offset branch starts at zero: no displacement and a modulation of
    0.5 * `mask_scale`, so that the layer starts as half the `Conv2D` with the same kernel (plus the bias), or as
    exactly that one with `mask_scale=2.0`. The branch learns at `offset_learning_rate_multiplier` times the learning
    rate if the optimizer was passed through `tf_dcnv2.optimizers.scale_learning_rates` (detectors do that themselves).

    `layer.set_weights(conv.get_weights())` takes over a `Conv2D`'s kernel and bias, `make_deformable` those of a whole
    model. Files of weights fit the model that they were saved from: load them there before.

    Example:
        >>> layer = tf_dcnv2.layers.ModulatedDeformableConv2D(64, 3, padding="same", activation="relu")
        >>> x = keras.random.normal((2, 32, 48, 16))
        >>> layer(x).shape
        TensorShape([2, 32, 48, 64])
        >>> offset, mask = layer.sampling(x)    # (2, 32, 48, 18) in pixels and (2, 32, 48, 9)

    Args:
        mask_scale: largest modulation. 1 is the paper's, 2 that of the authors' released example.
        **kwargs: `name`, `dtype`, `trainable`, as for `DeformableConv2D`, which describes the other arguments too.

    Input shape: `(B, H, W, C)`. B, H and W may be unknown.
    Output shape: `(B, Ho, Wo, filters)`, as for `Conv2D`.

    Raises:
        ValueError: an argument or the input shape does not fit; the message names it.
    """

    modulated = True

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
        *,
        mask_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            deformable_groups=deformable_groups,
            offset_clip=offset_clip,
            offset_learning_rate_multiplier=offset_learning_rate_multiplier,
            implementation=implementation,
            **kwargs,
        )
        self.mask_scale = arguments.positive(mask_scale, "mask_scale")

    def _modulation(self, logits: tf.Tensor) -> tf.Tensor:
        return self.mask_scale * tf.sigmoid(logits)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {**super().get_config(), "mask_scale": self.mask_scale}
