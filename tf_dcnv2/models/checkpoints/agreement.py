"""Whether a configuration or a preset is that of the weights it is given for."""

from collections.abc import Mapping
from typing import Any

from tf_dcnv2.models.checkpoints.architecture import Settings
from tf_dcnv2.models.checkpoints.conventions import Entries, deformable_stages
from tf_dcnv2.models.checkpoints.projects import DETECTRON2, MMDETECTION, TORCHVISION, Project

# What the two sides are compared by besides settings.
CLASSES, MASK_HEAD, FIRST_WIDTH = "number of classes", "mask head", "width of the first stage"
STANDARD_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_DEFORMATION = ("backbone.dcn", "backbone.deformable_groups")
_OFFSETS = {"none": 0, "v1": 18, "v2": 27}  # channels of an offset branch for each group


def require_agreement(described: Mapping[str, Any], found: Mapping[str, Any], source: str) -> None:
    """Refuses what describes another detector than the weights are of.

    Args:
        described: by name; names that `found` has not are left out.
        found: what the shapes of the weights tell, by the same names.
        source: of what is described, for the message.

    Raises:
        ValueError: a value differs; the message names both.
    """
    # Shapes tell the channels of offset branches, and not always whether these are DCNv1's or DCNv2's.
    described, found = _with_offset_channels(described), _with_offset_channels(found)
    for name in described:
        if name in found and described[name] != found[name]:
            raise ValueError(
                f"{source} describes another detector than the weights are of: its {name} is {described[name]!r}, that "
                f"of the weights {found[name]!r}. Give the one that belongs to them, or none."
            )


def architecture_of_weights(shapes: Settings, class_count: int, *, has_mask_head: bool) -> dict[str, Any]:
    """What weights are compared by: settings that follow from their shapes, and what is no setting."""
    return {
        **shapes,
        CLASSES: class_count,
        MASK_HEAD: has_mask_head,
        FIRST_WIDTH: shapes["backbone.widths"][0],
    }


def architecture_of_config(project: Project, config: Mapping[str, Any]) -> Settings:
    """What a project's configuration says about shapes, by the names that `architecture_of_weights` has too."""
    readers = {TORCHVISION.name: _torchvision, MMDETECTION.name: _mmdetection, DETECTRON2.name: _detectron2}
    return {name: value for name, value in readers[project.name](Entries(config)).items() if value is not None}


def _with_offset_channels(settings: Mapping[str, Any]) -> Settings:
    kind, groups = settings.get("backbone.dcn"), settings.get("backbone.deformable_groups", 1)
    others = {name: value for name, value in settings.items() if name not in _DEFORMATION}
    return others if kind is None else {**others, "number of offset channels": _OFFSETS[kind] * groups}


def _torchvision(entry: Entries) -> Settings:
    classes, depths = entry("num_classes_with_background"), entry("depths")
    return {
        CLASSES: None if classes is None else classes - 1,
        "backbone.depths": None if depths is None else tuple(depths),
        FIRST_WIDTH: entry("resnet_width"),
        "neck.channels": entry("fpn_channels"),
        "box_head.units": entry("fc"),
    }


def _mmdetection(entry: Entries) -> Settings:
    backbone, head = "model.backbone", "model.roi_head.bbox_head"
    has_backbone = entry(backbone) is not None
    stages = deformable_stages(entry(f"{backbone}.stage_with_dcn")) if entry(f"{backbone}.dcn") else ()
    return {
        CLASSES: entry(f"{head}.num_classes"),
        MASK_HEAD: None if entry("model.roi_head") is None else entry("model.roi_head.mask_head") is not None,
        "backbone.depths": STANDARD_DEPTHS.get(entry(f"{backbone}.depth")),
        FIRST_WIDTH: entry(f"{backbone}.base_channels") or (64 if has_backbone else None),
        "backbone.groups": entry(f"{backbone}.groups"),
        "backbone.dcn_stages": stages if has_backbone else None,
        "neck.channels": entry("model.neck.out_channels"),
        "rpn.channels": entry("model.rpn_head.feat_channels"),
        "box_head.units": entry(f"{head}.fc_out_channels"),
        "mask_head.convolutions": entry("model.roi_head.mask_head.num_convs"),
        "mask_head.channels": entry("model.roi_head.mask_head.conv_out_channels"),
    }


def _detectron2(entry: Entries) -> Settings:
    width = entry("MODEL.RESNETS.RES2_OUT_CHANNELS")
    has_masks = bool(entry("MODEL.MASK_ON"))
    return {
        CLASSES: entry("MODEL.ROI_HEADS.NUM_CLASSES"),
        MASK_HEAD: entry("MODEL.MASK_ON"),
        "backbone.depths": STANDARD_DEPTHS.get(entry("MODEL.RESNETS.DEPTH")),
        FIRST_WIDTH: None if width is None else width // 4,
        "backbone.groups": entry("MODEL.RESNETS.NUM_GROUPS"),
        "backbone.dcn_stages": deformable_stages(entry("MODEL.RESNETS.DEFORM_ON_PER_STAGE")),
        "neck.channels": entry("MODEL.FPN.OUT_CHANNELS"),
        "box_head.units": entry("MODEL.ROI_BOX_HEAD.FC_DIM"),
        "box_head.fully_connected": entry("MODEL.ROI_BOX_HEAD.NUM_FC"),
        "mask_head.convolutions": entry("MODEL.ROI_MASK_HEAD.NUM_CONV") if has_masks else None,
        "mask_head.channels": entry("MODEL.ROI_MASK_HEAD.CONV_DIM") if has_masks else None,
    }
