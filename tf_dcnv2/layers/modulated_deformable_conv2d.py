"""Modulated deformable convolution (DCNv2)."""

import keras
import tensorflow as tf

from tf_dcnv2.layers._deformable_conv import DeformableConvBase
from tf_dcnv2.ops import arguments


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

    `layer.set_weights(conv.get_weights())` takes over a `Conv2D`'s kernel and bias. Files of weights, by name or not,
    fit the model that they were saved from: load them there, and copy layer by layer.

    Example:
        >>> layer = tf_dcnv2.layers.ModulatedDeformableConv2D(64, 3, padding="same", activation="relu")
        >>> x = keras.random.normal((2, 32, 48, 16))
        >>> layer(x).shape
        TensorShape([2, 32, 48, 64])
        >>> offset, mask = layer.sampling(x)    # (2, 32, 48, 18) in pixels and (2, 32, 48, 9)

    Args:
        mask_scale: largest modulation. 1 is the paper's, 2 that of the authors' released example.
        *args: those of `DeformableConv2D`, in the same order.
        **kwargs: those of `DeformableConv2D`.

    Input shape: `(B, H, W, C)`. B, H and W may be unknown.
    Output shape: `(B, Ho, Wo, filters)`, as for `Conv2D`.

    Raises:
        ValueError: an argument or the input shape does not fit; the message names it.
    """

    modulated = True

    def __init__(self, *args, mask_scale=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.mask_scale = arguments.positive(mask_scale, "mask_scale")

    def _modulation(self, logits):
        return self.mask_scale * tf.sigmoid(logits)

    def get_config(self):
        return {**super().get_config(), "mask_scale": self.mask_scale}
