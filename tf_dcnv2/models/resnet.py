"""Bottleneck ResNets with deformable 3x3 convolutions (paper sec. 4.1 and 5)."""

from typing import Any

import keras

from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D
from tf_dcnv2.models.config import BackboneConfig
from tf_dcnv2.models.normalization import make_normalization
from tf_dcnv2.models.presets import load_preset, preset_names
from tf_dcnv2.models.weights import load_backbone_weights

EXPANSION = 4  # a stage's output has this many times the channels of its 3x3 convolutions
_CONVOLUTIONS = {"v1": DeformableConv2D, "v2": ModulatedDeformableConv2D}


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class ResNetBackbone(keras.Model):
    """ResNet whose outputs are the feature maps of stages 2 to 5.

    Layer order, names, strides (in the first 1x1 convolution of a stage), biases and the epsilon of the batch
    normalisation are those of `keras.applications.ResNet50`, so its weights load by name. With `dcn="none"`, or with
    DCNv1 layers at their initialisation, the features equal those of `keras.applications` on the same weights
    (unless `dilated_c5`, which changes stage 5).

    Input: `(B, H, W, 3)`, preprocessed (see `preprocess`). Any H and W.
    Output: `{"C2": ..., "C3": ..., "C4": ..., "C5": ...}` with strides 4, 8, 16 and 32 (16 with `dilated_c5`) and
    `4 * widths[stage]` channels.

    Args:
        config: a `BackboneConfig`; or leave it out and give its fields by keyword. ResNet-50 by default.
        kernel_regularizer: of all convolution kernels.

    Example:
        >>> backbone = ResNetBackbone(dcn="v2")
        >>> backbone(tf.zeros([1, 224, 224, 3]))["C5"].shape
        TensorShape([1, 7, 7, 2048])

    Reference: He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385); Zhu et al.,
    "Deformable ConvNets v2" (arXiv:1811.11168) sec. 4.1.
    """

    presets = preset_names()

    def __init__(
        self, config: BackboneConfig | None = None, *, kernel_regularizer=None, name: str = "backbone", **fields: Any
    ):
        if config is not None and fields:
            raise ValueError(f"Give either config or its fields. Received: config={config}, and {', '.join(fields)}")
        config = config or BackboneConfig(**fields)
        images = keras.Input((None, None, 3), name="images")
        stages = _Stages(config, kernel_regularizer)
        x = stages.stem(images)
        features = {}
        for stage in range(2, 6):
            x = features[f"C{stage}"] = stages.stage(x, stage)
        super().__init__(images, features, name=name)
        self.backbone_config = config
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.channels = {f"C{stage}": EXPANSION * config.widths[stage - 2] for stage in range(2, 6)}
        self.strides = {"C2": 4, "C3": 8, "C4": 16, "C5": 16 if config.dilated_c5 else 32}
        self._freeze(config.frozen_stages)

    @classmethod
    def from_preset(cls, name: str, *, weights: str | None = None, **overrides: Any) -> "ResNetBackbone":
        """The backbone of a detector's preset.

        Args:
            name: one of `ResNetBackbone.presets`.
            weights: None, "imagenet", or a `.keras` or `.weights.h5` file.
            **overrides: fields of `BackboneConfig` to change.

        Raises:
            ValueError: unknown preset or field.
        """
        overrides = {f"backbone.{field}": value for field, value in overrides.items()}
        backbone = cls(load_preset(name).replace(**overrides).backbone)
        if weights is not None:
            load_backbone_weights(backbone, weights)
        return backbone

    def _freeze(self, last_stage: int) -> None:
        prefixes = ("conv1_",) * (last_stage >= 1) + tuple(f"conv{stage}_" for stage in range(2, last_stage + 1))
        for layer in self.layers:
            if prefixes and layer.name.startswith(prefixes):
                layer.trainable = False

    def deformable_layers(self) -> list[keras.layers.Layer]:
        """The deformable convolutions, from input to output."""
        return [layer for layer in self.layers if isinstance(layer, tuple(_CONVOLUTIONS.values()))]

    def get_config(self) -> dict:
        return {
            **self.backbone_config.to_dict(),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects=None) -> "ResNetBackbone":
        return cls(**config)


class _Stages:
    """Adds the layers of one configuration to a graph of Keras tensors."""

    def __init__(self, config: BackboneConfig, kernel_regularizer):
        self._config = config
        self._arguments = {"kernel_regularizer": kernel_regularizer}

    def stem(self, x):
        x = keras.layers.ZeroPadding2D(3, name="conv1_pad")(x)
        x = keras.layers.Conv2D(self._config.stem_width, 7, strides=2, name="conv1_conv", **self._arguments)(x)
        x = self._norm_relu(x, "conv1")
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
        return keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)

    def stage(self, x, stage: int):
        dilation = 2 if stage == 5 and self._config.dilated_c5 else 1
        stride = 1 if stage == 2 or dilation == 2 else 2
        for block in range(1, self._config.depths[stage - 2] + 1):
            x = self._block(x, stage, f"conv{stage}_block{block}", stride if block == 1 else 1, dilation, block == 1)
        return x

    def _block(self, x, stage: int, name: str, stride: int, dilation: int, project: bool):
        width = self._config.widths[stage - 2]
        shortcut = x
        if project:
            shortcut = self._pointwise(x, EXPANSION * width, f"{name}_0", stride)
        x = self._relu(self._pointwise(x, width, f"{name}_1", stride), f"{name}_1")
        x = self._spatial(x, stage, width, f"{name}_2", dilation)
        x = self._norm_relu(x, f"{name}_2")
        x = self._pointwise(x, EXPANSION * width, f"{name}_3", 1)
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
        return keras.layers.Activation("relu", name=f"{name}_out")(x)

    def _pointwise(self, x, channels: int, name: str, stride: int):
        x = keras.layers.Conv2D(channels, 1, strides=stride, name=f"{name}_conv", **self._arguments)(x)
        return make_normalization(self._config, f"{name}_bn", channels)(x)

    def _spatial(self, x, stage: int, width: int, name: str, dilation: int):
        if stage not in self._config.dcn_stages:
            layer = keras.layers.Conv2D(
                width, 3, padding="same", dilation_rate=dilation, name=f"{name}_conv", **self._arguments
            )
        else:
            layer = _CONVOLUTIONS[self._config.dcn](
                width,
                3,
                padding="same",
                dilation_rate=dilation,
                deformable_groups=self._config.deformable_groups,
                name=f"{name}_conv",
                **self._arguments,
            )
        return layer(x)

    def _norm_relu(self, x, name: str):
        return self._relu(make_normalization(self._config, f"{name}_bn", x.shape[-1])(x), name)

    def _relu(self, x, name: str):
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)


def preprocess(images, config: BackboneConfig):
    """RGB images in 0..255 as the backbone wants them: see `BackboneConfig.preprocessing`."""
    if config.preprocessing == "caffe":
        return keras.applications.imagenet_utils.preprocess_input(images, data_format="channels_last", mode="caffe")
    return images / 127.5 - 1.0
