"""What is measured: in full, and small enough for tests.

Channels C go in and come out; H x W are the pixels of a feature map.
"""

import dataclasses
from typing import Any

from benchmarks.cases import RESNET_STAGES, ConvCase


@dataclasses.dataclass(frozen=True)
class RoICase:
    """`count` RoIs on the pyramid P2-P5, with `channels` channels, of an image of `image_size` pixels."""

    count: int
    channels: int
    image_size: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.count} RoIs, {self.channels} ch"


@dataclasses.dataclass(frozen=True)
class DetectorCase:
    """Two presets that differ in their deformable parts, with `overrides` of their settings, on one image.

    torchvision's detector is always the one with ResNet-50, on an image of this size.
    """

    deformable: str
    regular: str
    image_size: tuple[int, int]
    overrides: dict[str, Any]

    def __str__(self) -> str:
        """`1 image, 512 x 800`."""
        return f"1 image, {self.image_size[0]} x {self.image_size[1]}"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The cases of every section.

    Attributes:
        conv: feature maps of the detector's deformable layers.
        groups: the same with groups.
        pixels: the same channels on maps that grow.
        channels: the same map with channels that grow.
        threads: what is repeated with more and more threads.
        roi, step, detector: see there.
    """

    conv: tuple[ConvCase, ...]
    groups: tuple[ConvCase, ...]
    pixels: tuple[ConvCase, ...]
    channels: tuple[ConvCase, ...]
    threads: ConvCase
    roi: RoICase
    step: DetectorCase
    detector: DetectorCase


_TINY_NETWORK = {
    "backbone.depths": [1, 1, 1, 1],
    "backbone.widths": [4, 4, 8, 8],
    "backbone.stem_width": 8,
    "neck.channels": 16,
    "rpn.channels": 16,
    "box_head.pool_branch_units": 16,
    "box_head.units": 32,
    "box_head.samples": 16,
}
_TINY_MASK_HEAD = {"mask_head.pool_branch_units": 16, "mask_head.convolutions": 1, "mask_head.channels": 16}


FULL = Sizes(
    conv=tuple(ConvCase(*stage) for stage in RESNET_STAGES),
    groups=(
        *(ConvCase(*stage, groups=32) for stage in RESNET_STAGES),
        *(ConvCase(*stage, groups=stage[0]) for stage in RESNET_STAGES),
    ),
    pixels=tuple(ConvCase(128, *size) for size in ((25, 42), (50, 84), (100, 168), (200, 336))),
    channels=tuple(ConvCase(channels, 50, 84) for channels in (64, 128, 256, 512)),
    threads=ConvCase(256, 50, 84),
    roi=RoICase(1000, 256, (800, 1344)),
    step=DetectorCase("faster_rcnn_r50_dcnv2", "faster_rcnn_r50_regular", (512, 800), {}),
    detector=DetectorCase("mask_rcnn_r50_dcnv2", "mask_rcnn_r50_regular", (512, 800), {}),
)

QUICK = Sizes(
    conv=(ConvCase(8, 12, 20), ConvCase(16, 6, 10)),
    groups=(ConvCase(8, 12, 20, groups=4), ConvCase(8, 12, 20, groups=8)),
    pixels=(ConvCase(8, 6, 10), ConvCase(8, 12, 20)),
    channels=(ConvCase(8, 6, 10), ConvCase(16, 6, 10)),
    threads=ConvCase(8, 12, 20),
    roi=RoICase(20, 8, (128, 192)),
    step=DetectorCase("faster_rcnn_small_dcnv2", "faster_rcnn_small_regular", (64, 96), _TINY_NETWORK),
    detector=DetectorCase(
        "mask_rcnn_small_dcnv2", "mask_rcnn_small_regular", (64, 96), {**_TINY_NETWORK, **_TINY_MASK_HEAD}
    ),
)
