"""Configurations of detectors that other projects offer, by the projects' own names."""

from tf_dcnv2._core.misspelt_names import did_you_mean
from tf_dcnv2.models.checkpoints.architecture import Settings
from tf_dcnv2.models.checkpoints.conventions import settings_of_project
from tf_dcnv2.models.checkpoints.projects import DETECTRON2, MMDETECTION, TORCHVISION, Project
from tf_dcnv2.models.config import DetectorConfig, MaskHeadConfig

_FPN: Settings = {
    "neck.kind": "fpn",
    "neck.channels": 256,
    "rpn.channels": 256,
    "box_head.units": 1024,
    "backbone.dilated_c5": False,
}
_MASK: Settings = {"mask_head.convolutions": 4, "mask_head.channels": 256}
# torchvision's second versions normalise more, and nothing is frozen.
_V2: Settings = {
    "backbone.norm_epsilon": 1e-5,
    "neck.norm": "frozen_batch",
    "rpn.convolutions": 2,
    "box_head.convolutions": 4,
    "box_head.norm": "frozen_batch",
    "box_head.fully_connected": 1,
}
_R101: Settings = {"backbone.depths": (3, 4, 23, 3)}
_X101: Settings = {**_R101, "backbone.groups": 32, "backbone.width_per_group": 4}
_DCONV: Settings = {"backbone.dcn": "v1", "backbone.dcn_stages": (3, 4, 5)}
_MDCONV: Settings = {"backbone.dcn": "v2", "backbone.dcn_stages": (3, 4, 5)}
_DPOOL: Settings = {"box_head.pooling": "v1", "box_head.pool_branch_per_level": True}
_MDPOOL: Settings = {**_DPOOL, "box_head.pooling": "v2", "box_head.pool_mask_branch": True}

_PRESETS: dict[str, tuple[Project, Settings]] = {
    "torchvision/fasterrcnn_resnet50_fpn": (TORCHVISION, {}),
    "torchvision/maskrcnn_resnet50_fpn": (TORCHVISION, _MASK),
    "torchvision/fasterrcnn_resnet50_fpn_v2": (TORCHVISION, _V2),
    "torchvision/maskrcnn_resnet50_fpn_v2": (TORCHVISION, {**_MASK, **_V2, "mask_head.norm": "frozen_batch"}),
    "detectron2/faster_rcnn_R_50_FPN_1x": (DETECTRON2, {}),
    "detectron2/faster_rcnn_R_50_FPN_3x": (DETECTRON2, {}),
    "detectron2/faster_rcnn_R_101_FPN_3x": (DETECTRON2, _R101),
    "detectron2/mask_rcnn_R_50_FPN_1x": (DETECTRON2, _MASK),
    "detectron2/mask_rcnn_R_50_FPN_3x": (DETECTRON2, _MASK),
    "detectron2/mask_rcnn_R_101_FPN_3x": (DETECTRON2, {**_MASK, **_R101}),
    "detectron2/mask_rcnn_R_50_FPN_1x_dconv_c3-c5": (DETECTRON2, {**_MASK, **_DCONV}),
    "mmdet/faster-rcnn_r50_fpn_1x_coco": (MMDETECTION, {}),
    "mmdet/faster-rcnn_r50_fpn_dconv-c3-c5_1x_coco": (MMDETECTION, _DCONV),
    "mmdet/faster-rcnn_r50_fpn_mdconv-c3-c5_1x_coco": (MMDETECTION, _MDCONV),
    "mmdet/faster-rcnn_r50_fpn_mdconv-c3-c5-group4_1x_coco": (
        MMDETECTION,
        {**_MDCONV, "backbone.deformable_groups": 4},
    ),
    "mmdet/faster-rcnn_r50_fpn_dpool_1x_coco": (MMDETECTION, _DPOOL),
    "mmdet/faster-rcnn_r50_fpn_mdpool_1x_coco": (MMDETECTION, _MDPOOL),
    "mmdet/faster-rcnn_r101_fpn_dconv-c3-c5_1x_coco": (MMDETECTION, {**_DCONV, **_R101}),
    "mmdet/faster-rcnn_x101-32x4d_fpn_dconv-c3-c5_1x_coco": (MMDETECTION, {**_DCONV, **_X101}),
    "mmdet/mask-rcnn_r50_fpn_1x_coco": (MMDETECTION, _MASK),
    "mmdet/mask-rcnn_r50_fpn_dconv-c3-c5_1x_coco": (MMDETECTION, {**_MASK, **_DCONV}),
    "mmdet/mask-rcnn_r50_fpn_mdconv-c3-c5_1x_coco": (MMDETECTION, {**_MASK, **_MDCONV}),
    "mmdet/mask-rcnn_r101_fpn_dconv-c3-c5_1x_coco": (MMDETECTION, {**_MASK, **_DCONV, **_R101}),
}


def source_preset_names() -> tuple[str, ...]:
    """Names of all detectors of other projects that have a preset here, such as "torchvision/maskrcnn_resnet50_fpn"."""
    return tuple(_PRESETS)


def load_source_preset(name: str) -> DetectorConfig:
    """The configuration of a detector that another project offers.

    Raises:
        ValueError: there is no such preset; the message suggests the nearest.
    """
    project, settings = source_preset(name)
    has_mask_head = _MASK.keys() <= settings.keys()
    return config_of({**settings_of_project(project, ()), **_FPN, **settings}, has_mask_head=has_mask_head)


def source_preset(name: str) -> tuple[Project, Settings]:
    """The project of a preset, and the settings in which the detector differs from the project's others.

    Raises:
        ValueError: there is no such preset; the message suggests the nearest.
    """
    if name not in _PRESETS:
        raise ValueError(
            f"Unknown preset {name!r} of another project.{did_you_mean([name], _PRESETS)} There are: "
            f"{', '.join(_PRESETS)}."
        )
    return _PRESETS[name]


def config_of(settings: Settings, *, has_mask_head: bool) -> DetectorConfig:
    """The configuration with settings by dotted name; those of a mask head only if there is one."""
    if not has_mask_head:
        return DetectorConfig().replace(**_without_mask_head(settings))
    return DetectorConfig(mask_head=MaskHeadConfig()).replace(**settings)


def _without_mask_head(settings: Settings) -> Settings:
    return {name: value for name, value in settings.items() if not name.startswith("mask_head.")}
