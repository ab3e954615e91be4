"""Bottleneck ResNets and ResNeXts with deformable 3x3 convolutions (paper sec. 4.1 and 5)."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.models.backbones.normalized_convolutions import JoinedNormalizations
from tf_dcnv2.models.backbones.preprocessing import preprocess
from tf_dcnv2.models.backbones.rematerialization import RematerializedStages
from tf_dcnv2.models.backbones.residual_stages import EXPANSION, ResidualStages
from tf_dcnv2.models.config import BackboneConfig
from tf_dcnv2.models.parts import take_settings
from tf_dcnv2.models.presets import load_preset, preset_names
from tf_dcnv2.models.weights import WeightReport, load_weights


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class ResNetBackbone(keras.Model):
    """ResNet or ResNeXt whose outputs are the feature maps of stages 2 to 5.

    Layer order, names and biases, and by default strides (in the first 1x1 convolution of a stage) and the epsilon of
    the batch normalisation, are those of `keras.applications.ResNet50` and `ResNet101`, so their weights load by name.
    With `dcn="none"`, or with DCNv1 layers at their initialisation, the features equal those of `keras.applications` on
    the same weights (unless `dilated_c5`, which changes stage 5). `stride_in="3x3"`, `norm_epsilon=1e-5` and
    `preprocessing="torch"` make it the network that torchvision's weights want.

    Input: `(B, H, W, 3)`, preprocessed by `preprocess`. Any H and W.
    Output: `{"C2": ..., "C3": ..., "C4": ..., "C5": ...}` with strides 4, 8, 16 and 32 (16 with `dilated_c5`) and
    `4 * widths[stage]` channels.

    Args:
        config: a `BackboneConfig`; or leave it out and give its fields by keyword. ResNet-50 by default.
        kernel_regularizer: of all convolution kernels.
        dtype: policy of all layers, such as "mixed_bfloat16"; by default the global one.

    Example:
        >>> backbone = ResNetBackbone(dcn="v2")
        >>> backbone(tf.zeros([1, 224, 224, 3]))["C5"].shape
        TensorShape([1, 7, 7, 2048])

    References: He et al., "Deep Residual Learning for Image Recognition" (arXiv:1512.03385); Xie et al., "Aggregated
    Residual Transformations for Deep Neural Networks" (arXiv:1611.05431); Zhu et al., "Deformable ConvNets v2"
    (arXiv:1811.11168) sec. 4.1.
    """

    presets = preset_names()
    weight_report: WeightReport | None = None

    def __init__(
        self,
        config: BackboneConfig | None = None,
        *,
        kernel_regularizer: Any = None,
        dtype: Any = None,
        name: str = "backbone",
        **fields: Any,
    ):
        config, arguments = take_settings(BackboneConfig, config, fields)
        policy = keras.dtype_policies.get(dtype)
        images = keras.Input((None, None, 3), name="images")
        stages = ResidualStages(config, kernel_regularizer, policy)
        x = stages.stem(images)
        features = {}
        for stage in range(2, 6):
            x = features[f"C{stage}"] = stages.stage(x, stage)
        super().__init__(images, features, name=name, **arguments)
        self.dtype_policy = policy
        self.config = config
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.channels = {f"C{stage}": EXPANSION * config.widths[stage - 2] for stage in range(2, 6)}
        self.strides = {"C2": 4, "C3": 8, "C4": 16, "C5": 16 if config.dilated_c5 else 32}
        self._freeze(config.frozen_stages)
        self._joined = JoinedNormalizations(images, features)
        self._rematerialized = RematerializedStages(images, self._joined.features) if config.rematerialize else None

    @classmethod
    def from_preset(cls, name: str, *, weights: str | None = None, **overrides: Any) -> "ResNetBackbone":
        """The backbone of a detector's preset.

        Args:
            name: one of `ResNetBackbone.presets`.
            weights: None, "imagenet", a `.keras` or `.weights.h5` file, or a PyTorch checkpoint (`.pth`, `.pt` or
                `.safetensors`); `backbone.weight_report` then says what was loaded. See
                `tf_dcnv2.models.weights.load_weights`.
            **overrides: fields of `BackboneConfig` to change.

        Raises:
            ValueError: unknown preset or field.
        """
        overrides = {f"backbone.{field}": value for field, value in overrides.items()}
        backbone = cls(load_preset(name).replace(**overrides).backbone)
        if weights is not None:
            backbone.weight_report = load_weights(backbone, weights)
        return backbone

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> dict[str, tf.Tensor]:
        """The feature maps of images. In training, batch normalisation that learns moves its averages."""
        if training and self._rematerialized is not None:
            return self._rematerialized(inputs)
        return self._joined(inputs, training=training)

    def _freeze(self, last_stage: int) -> None:
        prefixes = ("conv1_",) * (last_stage >= 1) + tuple(f"conv{stage}_" for stage in range(2, last_stage + 1))
        for layer in self.layers:
            if prefixes and layer.name.startswith(prefixes):
                layer.trainable = False

    def preprocess(self, images: tf.Tensor) -> tf.Tensor:
        """RGB images `(B, H, W, 3)` in 0..255 as a call takes them: see `BackboneConfig.preprocessing`."""
        config = self.config
        return preprocess(images, config.preprocessing, config.pixel_mean, config.pixel_deviation)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {
            **self.config.to_dict(),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> "ResNetBackbone":
        """Makes the backbone of a configuration, with new weights."""
        return cls(**config)
