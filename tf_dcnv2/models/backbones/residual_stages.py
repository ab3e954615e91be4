"""The layers of bottleneck ResNets and ResNeXts, with or without deformable 3x3 convolutions (paper sec. 4.1)."""

from typing import Any

import keras
from keras import KerasTensor

from tf_dcnv2.layers import DeformableConv2D, GroupedConv2D, ModulatedDeformableConv2D
from tf_dcnv2.models.config import BackboneConfig
from tf_dcnv2.models.normalization import make_normalization

EXPANSION = 4  # a stage's output has this many times the channels of its width
DEFORMABLE_CONVOLUTIONS = {"v1": DeformableConv2D, "v2": ModulatedDeformableConv2D}


class ResidualStages:
    """Adds the layers of one configuration to a graph of Keras tensors; names are those of keras.applications."""

    def __init__(self, config: BackboneConfig, kernel_regularizer: Any, dtype: keras.DTypePolicy):
        self._config = config
        self._dtype = {"dtype": dtype}
        self._convolution = {"kernel_regularizer": kernel_regularizer, "dtype": dtype}

    def stem(self, x: KerasTensor) -> KerasTensor:
        """A 7x7 convolution and pooling, both with stride 2, of images `(B, H, W, 3)`."""
        x = keras.layers.ZeroPadding2D(3, name="conv1_pad", **self._dtype)(x)
        x = keras.layers.Conv2D(self._config.stem_width, 7, strides=2, name="conv1_conv", **self._convolution)(x)
        x = self._norm_relu(x, "conv1")
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad", **self._dtype)(x)
        return keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool", **self._dtype)(x)

    def stage(self, x: KerasTensor, stage: int) -> KerasTensor:
        """The blocks of stage 2, 3, 4 or 5, the first of which has the stage's stride."""
        dilation = 2 if stage == 5 and self._config.dilated_c5 else 1
        stride = 1 if stage == 2 or dilation == 2 else 2
        for block in range(1, self._config.depths[stage - 2] + 1):
            x = self._block(x, stage, f"conv{stage}_block{block}", stride if block == 1 else 1, dilation, block == 1)
        return x

    def _block(self, x: KerasTensor, stage: int, name: str, stride: int, dilation: int, project: bool) -> KerasTensor:
        config = self._config
        width = config.widths[stage - 2]
        spatial_width = width * config.width_per_group // 64 * config.groups
        first_stride, spatial_stride = (stride, 1) if config.stride_in == "1x1" else (1, stride)
        shortcut = x
        if project:
            shortcut = self._pointwise(x, EXPANSION * width, f"{name}_0", stride)
        x = self._relu(self._pointwise(x, spatial_width, f"{name}_1", first_stride), f"{name}_1")
        x = self._spatial(x, stage, spatial_width, f"{name}_2", spatial_stride, dilation)
        x = self._norm_relu(x, f"{name}_2")
        x = self._pointwise(x, EXPANSION * width, f"{name}_3", 1)
        x = keras.layers.Add(name=f"{name}_add", **self._dtype)([shortcut, x])
        return keras.layers.Activation("relu", name=f"{name}_out", **self._dtype)(x)

    def _pointwise(self, x: KerasTensor, channels: int, name: str, stride: int) -> KerasTensor:
        x = keras.layers.Conv2D(channels, 1, strides=stride, name=f"{name}_conv", **self._convolution)(x)
        return self._norm(x, name)

    def _spatial(self, x: KerasTensor, stage: int, width: int, name: str, stride: int, dilation: int) -> KerasTensor:
        config = self._config
        arguments = {"strides": stride, "dilation_rate": dilation, "groups": config.groups, **self._convolution}
        if stage in (config.dcn_stages or ()):
            layer = DEFORMABLE_CONVOLUTIONS[config.dcn](
                width,
                3,
                padding="same" if stride == 1 else dilation,
                deformable_groups=config.deformable_groups,
                offset_clip=config.offset_clip,
                offset_learning_rate_multiplier=config.offset_learning_rate_multiplier,
                name=f"{name}_conv",
                **arguments,
            )
            return layer(x)
        # With stride 2 "same" would pad an even size on the far side only; weights are trained with both sides padded.
        x = keras.layers.ZeroPadding2D(dilation, name=f"{name}_pad", **self._dtype)(x) if stride > 1 else x
        convolution = keras.layers.Conv2D if config.groups == 1 else GroupedConv2D
        return convolution(width, 3, padding="valid" if stride > 1 else "same", name=f"{name}_conv", **arguments)(x)

    def _norm_relu(self, x: KerasTensor, name: str) -> KerasTensor:
        return self._relu(self._norm(x, name), name)

    def _norm(self, x: KerasTensor, name: str) -> KerasTensor:
        config = self._config
        layer = make_normalization(
            config.norm,
            x.shape[-1],
            epsilon=config.norm_epsilon,
            momentum=config.norm_momentum,
            name=f"{name}_bn",
            **self._dtype,
        )
        return layer(x)

    def _relu(self, x: KerasTensor, name: str) -> KerasTensor:
        return keras.layers.Activation("relu", name=f"{name}_relu", **self._dtype)(x)
