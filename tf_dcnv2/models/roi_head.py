"""What the heads of a detector share: each looks at RoIs through a pooling of its own.

Shapes: B images, N RoIs of all images, P x P bins, C channels.
"""

import keras
import tensorflow as tf

from tf_dcnv2.layers import DeformableRoIPooling, ModulatedDeformableRoIPooling, RoIAlign
from tf_dcnv2.models.config import BoxHeadConfig, MaskHeadConfig
from tf_dcnv2.models.neck import Neck
from tf_dcnv2.ops.fpn import fpn_levels


class RoIHead(keras.layers.Layer):
    """A head with RoI pooling of the kind `config.pooling`, whose offset branch belongs to this head alone.

    Args:
        config: its `pooling`, `pool_size` and `pool_branch_units` count here.
        neck: gives the strides and channels of the RoI feature levels.
        canonical_size: of the rule that gives each RoI its level, see `NeckConfig`.
        kernel_regularizer: of the kernels of the pooling's offset branch.
    """

    def __init__(
        self,
        config: BoxHeadConfig | MaskHeadConfig,
        neck: Neck,
        *,
        canonical_size: float = 224.0,
        kernel_regularizer=None,
        **kwargs,
    ):
        # Without autocast, which would round boxes to half precision.
        super().__init__(autocast=False, **kwargs)
        self.config = config
        self._strides = neck.roi_strides
        self._channels = neck.roi_channels
        self._canonical_size = canonical_size
        arguments = {"output_size": config.pool_size, "spatial_scale": [1.0 / s for s in neck.roi_strides]}
        if config.pooling == "none":
            self.pooling = RoIAlign(**arguments, name="pooling")
        else:
            pooling = DeformableRoIPooling if config.pooling == "v1" else ModulatedDeformableRoIPooling
            self.pooling = pooling(
                **arguments,
                hidden_units=config.pool_branch_units,
                kernel_regularizer=kernel_regularizer,
                name="pooling",
            )

    def build(self, input_shape=None) -> None:
        self.pooling.build([(None, None, None, self._channels)] * len(self._strides))

    def pool(
        self,
        levels: list[tf.Tensor],
        boxes: tf.Tensor,
        image_indices: tf.Tensor,
        level_indices: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Features `(N, P, P, C)` of RoIs.

        Args:
            levels: RoI features, finest first.
            boxes: `(N, 4)` in pixels of the network image; image_indices: int32 `(N,)`, the image of each.
            level_indices: int32 `(N,)`, the level of each; by default the FPN rule.
        """
        if level_indices is None:
            finest = self._strides[0].bit_length() - 1  # level l has stride 2**l
            level_indices = fpn_levels(boxes, len(self._strides), finest=finest, canonical_size=self._canonical_size)
        return self.pooling(levels, boxes, image_indices, levels=level_indices)
