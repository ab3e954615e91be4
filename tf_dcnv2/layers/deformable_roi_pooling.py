"""Deformable RoI pooling (DCNv1)."""

from collections.abc import Sequence
from typing import Any

import keras

from tf_dcnv2.layers._roi_pooling import DeformableRoIPoolingBase
from tf_dcnv2.layers._types import DTypePolicy, IntPair, Regularizer


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
        aligned: as of `RoIAlign`.
        convention: "aligned", or "mxnet" for the bins of the original implementation, see
            `tf_dcnv2.ops.deform_roi_pool`.
        gamma: unit of the offsets, in RoI sizes. 1 is the paper's literal text.
        hidden_units: width of the branch's hidden layers.
        branch_per_level: whether each level of features has a branch of its own, as in mmdetection; not under XLA.
        branch_dtypes: dtype policies of the layers of each branch, as a quantised layer's configuration holds them;
            `None` for those that follow from `dtype`.
        kernel_regularizer: of the branch's kernels.
        implementation: "auto", "native" or "composite", see `tf_dcnv2.ops.deform_roi_pool`.
        **kwargs: `name`, `dtype`, `trainable`. Under a mixed precision policy boxes and offsets stay float32.

    Call arguments and output shape: those of `RoIAlign`.

    Raises:
        ValueError: an argument or input does not fit; the message names it.
        tf.errors.InvalidArgumentError: `box_indices` or `levels` out of range.
    """

    modulated = False

    def __init__(
        self,
        output_size: IntPair = 7,
        *,
        spatial_scale: float | Sequence[float],
        sampling_ratio: int = 2,
        aligned: bool = True,
        convention: str = "aligned",
        gamma: float = 0.1,
        hidden_units: int = 1024,
        branch_per_level: bool = False,
        kernel_regularizer: Regularizer = None,
        branch_dtypes: Sequence[Sequence[DTypePolicy]] | None = None,
        implementation: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            output_size,
            spatial_scale=spatial_scale,
            sampling_ratio=sampling_ratio,
            aligned=aligned,
            convention=convention,
            gamma=gamma,
            hidden_units=hidden_units,
            branch_per_level=branch_per_level,
            kernel_regularizer=kernel_regularizer,
            branch_dtypes=branch_dtypes,
            implementation=implementation,
            **kwargs,
        )
