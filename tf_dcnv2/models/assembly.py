"""From a configuration to a detector."""

from collections.abc import Sequence
from typing import Any

import keras

from tf_dcnv2.models.backbones import ResNetBackbone
from tf_dcnv2.models.categories import CategoryMap
from tf_dcnv2.models.config import DetectorConfig, NeckConfig
from tf_dcnv2.models.faster_rcnn import FasterRCNN
from tf_dcnv2.models.heads import BoxHead, MaskHead
from tf_dcnv2.models.mask_rcnn import MaskRCNN
from tf_dcnv2.models.necks import C5Neck, FeaturePyramid, Neck
from tf_dcnv2.models.rpn import RPN


def build_detector(config: DetectorConfig, category_ids: Sequence[int], name: str | None = None) -> FasterRCNN:
    """The detector that `config` describes; see `DetectorConfig.build`."""
    category_ids = CategoryMap(category_ids).ids
    # Keras' L2 penalty is its factor times the squared norm; weight decay is defined by half of that.
    regularizer = keras.regularizers.L2(0.5 * config.weight_decay) if config.weight_decay else None
    backbone = ResNetBackbone(config.backbone, kernel_regularizer=regularizer)
    neck = _build_neck(config.neck, backbone, regularizer)
    rpn = RPN(neck.strides["rpn"], neck.channels["rpn"], config.rpn, kernel_regularizer=regularizer, name="rpn")
    rois: dict[str, Any] = {
        "num_classes": len(category_ids),
        "strides": neck.strides["roi"],
        "in_channels": neck.channels["roi"],
        "canonical_size": config.neck.canonical_size,
        "kernel_regularizer": regularizer,
    }
    arguments: dict[str, Any] = {
        "category_ids": category_ids,
        "short_side": config.short_side,
        "max_side": config.max_side,
        "name": name,
    }
    box_head = BoxHead(config=config.box_head, name="box_head", **rois)
    if config.mask_head is None:
        return FasterRCNN(backbone, neck, rpn, box_head, **arguments)
    mask_head = MaskHead(config=config.mask_head, name="mask_head", **rois)
    return MaskRCNN(backbone, neck, rpn, box_head, mask_head, **arguments)


def _build_neck(config: NeckConfig, backbone: ResNetBackbone, regularizer) -> Neck:
    arguments = {"channels": config.channels, "kernel_regularizer": regularizer, "name": "neck"}
    if config.kind == "c5":
        return C5Neck(backbone.strides, backbone.channels, **arguments)
    return FeaturePyramid(backbone.strides, backbone.channels, levels=config.levels, **arguments)
