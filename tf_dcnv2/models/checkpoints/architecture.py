"""What the shapes of a detector's weights tell about it."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_dcnv2.models.checkpoints.projects import Project

Settings = dict[str, Any]


def settings_from_shapes(weights: Mapping[str, np.ndarray], project: Project) -> Settings:
    """The settings of a `DetectorConfig`, by dotted name, that follow from shapes.

    Args:
        weights: in PyTorch's layout, by the path of the variable here that each is for.
        project: whose they are.

    Raises:
        ValueError: the weights are those of no such detector; the message names the one that is missing or odd.
    """
    neck_channels = _shape(weights, "neck/p2/kernel")[0]
    settings = {
        **_backbone(weights),
        "neck.kind": "fpn",
        "neck.channels": neck_channels,
        "neck.norm": _norm(weights, "neck/p2"),
        "rpn.channels": _shape(weights, "rpn/shared/kernel")[0],
        "rpn.convolutions": _count(weights, r"rpn/shared\d*"),
        **_box_head(weights, neck_channels),
    }
    if "mask_head/classifier/kernel" in weights:
        settings |= _pooling(weights, "mask_head")
        settings["mask_head.convolutions"] = _count(weights, r"mask_head/conv\d+")
        settings["mask_head.norm"] = _norm(weights, "mask_head/conv1")
        settings["mask_head.channels"] = _shape(weights, "mask_head/upsampling/kernel")[1]
    return settings


def class_count(weights: Mapping[str, np.ndarray]) -> int:
    """How many classes there are, without background."""
    return _shape(weights, "box_head/classifier/kernel")[0] - 1


def _backbone(weights: Mapping[str, np.ndarray]) -> Settings:
    widths = tuple(_shape(weights, f"conv{stage}_block1_3_conv/kernel")[0] // 4 for stage in range(2, 6))
    spatial, group_channels = _shape(weights, "conv2_block1_2_conv/kernel")[:2]
    groups = spatial // group_channels
    branches = {
        stage: _shape(weights, f"conv{stage}_block1_2_conv/offset_kernel")[0]
        for stage in range(2, 6)
        if f"conv{stage}_block1_2_conv/offset_kernel" in weights
    }
    return {
        "backbone.depths": tuple(_count(weights, rf"conv{stage}_block\d+_3_conv") for stage in range(2, 6)),
        "backbone.widths": widths,
        "backbone.stem_width": _shape(weights, "conv1_conv/kernel")[0],
        "backbone.groups": groups,
        "backbone.width_per_group": spatial * 64 // (groups * widths[0]),
        "backbone.dilated_c5": False,
        **_deformation(branches),
    }


def _deformation(branches: Mapping[int, int]) -> Settings:
    """Which stages are deformable and how, from the channels of their offset branches: 18 or 27 for each group.

    54 channels, which are three groups of the first or two of the second, are taken for the second; a configuration
    tells them apart.
    """
    if not branches:
        return {"backbone.dcn": "none", "backbone.dcn_stages": ()}
    channels = set(branches.values())
    number = channels.pop()
    if channels or (number % 27 and number % 18):
        raise ValueError(f"The offset branches must all have 18 or 27 channels for each group. Received: {branches}")
    kind, each = ("v2", 27) if number % 27 == 0 else ("v1", 18)
    return {
        "backbone.dcn": kind,
        "backbone.dcn_stages": tuple(branches),
        "backbone.deformable_groups": number // each,
    }


def _box_head(weights: Mapping[str, np.ndarray], in_channels: int) -> Settings:
    convolutions = _count(weights, r"box_head/conv\d+")
    settings: Settings = {"box_head.convolutions": convolutions, "box_head.norm": _norm(weights, "box_head/conv1")}
    if convolutions:
        settings["box_head.conv_channels"] = in_channels = _shape(weights, "box_head/conv1/kernel")[0]
    units, flat = _shape(weights, "box_head/fc1/kernel")
    return {
        **settings,
        "box_head.fully_connected": _count(weights, r"box_head/fc\d"),
        "box_head.units": units,
        "box_head.pool_size": _side(flat, in_channels),
        "box_head.class_agnostic": _shape(weights, "box_head/regressor/kernel")[0] == 4,
        **_pooling(weights, "box_head"),
    }


def _norm(weights: Mapping[str, np.ndarray], convolution: str) -> str:
    """What follows a convolution outside the backbone."""
    return "frozen_batch" if f"{convolution}_norm/gamma" in weights else "none"


def _pooling(weights: Mapping[str, np.ndarray], head: str) -> Settings:
    """How the bins of a head are moved and weighted, from the branches of its RoI pooling."""
    branch = f"{head}/pooling/offset_branch_0/hidden_1/kernel"
    if branch not in weights:
        return {f"{head}.pooling": "none"}
    is_modulated = f"{head}/pooling/mask_branch_0/hidden_1/kernel" in weights
    return {
        f"{head}.pooling": "v2" if is_modulated else "v1",
        f"{head}.pool_branch_units": _shape(weights, branch)[0],
        f"{head}.pool_branch_per_level": True,
        f"{head}.pool_mask_branch": is_modulated,
    }


def _shape(weights: Mapping[str, np.ndarray], path: str) -> tuple[int, ...]:
    if path not in weights:
        raise ValueError(f"The checkpoint has no weight for {path}: it is incomplete, or of another detector.")
    return weights[path].shape


def _count(weights: Mapping[str, np.ndarray], pattern: str) -> int:
    """How many layers there are of a name, whichever of their weights are there."""
    layers = {path.rpartition("/")[0] for path in weights}
    return sum(re.fullmatch(pattern, layer) is not None for layer in layers)


def _side(flat: int, channels: int) -> int:
    side = math.isqrt(flat // channels)
    if side * side * channels != flat:
        raise ValueError(
            f"box_head/fc1 takes {flat} values, which are no square of bins with {channels} channels: the detector is "
            "of another kind."
        )
    return side
