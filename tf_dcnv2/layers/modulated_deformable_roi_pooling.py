"""Modulated deformable RoI pooling (DCNv2)."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.layers._roi_pooling import DeformableRoIPoolingBase
from tf_dcnv2.layers._types import DTypePolicy, IntPair, Regularizer
from tf_dcnv2.ops import arguments


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class ModulatedDeformableRoIPooling(DeformableRoIPoolingBase):
    """RoIAlign whose bins move and change in strength: y(k) = dm_k / n_k sum_j x(p_kj + dp_k).

    Deformable ConvNets v2 (arXiv:1811.11168), eq. 2, with dp_k = gamma * offset_k * (RoI height, RoI width). Offsets
    and modulation, the latter through a sigmoid, come from a branch over the RoI's own plainly pooled features: two
    fully connected layers with ReLU, then one that starts at zero. So the layer starts as `RoIAlign` times
    0.5 * `mask_scale`.

    Example:
        >>> layer = tf_dcnv2.layers.ModulatedDeformableRoIPooling(7, spatial_scale=[1 / 4, 1 / 8])
        >>> features = [keras.random.normal((2, 100, 168, 256)), keras.random.normal((2, 50, 84, 256))]
        >>> boxes = keras.ops.array([[[0.0, 0.0, 160.0, 320.0]], [[32.0, 16.0, 399.0, 90.0]]])
        >>> layer(features, boxes).shape
        TensorShape([2, 1, 7, 7, 256])

    Args:
        output_size: bins an RoI, an integer or a pair (P, Q).
        mask_scale: largest modulation. 1 is the paper's; with 2 the layer starts as exactly `RoIAlign`.
        mask_branch: whether the modulation has a branch of its own, with one hidden layer, as in mmdetection, instead
            of being predicted with the offsets.
        **kwargs: `name`, `dtype`, `trainable`, as for `DeformableRoIPooling`, which describes the other arguments too.

    Call arguments and output shape: those of `RoIAlign`.

    Raises:
        ValueError: an argument or input does not fit; the message names it.
        tf.errors.InvalidArgumentError: `box_indices` or `levels` out of range.
    """

    modulated = True

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
        mask_branch: bool = False,
        mask_scale: float = 1.0,
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
            mask_branch=mask_branch,
            kernel_regularizer=kernel_regularizer,
            branch_dtypes=branch_dtypes,
            implementation=implementation,
            **kwargs,
        )
        self.mask_scale = arguments.positive(mask_scale, "mask_scale")

    def _modulation(self, logits: tf.Tensor) -> tf.Tensor:
        return self.mask_scale * tf.sigmoid(logits)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {**super().get_config(), "mask_branch": self.mask_branch, "mask_scale": self.mask_scale}
