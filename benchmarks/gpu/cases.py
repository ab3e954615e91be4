"""What is measured: in full, small enough to see that everything works, and tiny for a dry run without a GPU.

Channels C go in and come out; H x W are the pixels of a feature map. Boxes are float32 always.
"""

import dataclasses

from benchmarks.cases import BFLOAT16, BOTH, FLOAT16, FLOAT32, FORWARD, RESNET_STAGES, TF32, ConvCase

BINS = 7
SAMPLES = 2

INPUT_GRADIENT = "input gradient"
OFFSET_GRADIENTS = "offset and mask gradients"
KERNEL_GRADIENT = "kernel gradient"
BACKWARD = "backward"

# In the order in which they are measured: where a gradient fails, the others are known before all are computed at once.
CONV_WORKS = (FORWARD, INPUT_GRADIENT, OFFSET_GRADIENTS, KERNEL_GRADIENT, BOTH)
ROI_WORKS = (FORWARD, BACKWARD, BOTH)

CONV_PRECISIONS = (FLOAT32, TF32, BFLOAT16, FLOAT16)
# Pooling multiplies no matrices.
ROI_PRECISIONS = (FLOAT32, BFLOAT16, FLOAT16)
# What float16 would tell, bfloat16 tells too.
VARIANT_PRECISIONS = (FLOAT32, TF32, BFLOAT16)


@dataclasses.dataclass(frozen=True)
class RoICase:
    """`rois` RoIs an image, 7 x 7 bins of 2 x 2 samples, on maps of H x W pixels that are 1 / `stride` of the image."""

    channels: int
    height: int
    width: int
    stride: int
    batch: int
    rois: int

    def __str__(self) -> str:
        return f"{self.batch} x {self.height} x {self.width} x {self.channels}"

    @property
    def all_rois(self) -> int:
        return self.batch * self.rois

    @property
    def elements(self) -> int:
        """Of the feature map."""
        return self.batch * self.height * self.width * self.channels

    @property
    def pooled_elements(self) -> int:
        """Of the output."""
        return self.all_rois * BINS * BINS * self.channels


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured on a device.

    Attributes:
        cases: the most important first: time may run out.
        variants: cases on which the library's choices are compared with others.
        memory: cases of which the workspace is looked at.
        copy_bytes, matrix_side: sizes by which the device's two rates are measured.
    """

    cases: tuple[ConvCase | RoICase, ...]
    variants: tuple[ConvCase, ...]
    memory: tuple[ConvCase, ...]
    copy_bytes: int
    matrix_side: int


# What a pixel of each stage's map is in pixels of the image.
_STRIDES = (8, 16, 32)
_ROIS_PER_IMAGE = 512

# By stage.
CONV_OF_TWO_IMAGES, CONV_OF_SIXTEEN_IMAGES = (
    tuple(ConvCase(*stage, batch) for stage in RESNET_STAGES) for batch in (2, 16)
)
_ROI_OF_TWO_IMAGES = tuple(
    RoICase(*stage, stride, 2, _ROIS_PER_IMAGE) for stage, stride in zip(RESNET_STAGES, _STRIDES, strict=True)
)
_ROI_OF_SIXTEEN_IMAGES = (RoICase(*RESNET_STAGES[1], _STRIDES[1], 16, _ROIS_PER_IMAGE),)
# ResNeXt's stage 4, MobileNet's kind of convolution, and the deformable groups of R-FCN.
_CONV_OF_GROUPS = (
    ConvCase(512, 50, 84, 2, groups=32),
    ConvCase(256, 50, 84, 2, groups=256),
    ConvCase(256, 50, 84, 2, deformable_groups=4),
)

FULL = Sizes(
    cases=(
        *(*CONV_OF_TWO_IMAGES, *_ROI_OF_TWO_IMAGES),
        *(*CONV_OF_SIXTEEN_IMAGES, *_ROI_OF_SIXTEEN_IMAGES, *_CONV_OF_GROUPS),
    ),
    variants=CONV_OF_TWO_IMAGES,
    memory=CONV_OF_TWO_IMAGES,
    copy_bytes=2**31,
    matrix_side=8192,
)
QUICK = Sizes(
    cases=(ConvCase(128, 25, 42, 2), RoICase(256, 25, 42, 32, 2, 64), ConvCase(256, 13, 21, 2, groups=32)),
    variants=(ConvCase(128, 25, 42, 2),),
    memory=(ConvCase(128, 25, 42, 2),),
    copy_bytes=2**28,
    matrix_side=2048,
)
# The emulator runs kernels thread by thread.
TINY = Sizes(
    cases=(ConvCase(16, 4, 7, 2), RoICase(16, 6, 9, 16, 2, 3), ConvCase(16, 4, 7, 2, groups=4, deformable_groups=2)),
    variants=(ConvCase(16, 4, 7, 2),),
    memory=(ConvCase(16, 4, 7, 2),),
    copy_bytes=2**20,
    matrix_side=64,
)
