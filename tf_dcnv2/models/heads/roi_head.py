"""What the heads of a detector share: each looks at RoIs through a pooling of its own.

Shapes: B images, N RoIs of all images, P x P bins, C channels.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.layers import DeformableRoIPooling, ModulatedDeformableRoIPooling, RoIAlign
from tf_dcnv2.models.config import BoxHeadConfig, MaskHeadConfig
from tf_dcnv2.models.normalization import make_normalization
from tf_dcnv2.models.parts import take_settings
from tf_dcnv2.ops.arguments import integer
from tf_dcnv2.ops.fpn import fpn_levels


class RoIHead(keras.layers.Layer):
    """A head with RoI pooling of the kind `config.pooling`, whose offset branch belongs to this head alone.

    Subclasses set `settings`, the class of their configuration, and create their layers in `_make_layers`.

    Args:
        num_classes: without background.
        strides: pixels per cell of each RoI feature level: `neck.strides["roi"]`.
        in_channels: channels of every level: `neck.channels["roi"]`.
        config: the head's settings, or leave it out and give its fields by keyword; those of the pooling count here.
        canonical_size: side in pixels of a RoI that is pooled from level 4; half the side, one level finer.
        kernel_regularizer: of every kernel, those of the pooling's offset branch included.
    """

    settings: type[BoxHeadConfig] | type[MaskHeadConfig]
    config: BoxHeadConfig | MaskHeadConfig

    def __init__(
        self,
        num_classes: int,
        strides: Sequence[int],
        in_channels: int,
        config: BoxHeadConfig | MaskHeadConfig | None = None,
        *,
        canonical_size: float = 224.0,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        config, kwargs = take_settings(self.settings, config, kwargs)
        # Without autocast, which would round boxes to half precision.
        super().__init__(autocast=False, **kwargs)
        self.num_classes = integer(num_classes, "num_classes", minimum=1)
        self.strides = tuple(strides)
        self.in_channels = in_channels
        self.config = config
        self.canonical_size = canonical_size
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.pooling = self._make_pooling()
        self._make_layers()

    def _make_layers(self) -> None:
        """Creates what follows the pooling."""
        raise NotImplementedError(f"{type(self).__name__} must implement _make_layers")

    def _make_pooling(self) -> keras.layers.Layer:
        arguments = {
            "output_size": self.config.pool_size,
            "spatial_scale": [1.0 / stride for stride in self.strides],
            "sampling_ratio": self.config.sampling_ratio,
            "aligned": self.config.aligned,
            "dtype": self.dtype_policy,
            "name": "pooling",
        }
        if self.config.pooling == "none":
            return RoIAlign(**arguments)
        arguments |= {
            "convention": self.config.pool_convention,
            "hidden_units": self.config.pool_branch_units,
            "branch_per_level": self.config.pool_branch_per_level,
            "kernel_regularizer": self.kernel_regularizer,
        }
        if self.config.pooling == "v1":
            return DeformableRoIPooling(**arguments)
        return ModulatedDeformableRoIPooling(mask_branch=self.config.pool_mask_branch, **arguments)

    def _make_convolutions(self, number: int, channels: int, **arguments: Any) -> list[keras.layers.Layer]:
        """3x3 convolutions with ReLU, each with its normalisation if there is one, in the order of their calls."""
        config, layers = self.config, []
        for name in (f"conv{index}" for index in range(1, number + 1)):
            convolution = {"padding": "same", "kernel_regularizer": self.kernel_regularizer, **arguments}
            if config.norm == "none":
                layers.append(
                    keras.layers.Conv2D(
                        channels, 3, activation="relu", dtype=self.dtype_policy, name=name, **convolution
                    )
                )
                continue
            layers += [
                keras.layers.Conv2D(channels, 3, use_bias=False, dtype=self.dtype_policy, name=name, **convolution),
                make_normalization(
                    config.norm, channels, epsilon=config.norm_epsilon, dtype=self.dtype_policy, name=f"{name}_norm"
                ),
                keras.layers.ReLU(dtype=self.dtype_policy, name=f"{name}_relu"),
            ]
        return layers

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. Their shapes follow from the constructor's arguments, whatever `input_shape` is."""
        self.pooling.build([(None, None, None, self.in_channels)] * len(self.strides))

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
            boxes: `(N, 4)` in pixels of the network image.
            image_indices: int32 `(N,)`, the image of each.
            level_indices: int32 `(N,)`, the level of each; by default the FPN rule.
        """
        if level_indices is None:
            finest = self.strides[0].bit_length() - 1  # level l has stride 2**l
            level_indices = fpn_levels(boxes, len(self.strides), finest=finest, canonical_size=self.canonical_size)
        return self.pooling(levels, boxes, image_indices, levels=level_indices)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "strides": list(self.strides),
            "in_channels": self.in_channels,
            **self.config.to_dict(),
            "canonical_size": self.canonical_size,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
