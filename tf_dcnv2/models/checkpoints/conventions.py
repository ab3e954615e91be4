"""What neither names nor shapes of weights tell: the conventions of each project, and its configuration files."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tf_dcnv2.models.checkpoints.architecture import Settings
from tf_dcnv2.models.checkpoints.projects import DETECTRON2, MMDETECTION, TORCHVISION, Project

# Of ImageNet, in RGB and 0..255.
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

_COMMON: Settings = {
    "backbone.norm": "frozen_batch",
    "backbone.norm_epsilon": 1e-5,
    "backbone.frozen_stages": 2,
    "backbone.preprocessing": "rgb",
    "backbone.pixel_mean": _MEAN,
    "backbone.pixel_deviation": _DEVIATION,
    "neck.levels": (2, 3, 4, 5, 6),
    "neck.canonical_size": 224.0,
    "rpn.anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0),
    "rpn.aspect_ratios": (2.0, 1.0, 0.5),  # width / height; the projects count height / width
    "rpn.anchor_offset": 0.0,
    "rpn.pre_nms": (2000, 1000),
    "rpn.proposals": (1000, 1000),
    "rpn.box_loss_beta": 0.0,
    "box_head.sampling_ratio": 0,
    "box_head.box_loss_beta": 0.0,
    "mask_head.sampling_ratio": 0,
    "short_side": 800,
    "max_side": 1333,
}
_OF_PROJECT: dict[str, Settings] = {
    TORCHVISION.name: {
        "resizing": "torchvision",
        "backbone.stride_in": "3x3",
        "rpn.anchor_rounding": True,
        "rpn.anchor_stride": "image",
        "rpn.proposals": (2000, 1000),
        "rpn.smallest_side": 1e-3,
        "rpn.box_loss_beta": 1.0 / 9.0,
        "box_head.sampling_ratio": 2,
        "box_head.aligned": False,
        "box_head.smallest_side": 0.01,
        "box_head.box_loss_beta": 1.0 / 9.0,
        "mask_head.sampling_ratio": 2,
        "mask_head.aligned": False,
        "mask_head.whole_pixels": True,
    },
    MMDETECTION.name: {
        "resizing": "opencv",
        "backbone.stride_in": "3x3",
        "rpn.delta_limits": "both",
        "box_head.delta_limits": "both",
    },
    DETECTRON2.name: {
        "resizing": "pillow",
        "backbone.stride_in": "1x1",
        "backbone.preprocessing": "bgr",
        "backbone.pixel_mean": _MEAN[::-1],
        "backbone.pixel_deviation": (1.0, 1.0, 1.0),
    },
}


def settings_of_project(project: Project, names: Iterable[str]) -> Settings:
    """The settings of a `DetectorConfig`, by dotted name, that all detectors of a project have by default.

    Args:
        project: which.
        names: of the checkpoint's weights, as the project has them.
    """
    settings = {**_COMMON, **_OF_PROJECT[project.name]}
    if project is TORCHVISION and not any(name.endswith(".num_batches_tracked") for name in names):
        # Frozen normalisation: that of the detectors on offer, which were trained when it added nothing to variances.
        settings["backbone.norm_epsilon"] = 0.0
    return settings


def settings_from_config(project: Project, config: Mapping[str, Any]) -> Settings:
    """The settings of a `DetectorConfig`, by dotted name, that a project's configuration has; see `project_configs`.

    Raises:
        ValueError: it describes a detector of another kind; the message names the entry.
    """
    readers = {
        TORCHVISION.name: _from_torchvision,
        MMDETECTION.name: _from_mmdetection,
        DETECTRON2.name: _from_detectron2,
    }
    return {name: value for name, value in readers[project.name](Entries(config)).items() if value is not None}


class Entries:
    """The entries of a configuration, by dotted name."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content

    def __call__(self, name: str) -> Any:
        """The value of an entry; None where there is none."""
        value: Any = self._content
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def require(self, name: str, *expected: Any) -> None:
        """Refuses a value other than those expected."""
        value = self(name)
        if value is not None and value not in expected:
            wanted = " or ".join(json.dumps(one) for one in expected)
            raise ValueError(f"The configuration's {name} must be {wanted} for this detector. Received: {value!r}")


def _pair(first: Any, second: Any) -> tuple[Any, Any] | None:
    return None if first is None or second is None else (first, second)


def _tuple(values: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


def deformable_stages(flags: Iterable[Any] | None) -> tuple[int, ...] | None:
    """The stages that are deformable, from a flag for each of C2 to C5; None where there are no flags."""
    return None if flags is None else tuple(stage for stage, on in enumerate(flags, start=2) if on)


def _inverse(ratios: Any) -> tuple[float, ...] | None:
    return None if ratios is None else tuple(1.0 / ratio for ratio in ratios)


def _from_torchvision(entry: Entries) -> Settings:
    """The attributes of the model, by the names of its constructor and its parts."""
    sizes, ratios = entry("anchor_sizes"), entry("aspect_ratios")
    mean, deviation = entry("image_mean"), entry("image_std")
    rpn, roi = "rpn._pre_nms_top_n", "rpn._post_nms_top_n"
    return {
        "backbone.norm_epsilon": entry("norm_eps"),
        "backbone.pixel_mean": None if mean is None else tuple(255.0 * value for value in mean),
        "backbone.pixel_deviation": None if deviation is None else tuple(255.0 * value for value in deviation),
        "neck.canonical_size": entry("canonical_scale"),
        "rpn.anchor_sizes": None if sizes is None else tuple(float(level[0]) for level in sizes),
        "rpn.aspect_ratios": None if ratios is None else _inverse(ratios[0]),
        "rpn.pre_nms": _pair(entry(f"{rpn}.training"), entry(f"{rpn}.testing")),
        "rpn.proposals": _pair(entry(f"{roi}.training"), entry(f"{roi}.testing")),
        "rpn.nms_iou": entry("rpn.nms_thresh"),
        "rpn.smallest_side": entry("rpn.min_size"),
        "box_head.box_weights": _tuple(entry("roi_box_coder_weights")),
        "box_head.score_threshold": entry("roi.score_thresh"),
        "box_head.nms_iou": entry("roi.nms_thresh"),
        "box_head.max_detections": entry("roi.detections_per_img"),
        "short_side": entry("min_size"),
        "max_side": entry("max_size"),
    }


def _from_detectron2(entry: Entries) -> Settings:
    entry.require("MODEL.META_ARCHITECTURE", "GeneralizedRCNN")
    entry.require("MODEL.ROI_HEADS.NAME", "StandardROIHeads")
    entry.require("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2")
    entry.require("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead")
    entry.require("MODEL.FPN.FUSE_TYPE", "sum")
    entry.require("MODEL.FPN.NORM", "")
    entry.require("INPUT.FORMAT", "BGR", "RGB")
    strides = {True: "1x1", False: "3x3", None: None}
    sizes, ratios = entry("MODEL.ANCHOR_GENERATOR.SIZES"), entry("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS")
    modulated, groups = entry("MODEL.RESNETS.DEFORM_MODULATED"), entry("MODEL.RESNETS.DEFORM_NUM_GROUPS")
    stages = entry("MODEL.RESNETS.DEFORM_ON_PER_STAGE") or []
    deformation = {}
    if any(stages):
        deformation = {
            "backbone.dcn": "v2" if modulated else "v1",
            "backbone.dcn_stages": deformable_stages(stages),
            "backbone.deformable_groups": groups,
        }
    input_format = entry("INPUT.FORMAT")
    return {
        **deformation,
        "backbone.stride_in": strides[entry("MODEL.RESNETS.STRIDE_IN_1X1")],
        "backbone.frozen_stages": entry("MODEL.BACKBONE.FREEZE_AT"),
        "backbone.preprocessing": None if input_format is None else input_format.lower(),
        "backbone.pixel_mean": _tuple(entry("MODEL.PIXEL_MEAN")),
        "backbone.pixel_deviation": _tuple(entry("MODEL.PIXEL_STD")),
        "neck.canonical_size": entry("MODEL.ROI_BOX_HEAD.CANONICAL_BOX_SIZE"),
        "rpn.anchor_sizes": None if sizes is None else tuple(float(level[0]) for level in sizes),
        "rpn.aspect_ratios": None if ratios is None else _inverse(ratios[0]),
        "rpn.anchor_offset": entry("MODEL.ANCHOR_GENERATOR.OFFSET"),
        "rpn.pre_nms": _pair(entry("MODEL.RPN.PRE_NMS_TOPK_TRAIN"), entry("MODEL.RPN.PRE_NMS_TOPK_TEST")),
        "rpn.proposals": _pair(entry("MODEL.RPN.POST_NMS_TOPK_TRAIN"), entry("MODEL.RPN.POST_NMS_TOPK_TEST")),
        "rpn.nms_iou": entry("MODEL.RPN.NMS_THRESH"),
        "rpn.box_loss_beta": entry("MODEL.RPN.SMOOTH_L1_BETA"),
        "rpn.samples": entry("MODEL.RPN.BATCH_SIZE_PER_IMAGE"),
        "box_head.sampling_ratio": entry("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO"),
        "box_head.box_weights": _tuple(entry("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS")),
        "box_head.box_loss_beta": entry("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA"),
        "box_head.samples": entry("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"),
        "box_head.positive_fraction": entry("MODEL.ROI_HEADS.POSITIVE_FRACTION"),
        "box_head.score_threshold": entry("MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        "box_head.nms_iou": entry("MODEL.ROI_HEADS.NMS_THRESH_TEST"),
        "box_head.max_detections": entry("TEST.DETECTIONS_PER_IMAGE"),
        "mask_head.sampling_ratio": entry("MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO"),
        "short_side": entry("INPUT.MIN_SIZE_TEST"),
        "max_side": entry("INPUT.MAX_SIZE_TEST"),
    }


def _from_mmdetection(entry: Entries) -> Settings:
    entry.require("model.type", "FasterRCNN", "MaskRCNN")
    entry.require("model.backbone.type", "ResNet", "ResNeXt")
    entry.require("model.backbone.dcn.type", "DCN", "DCNv2")
    entry.require("model.neck.type", "FPN")
    entry.require("model.roi_head.type", "StandardRoIHead")
    entry.require("model.roi_head.bbox_head.loss_cls.use_sigmoid", False)
    for coder in ("model.rpn_head.bbox_coder", "model.roi_head.bbox_head.bbox_coder"):
        entry.require(f"{coder}.type", "DeltaXYWHBBoxCoder")  # not the "Legacy" one, of version 1
    anchors = "model.rpn_head.anchor_generator"
    where = "model." if entry("model.test_cfg") else ""  # mmdetection 2.0 has them beside the model
    rpn, rcnn, train_rpn = f"{where}test_cfg.rpn", f"{where}test_cfg.rcnn", f"{where}train_cfg.rpn_proposal"
    scales, strides = entry(f"{anchors}.scales"), entry(f"{anchors}.strides")
    dcn, finest = entry("model.backbone.dcn"), entry("model.roi_head.bbox_roi_extractor.finest_scale")
    on = entry("model.backbone.stage_with_dcn") or ()
    deformation: Settings = {}
    if dcn and any(on):
        deformation = {
            "backbone.dcn": {"DCN": "v1", "DCNv2": "v2"}.get(dcn.get("type"), dcn.get("type")),
            "backbone.dcn_stages": deformable_stages(on),
            "backbone.deformable_groups": dcn.get("deform_groups") or dcn.get("deformable_groups", 1),
        }
    frozen, to_rgb = entry("model.backbone.frozen_stages"), entry("model.data_preprocessor.bgr_to_rgb")
    stds = entry("model.roi_head.bbox_head.bbox_coder.target_stds")
    return {
        **deformation,
        "backbone.stride_in": {"pytorch": "3x3", "caffe": "1x1"}.get(entry("model.backbone.style")),
        "backbone.frozen_stages": None if frozen is None else (frozen + 1 if frozen >= 0 else 0),
        "backbone.preprocessing": None if to_rgb is None else ("rgb" if to_rgb else "bgr"),
        "backbone.pixel_mean": _tuple(entry("model.data_preprocessor.mean")),
        "backbone.pixel_deviation": _tuple(entry("model.data_preprocessor.std")),
        "neck.canonical_size": 4.0 * finest if finest else None,
        "rpn.anchor_sizes": tuple(float(scales[0] * stride) for stride in strides) if scales and strides else None,
        "rpn.aspect_ratios": _inverse(entry(f"{anchors}.ratios")),
        "rpn.pre_nms": _pair(entry(f"{train_rpn}.nms_pre"), entry(f"{rpn}.nms_pre")),
        "rpn.proposals": _pair(
            entry(f"{train_rpn}.max_per_img") or entry(f"{train_rpn}.max_num"),
            entry(f"{rpn}.max_per_img") or entry(f"{rpn}.max_num"),
        ),
        "rpn.nms_iou": entry(f"{rpn}.nms.iou_threshold") or entry(f"{rpn}.nms_thr"),
        "rpn.smallest_side": entry(f"{rpn}.min_bbox_size"),
        "rpn.box_loss_beta": _beta(entry("model.rpn_head.loss_bbox")),
        **_mmdetection_pooling(entry, "model.roi_head.bbox_roi_extractor.roi_layer", "box_head"),
        "box_head.box_weights": None if stds is None else tuple(1.0 / stds[index] for index in (1, 0, 3, 2)),
        "box_head.box_loss_beta": _beta(entry("model.roi_head.bbox_head.loss_bbox")),
        "box_head.score_threshold": entry(f"{rcnn}.score_thr"),
        "box_head.nms_iou": entry(f"{rcnn}.nms.iou_threshold") or entry(f"{rcnn}.nms.iou_thr"),
        "box_head.max_detections": entry(f"{rcnn}.max_per_img"),
        **_mmdetection_pooling(entry, "model.roi_head.mask_roi_extractor.roi_layer", "mask_head"),
        **_mmdetection_images(entry("test_pipeline") or entry("data.test.pipeline") or []),
    }


# Kind of layer, as mmcv and as mmdetection's first releases call it -> kind of pooling.
_ROI_LAYERS = {"RoIAlign": "none", "DeformRoIPoolPack": "v1", "ModulatedDeformRoIPoolPack": "v2"}
_FIRST_ROI_LAYERS = {"DeformRoIPoolingPack": "v1", "ModulatedDeformRoIPoolingPack": "v2"}


def _mmdetection_pooling(entry: Entries, layer: str, head: str) -> Settings:
    """The settings of a head from those of its RoI pooling `layer`."""
    kind = entry(f"{layer}.type")
    if kind is None:
        return {}
    entry.require(f"{layer}.type", *_ROI_LAYERS, *_FIRST_ROI_LAYERS)
    if kind in _FIRST_ROI_LAYERS:
        # Their bins are those of the original implementation, with four samples by four.
        entry.require(f"{layer}.group_size", 1)
        entry.require(f"{layer}.no_trans", False)
        entry.require(f"{layer}.trans_std", 0.1)
        samples = entry(f"{layer}.sample_per_part") or 4
        return {
            f"{head}.pooling": _FIRST_ROI_LAYERS[kind],
            f"{head}.pool_convention": "mxnet",
            f"{head}.sampling_ratio": samples,
        }
    entry.require(f"{layer}.gamma", 0.1)
    return {
        f"{head}.pooling": _ROI_LAYERS[kind],
        f"{head}.sampling_ratio": entry(f"{layer}.sampling_ratio") or entry(f"{layer}.sample_num") or 0,
        f"{head}.aligned": entry(f"{layer}.aligned"),
    }


def _beta(loss: Mapping[str, Any] | None) -> float | None:
    """Where a box loss becomes linear."""
    if not loss:
        return None
    betas = {"L1Loss": 0.0, "SmoothL1Loss": loss.get("beta", 1.0)}
    if loss.get("type") not in betas:
        raise ValueError(f"The configuration's loss_bbox must be an L1Loss or a SmoothL1Loss. Received: {dict(loss)}")
    return betas[loss["type"]]


def _mmdetection_images(pipeline: Iterable[Mapping[str, Any]]) -> Settings:
    """How a pipeline prepares images: its step `Resize`, or mmdetection 2's `MultiScaleFlipAug` and the steps in it."""
    settings: Settings = {}
    for step in pipeline:
        kind, scale = step.get("type"), step.get("scale") or step.get("img_scale")
        if kind in ("Resize", "MultiScaleFlipAug") and scale:
            settings |= {"short_side": min(scale), "max_side": max(scale)}
        elif kind == "Normalize":
            settings |= {
                "backbone.preprocessing": "rgb" if step.get("to_rgb", True) else "bgr",
                "backbone.pixel_mean": tuple(step["mean"]),
                "backbone.pixel_deviation": tuple(step["std"]),
            }
        if kind == "MultiScaleFlipAug":
            settings |= _mmdetection_images(step.get("transforms") or [])
    return settings
