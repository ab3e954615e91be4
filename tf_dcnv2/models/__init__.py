"""Detectors assembled from the layers: backbones, Faster and Mask R-CNN, and R-CNN feature mimicking."""

from tf_dcnv2.models.augmented_detector import AugmentedDetector
from tf_dcnv2.models.backbones import Backbone, KerasBackbone, ResNetBackbone
from tf_dcnv2.models.checkpoints import import_detector, source_preset_names
from tf_dcnv2.models.config import (
    BackboneConfig,
    BoxHeadConfig,
    DetectorConfig,
    MaskHeadConfig,
    MimicConfig,
    NeckConfig,
    RPNConfig,
)
from tf_dcnv2.models.cost import Cost, model_cost, multiply_adds
from tf_dcnv2.models.faster_rcnn import FasterRCNN
from tf_dcnv2.models.feature_mimicking import FeatureMimicking, crop
from tf_dcnv2.models.heads import BoxHead, MaskHead
from tf_dcnv2.models.mask_rcnn import MaskRCNN
from tf_dcnv2.models.necks import C5Neck, FeaturePyramid, Neck
from tf_dcnv2.models.part_costs import detector_cost, parts_cost
from tf_dcnv2.models.presets import load_preset, preset_names
from tf_dcnv2.models.rpn import RPN
from tf_dcnv2.models.weights import WeightReport, load_weights

__all__ = [
    "RPN",
    "AugmentedDetector",
    "Backbone",
    "BackboneConfig",
    "BoxHead",
    "BoxHeadConfig",
    "C5Neck",
    "Cost",
    "DetectorConfig",
    "FasterRCNN",
    "FeatureMimicking",
    "FeaturePyramid",
    "KerasBackbone",
    "MaskHead",
    "MaskHeadConfig",
    "MaskRCNN",
    "MimicConfig",
    "Neck",
    "NeckConfig",
    "RPNConfig",
    "ResNetBackbone",
    "WeightReport",
    "crop",
    "detector_cost",
    "import_detector",
    "load_preset",
    "load_weights",
    "model_cost",
    "multiply_adds",
    "parts_cost",
    "preset_names",
    "source_preset_names",
]
