"""What is measured: in full, small enough to see that everything works, and tiny for a dry run without a GPU.

Channels C go in and come out; H x W are the pixels of a feature map. Offsets, mask and boxes are float32 always.
"""

import dataclasses

KERNEL_SIZE = 3
TAPS = KERNEL_SIZE * KERNEL_SIZE
BINS = 7
SAMPLES = 2

FORWARD = "forward"
INPUT_GRADIENT = "input gradient"
OFFSET_GRADIENTS = "offset and mask gradients"
KERNEL_GRADIENT = "kernel gradient"
BACKWARD = "backward"
BOTH = "forward + backward"

# In the order in which they are measured: where a gradient fails, the others are known before all are computed at once.
CONV_WORKS = (FORWARD, INPUT_GRADIENT, OFFSET_GRADIENTS, KERNEL_GRADIENT, BOTH)
ROI_WORKS = (FORWARD, BACKWARD, BOTH)


@dataclasses.dataclass(frozen=True)
class Precision:
    """How numbers are stored and multiplied; sums are float32 or wider always.

    Attributes:
        name: for tables.
        storage: PyTorch's name of the type of maps and kernels.
        bytes: of a stored number.
        tolerance: the largest error of an output or gradient as a fraction of its largest value.
        allow_tf32: factors of float32 products may be rounded to TF32.
    """

    name: str
    storage: str
    bytes: int
    tolerance: float
    allow_tf32: bool = False

    def __str__(self) -> str:
        return self.name


# Sums of thousands of terms in another order; where factors have 11 or 8 bits, a few roundings of them.
FLOAT32 = Precision("float32", "float32", 4, 1e-4)
TF32 = Precision("TF32", "float32", 4, 2e-3, allow_tf32=True)
BFLOAT16 = Precision("bfloat16", "bfloat16", 2, 1.6e-2)
FLOAT16 = Precision("float16", "float16", 2, 2e-3)

CONV_PRECISIONS = (FLOAT32, TF32, BFLOAT16, FLOAT16)
# Pooling multiplies no matrices.
ROI_PRECISIONS = (FLOAT32, BFLOAT16, FLOAT16)
# What float16 would tell, bfloat16 tells too.
VARIANT_PRECISIONS = (FLOAT32, TF32, BFLOAT16)


@dataclasses.dataclass(frozen=True)
class ConvCase:
    """`batch` images of H x W pixels, C channels in and as many out, kernel 3x3, strides 1, "same" padding."""

    channels: int
    height: int
    width: int
    batch: int
    groups: int = 1
    deformable_groups: int = 1

    def __str__(self) -> str:
        text = _shape(self)
        if self.groups > 1:
            text += ", depthwise" if self.groups == self.channels else f", {self.groups} groups"
        return text + (f", {self.deformable_groups} deformable groups" if self.deformable_groups > 1 else "")

    @property
    def pixels(self) -> int:
        """Of all images."""
        return self.batch * self.height * self.width

    @property
    def elements(self) -> int:
        """Of the input, and of the output."""
        return self.pixels * self.channels

    @property
    def kernel_elements(self) -> int:
        return TAPS * self.channels**2 // self.groups

    @property
    def coordinates(self) -> int:
        """Of offset and mask together."""
        return 3 * TAPS * self.deformable_groups * self.pixels

    def column_bytes(self, precision: Precision) -> int:
        """What the sampled values of all taps would take if they were kept at once."""
        return TAPS * self.elements * precision.bytes


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
        return _shape(self)

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


def _shape(case: ConvCase | RoICase) -> str:
    return f"{case.batch} x {case.height} x {case.width} x {case.channels}"


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


# Stages 3 to 5 of ResNet-50, image of 800 x 1344 pixels; channels, height, width and stride.
_STAGES = ((128, 100, 168, 8), (256, 50, 84, 16), (512, 25, 42, 32))
_ROIS_PER_IMAGE = 512

# By stage.
CONV_OF_TWO_IMAGES, CONV_OF_SIXTEEN_IMAGES = (
    tuple(ConvCase(*stage[:3], batch) for stage in _STAGES) for batch in (2, 16)
)
_ROI_OF_TWO_IMAGES = tuple(RoICase(*stage, 2, _ROIS_PER_IMAGE) for stage in _STAGES)
_ROI_OF_SIXTEEN_IMAGES = (RoICase(*_STAGES[1], 16, _ROIS_PER_IMAGE),)
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
