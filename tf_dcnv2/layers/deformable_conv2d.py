"""Deformable convolution (DCNv1)."""

import keras

from tf_dcnv2.layers._deformable_conv import DeformableConvBase


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class DeformableConv2D(DeformableConvBase):
    """A 2D convolution whose taps move: y(p) = sum_k w_k x(p + p_k + dp_k).

    Deformable Convolutional Networks (arXiv:1703.06211), eq. 2; `ModulatedDeformableConv2D` is the successor. The
    offsets dp_k come from a convolution over the same input, of the same kernel size, strides, padding and dilation.

    Takes the place of `keras.layers.Conv2D`. That convolution starts at zero, so that the layer starts as exactly the
    `Conv2D` with the same kernel and bias: pretrained weights stay valid. It learns at
    `offset_learning_rate_multiplier` times the learning rate if the optimizer was passed through
    `tf_dcnv2.optimizers.scale_learning_rates` (detectors do that themselves).

    `layer.set_weights(conv.get_weights())` takes over a `Conv2D`'s kernel and bias, `make_deformable` those of a whole
    model. Files of weights fit the model that they were saved from: load them there before.

    Example:
        >>> layer = tf_dcnv2.layers.DeformableConv2D(64, 3, padding="same", activation="relu")
        >>> x = keras.random.normal((2, 32, 48, 16))
        >>> layer(x).shape
        TensorShape([2, 32, 48, 64])
        >>> offset, _ = layer.sampling(x)    # (2, 32, 48, 18): (dy, dx) of 9 taps, in pixels

    Args:
        filters: output channels.
        kernel_size: rows and columns of taps, an integer or a pair.
        strides: an integer or a pair. Unlike in `Conv2D`, it goes with any `dilation_rate`.
        padding: "valid", "same" (Keras' rule, uneven for even sizes and stride 2), or pixels of zeros: an integer, a
            pair (rows, columns) or ((top, bottom), (left, right)).
        data_format: "channels_last" or `None`; nothing else is supported.
        dilation_rate: an integer or a pair.
        groups: groups of input channels that are convolved separately. The offset branch always sees all channels.
        activation: as in `Conv2D`.
        use_bias: as in `Conv2D`.
        kernel_initializer: as in `Conv2D`, like the other initializer and the constraints. They apply to the kernel and
            the bias, not to the offset branch.
        bias_initializer: see above.
        kernel_regularizer: of the kernel and of the offset branch's kernel, which weight decay should reach too.
        bias_regularizer: of the bias and of the offset branch's bias.
        activity_regularizer: as in `Conv2D`.
        kernel_constraint: see above.
        bias_constraint: see above.
        deformable_groups: groups of neighbouring input channels with offsets of their own.
        offset_clip: limit of the offsets' absolute value in pixels; `None` for no limit.
        offset_learning_rate_multiplier: attribute `learning_rate_multiplier` of the offset branch's variables.
        implementation: "auto", "native" or "composite", see `tf_dcnv2.ops.deform_conv2d`. `compile(jit_compile=True)`
            compiles "composite" only.
        **kwargs: `name`, `dtype`, `trainable`. Under a mixed precision policy offsets stay float32.

    Input shape: `(B, H, W, C)`. B, H and W may be unknown.
    Output shape: `(B, Ho, Wo, filters)`, as for `Conv2D`.

    Raises:
        ValueError: an argument or the input shape does not fit; the message names it.
    """

    modulated = False
