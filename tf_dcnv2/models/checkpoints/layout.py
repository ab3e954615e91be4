"""From PyTorch's layouts, and other orders of classes and coordinates, to those of this package."""

import math
import re

import numpy as np

from tf_dcnv2.models.checkpoints.projects import Project
from tf_dcnv2.models.config import DetectorConfig

# Fully connected layers on the bins of a RoI, and those that predict where the bins go.
_TAKES_BINS = re.compile(r"box_head/fc1|\w+_head/pooling/(offset|mask)_branch_\d/hidden_1")
_OFFSETS = re.compile(r"\w+_head/pooling/offset_branch_\d/predictor")


def converted(path: str, value: np.ndarray, project: Project, config: DetectorConfig) -> np.ndarray:
    """A weight in the layout of the variable `path`.

    Kernels (out, in, h, w) become (h, w, in, out); rows of a first fully connected layer, flattened as (channel, y, x),
    become (y, x, channel); box deltas (x, y, w, h) become (y, x, h, w); offsets of bins, ((x, y), row, column), become
    (row, column, (y, x)); the background is the first class, and has no box and no mask.

    Args:
        path: of the variable here.
        value: as the project has it.
        project: which.
        config: of the detector.
    """
    layer = path.rpartition("/")[0]
    if value.ndim == 2 and _TAKES_BINS.fullmatch(layer):
        convolved = layer == "box_head/fc1" and config.box_head.convolutions
        channels = config.box_head.conv_channels if convolved else config.neck.channels
        side = math.isqrt(value.shape[1] // channels)
        value = value.reshape(-1, channels, side, side).transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    elif value.ndim in (2, 4):
        value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
    if layer in ("rpn/boxes", "box_head/regressor"):
        value = value.reshape(*value.shape[:-1], -1, 4)[..., [1, 0, 3, 2]]
        if layer == "box_head/regressor" and project.has_background_boxes and value.shape[-2] > 1:
            value = value[..., 1:, :]
        value = value.reshape(*value.shape[:-2], -1)
    elif _OFFSETS.fullmatch(layer):
        value = value.reshape(*value.shape[:-1], 2, -1)[..., ::-1, :]
        value = value.swapaxes(-1, -2).reshape(*value.shape[:-2], -1)
    elif layer == "box_head/classifier" and project.background == "last":
        value = np.roll(value, 1, axis=-1)
    elif layer == "mask_head/classifier" and project.has_background_boxes:
        value = value[..., 1:]
    return np.ascontiguousarray(value)
