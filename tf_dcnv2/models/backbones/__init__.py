"""Networks that turn images into feature maps."""

from tf_dcnv2.models.backbones.keras_backbone import KerasBackbone
from tf_dcnv2.models.backbones.protocol import Backbone
from tf_dcnv2.models.backbones.resnet import ResNetBackbone

__all__ = ["Backbone", "KerasBackbone", "ResNetBackbone"]
