"""What a detector costs: weights and multiply-adds of a configuration, counted without building it.

Multiply-adds are those of inference on one image: of convolutions and dense layers, and four for each value that
deformable convolutions and RoI poolings interpolate. Normalisation, activations, additions, the decoding of boxes and
non-maximum suppression are left out.

Sizes are (height, width); every layer with stride 2 halves them, rounding up.
"""

import dataclasses
import math

from tf_dcnv2.models.config import (
    BackboneConfig,
    BoxHeadConfig,
    Deformation,
    DetectorConfig,
    MaskHeadConfig,
    NeckConfig,
    RPNConfig,
)

_SAMPLES_PER_BIN = 4  # RoI pooling's 2 x 2 grid
_CORNERS = 4  # of a bilinear interpolation


@dataclasses.dataclass(frozen=True)
class Cost:
    """Number of weights, moving averages included as in Keras' `count_params`, and of multiply-adds."""

    parameters: int = 0
    multiply_adds: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)


def detector_cost(
    config: DetectorConfig, num_classes: int = 80, image_size: tuple[int, int] | None = None
) -> dict[str, Cost]:
    """The cost of each part: "backbone", "neck", "rpn", "box_head" and, for Mask R-CNN, "mask_head".

    Args:
        config: of the detector.
        num_classes: without background; COCO's by default.
        image_size: (height, width) in pixels; by default an image of 4:3, as most of COCO's are, at the
            configuration's `short_side` and `max_side`.

    Example:
        >>> detector_cost(load_preset("faster_rcnn_r50_dcnv2"))["neck"]
        Cost(parameters=524544, multiply_adds=2774532096)
    """
    backbone, sizes = _backbone(config.backbone, image_size or default_image_size(config))
    channels = {stage: 4 * config.backbone.widths[stage - 2] for stage in sizes}
    if config.neck.kind == "c5":
        rpn_sizes, rpn_channels, anchors_per_level = [sizes[4]], channels[4], len(config.rpn.anchor_sizes)
    else:
        rpn_sizes = [sizes[level] if level <= 5 else _halve(sizes[5]) for level in config.neck.levels]
        rpn_channels, anchors_per_level = config.neck.channels, 1
    anchors_per_cell = anchors_per_level * len(config.rpn.aspect_ratios)
    parts = {
        "backbone": backbone,
        "neck": _neck(config.neck, sizes, channels),
        "rpn": _rpn(config.rpn, rpn_sizes, rpn_channels, anchors_per_cell),
        "box_head": _box_head(config.box_head, config.rpn.proposals[1], config.neck.channels, num_classes),
    }
    if config.mask_head is not None:
        rois = config.box_head.max_detections
        parts["mask_head"] = _mask_head(config.mask_head, rois, config.neck.channels, num_classes)
    return parts


def total_cost(config: DetectorConfig, num_classes: int = 80, image_size: tuple[int, int] | None = None) -> Cost:
    """The cost of the whole detector; see `detector_cost`."""
    return sum(detector_cost(config, num_classes, image_size).values(), Cost())


def without_deformation(config: DetectorConfig) -> DetectorConfig:
    """The same detector with regular convolutions and regular RoI pooling."""
    overrides = {"backbone.dcn": "none", "backbone.dcn_stages": (), "box_head.pooling": "none"}
    if config.mask_head is not None:
        overrides["mask_head.pooling"] = "none"
    return config.replace(**overrides)


def default_image_size(config: DetectorConfig) -> tuple[int, int]:
    """(height, width) of a landscape image of 4:3 at the configuration's image size."""
    return config.short_side, min(round(config.short_side * 4 / 3), config.max_side)


def _halve(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)


def _convolution(
    outputs: int, channels: int, filters: int, kernel_size: int = 1, groups: int = 1, bias: bool = True
) -> Cost:
    """At `outputs` places."""
    kernel = kernel_size**2 * channels // groups * filters
    return Cost(kernel + filters * bias, kernel * outputs)


def _dense(rows: int, inputs: int, units: int) -> Cost:
    return _convolution(rows, inputs, units)


def _backbone(config: BackboneConfig, image_size: tuple[int, int]) -> tuple[Cost, dict[int, tuple[int, int]]]:
    """The cost, and the sizes of the features of stages 2..5."""

    def pointwise(size, channels, filters):
        return _convolution(math.prod(size), channels, filters) + norm(filters)

    def norm(channels):
        return Cost((2 if config.norm == "group" else 4) * channels)

    size = _halve(image_size)
    total = _convolution(math.prod(size), 3, config.stem_width, 7) + norm(config.stem_width)
    size = _halve(size)
    sizes, channels = {}, config.stem_width
    for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=2):
        spatial_width = width * config.width_per_group // 64 * config.groups
        keeps_size = stage == 2 or (stage == 5 and config.dilated_c5)
        for block in range(depth):
            size_in = size
            if block == 0:
                size = size if keeps_size else _halve(size)
                total += pointwise(size, channels, 4 * width)  # the shortcut
            total += pointwise(size if config.stride_in == "1x1" else size_in, channels, spatial_width)
            total += _spatial(config, stage, math.prod(size), spatial_width) + norm(spatial_width)
            total += pointwise(size, spatial_width, 4 * width)
            channels = 4 * width
        sizes[stage] = size
    return total, sizes


def _spatial(config: BackboneConfig, stage: int, outputs: int, width: int) -> Cost:
    """A 3x3 convolution of a block, with its offset branch where it is deformable."""
    cost = _convolution(outputs, width, width, 3, config.groups)
    if stage not in (config.dcn_stages or ()):
        return cost
    branch = (3 if config.dcn == "v2" else 2) * 9 * config.deformable_groups
    return cost + _convolution(outputs, width, branch, 3) + Cost(0, outputs * 9 * width * _CORNERS)


def _neck(config: NeckConfig, sizes: dict[int, tuple[int, int]], channels: dict[int, int]) -> Cost:
    if config.kind == "c5":
        return _convolution(math.prod(sizes[5]), channels[5], config.channels)
    total = Cost()
    for level in config.levels:
        if level <= 5:  # P6 is a subsampled P5
            outputs = math.prod(sizes[level])
            total += _convolution(outputs, channels[level], config.channels)
            total += _convolution(outputs, config.channels, config.channels, 3)
    return total


def _rpn(config: RPNConfig, sizes: list[tuple[int, int]], channels: int, anchors_per_cell: int) -> Cost:
    cells = sum(math.prod(size) for size in sizes)
    return _convolution(cells, channels, config.channels, 3) + _convolution(
        cells, config.channels, (1 + 4) * anchors_per_cell
    )


def _pooling(kind: Deformation, rois: int, bins: int, channels: int, units: int) -> Cost:
    """RoI pooling, which a deformable one does twice: once for its branch, then with the bins moved."""
    pooling = Cost(0, rois * bins * channels * _SAMPLES_PER_BIN * _CORNERS)
    if kind == "none":
        return pooling
    branch = _dense(rois, bins * channels, units) + _dense(rois, units, units)
    return pooling + branch + _dense(rois, units, (3 if kind == "v2" else 2) * bins) + pooling


def _box_head(config: BoxHeadConfig, rois: int, channels: int, num_classes: int) -> Cost:
    bins = config.pool_size**2
    return (
        _pooling(config.pooling, rois, bins, channels, config.pool_branch_units)
        + _dense(rois, bins * channels, config.units)
        + _dense(rois, config.units, config.units)
        + _dense(rois, config.units, (num_classes + 1) + 4 * num_classes)
    )


def _mask_head(config: MaskHeadConfig, rois: int, channels: int, num_classes: int) -> Cost:
    bins = config.pool_size**2
    total = _pooling(config.pooling, rois, bins, channels, config.pool_branch_units)
    for _ in range(config.convolutions):
        total += _convolution(rois * bins, channels, config.channels, 3)
        channels = config.channels
    # A transposed 2x2 convolution with stride 2: one tap reaches each of its 4 * bins outputs.
    upsampling = _convolution(rois * bins, channels, config.channels, 2)
    return total + upsampling + _convolution(rois * 4 * bins, config.channels, num_classes)
