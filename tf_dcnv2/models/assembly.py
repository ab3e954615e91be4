"""From a configuration to the parts of a detector."""

from typing import Any

from tf_dcnv2.models.backbones import ResNetBackbone
from tf_dcnv2.models.config import DetectorConfig, NeckConfig
from tf_dcnv2.models.heads import BoxHead, MaskHead
from tf_dcnv2.models.necks import C5Neck, FeaturePyramid, Neck
from tf_dcnv2.models.rpn import RPN
from tf_dcnv2.models.weight_decay import L2


def build_parts(config: DetectorConfig, num_classes: int) -> dict[str, Any]:
    """Builds what `config` describes, by the names that a detector's constructor gives to its parts.

    Args:
        config: of the detector.
        num_classes: without background.

    Returns:
        "backbone", "neck", "rpn", "box_head" and, where there is a `config.mask_head`, "mask_head".
    """
    # Keras' L2 penalty is its factor times the squared norm; weight decay is defined by half of that.
    regularizer = L2(0.5 * config.weight_decay) if config.weight_decay else None
    backbone = ResNetBackbone(config.backbone, kernel_regularizer=regularizer)
    neck = _build_neck(config.neck, backbone, regularizer)
    rpn = RPN(neck.strides["rpn"], neck.channels["rpn"], config.rpn, kernel_regularizer=regularizer, name="rpn")
    rois: dict[str, Any] = {
        "num_classes": num_classes,
        "strides": neck.strides["roi"],
        "in_channels": neck.channels["roi"],
        "canonical_size": config.neck.canonical_size,
        "kernel_regularizer": regularizer,
    }
    parts = {"backbone": backbone, "neck": neck, "rpn": rpn}
    parts["box_head"] = BoxHead(config=config.box_head, name="box_head", **rois)
    if config.mask_head is not None:
        parts["mask_head"] = MaskHead(config=config.mask_head, name="mask_head", **rois)
    return parts


def _build_neck(config: NeckConfig, backbone: ResNetBackbone, regularizer: Any) -> Neck:
    arguments = {"channels": config.channels, "kernel_regularizer": regularizer, "name": "neck"}
    if config.kind == "c5":
        return C5Neck(backbone.strides, backbone.channels, **arguments)
    arguments |= {"levels": config.levels, "norm": config.norm, "norm_epsilon": config.norm_epsilon}
    return FeaturePyramid(backbone.strides, backbone.channels, **arguments)
