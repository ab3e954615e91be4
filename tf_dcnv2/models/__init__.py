"""Detectors assembled from the layers: backbones, Faster and Mask R-CNN, and R-CNN feature mimicking."""

from tf_dcnv2.models.config import BackboneConfig, DetectorConfig, MimicConfig
from tf_dcnv2.models.faster_rcnn import FasterRCNN
from tf_dcnv2.models.feature_mimicking import FeatureMimicking
from tf_dcnv2.models.mask_rcnn import MaskRCNN, detector_class
from tf_dcnv2.models.resnet import ResNetBackbone

__all__ = [
    "BackboneConfig",
    "DetectorConfig",
    "FasterRCNN",
    "FeatureMimicking",
    "MaskRCNN",
    "MimicConfig",
    "ResNetBackbone",
    "detector_class",
]
