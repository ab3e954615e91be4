"""Deformable RoI pooling (DCNv1)."""

import keras

from tf_dcnv2.layers._roi_pooling import DeformableRoIPoolingBase


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class DeformableRoIPooling(DeformableRoIPoolingBase):
    """RoIAlign whose bins move: y(k) = 1/n_k sum_j x(p_kj + dp_k), dp_k = gamma * offset_k * (RoI height, RoI width).

    Deformable Convolutional Networks (arXiv:1703.06211), sec. 2.2; `ModulatedDeformableRoIPooling` is the successor.
    The offsets come from a branch over the RoI's own plainly pooled features: two fully connected layers with ReLU,
    then one that starts at zero, so that the layer starts as `RoIAlign`.

    Example:
        >>> layer = tf_dcnv2.layers.DeformableRoIPooling(7, spatial_scale=1 / 16)
        >>> features = keras.random.normal((2, 25, 42, 256))
        >>> boxes = keras.ops.array([[0.0, 0.0, 160.0, 320.0], [32.0, 16.0, 399.0, 90.0]])
        >>> layer(features, boxes, box_indices=keras.ops.array([0, 1])).shape
        TensorShape([2, 7, 7, 256])

    Args:
        output_size: bins an RoI, an integer or a pair (P, Q).
        spatial_scale: feature pixels per image pixel, 1/16 for stride 16; a list with several levels of features.
        sampling_ratio: samples a bin and axis; 0 takes as many as the bin has feature pixels.
        gamma: unit of the offsets, in RoI sizes. 1 is the paper's literal text.
        hidden_units: width of the branch's two hidden layers.
        branch_dtypes: dtype policies of the branch's three layers, as a quantised layer's configuration holds them;
            `None` for those that follow from `dtype`.
        kernel_regularizer: of the branch's three kernels.
        implementation: "auto", "native" or "composite", see `tf_dcnv2.ops.deform_roi_pool`.
        **kwargs: `name`, `dtype`, `trainable`. Under a mixed precision policy boxes and offsets stay float32.

    Call arguments and output shape: those of `RoIAlign`.

    Raises:
        ValueError: an argument or input does not fit; the message names it.
        tf.errors.InvalidArgumentError: `box_indices` or `levels` out of range.
    """

    modulated = False
