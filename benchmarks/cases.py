"""Which convolutions are measured, on what and in which precision."""

import dataclasses

KERNEL_SIZE = 3
TAPS = KERNEL_SIZE * KERNEL_SIZE

FORWARD = "forward"
BOTH = "forward + backward"
STEP = "training step"

# Channels, height and width of stages 3 to 5 of ResNet-50 for an image of 800 x 1344 pixels.
RESNET_STAGES = ((128, 100, 168), (256, 50, 84), (512, 25, 42))


@dataclasses.dataclass(frozen=True)
class Precision:
    """How numbers are stored and multiplied; sums are float32 or wider always.

    Attributes:
        name: for tables.
        storage: the name of the type of maps and kernels, in PyTorch and in TensorFlow.
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


@dataclasses.dataclass(frozen=True)
class ConvCase:
    """`batch` images of H x W pixels, C channels in and as many out, kernel 3x3, strides 1, "same" padding.

    Offsets and mask are float32, whatever the precision of map and kernel.
    """

    channels: int
    height: int
    width: int
    batch: int = 1
    groups: int = 1
    deformable_groups: int = 1

    def __str__(self) -> str:
        """`128 ch, 100 x 168` for one image and `2 x 100 x 168 x 128` for a batch, followed by the groups."""
        size = f"{self.height} x {self.width}"
        text = f"{self.channels} ch, {size}" if self.batch == 1 else f"{self.batch} x {size} x {self.channels}"
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

    @property
    def operations(self) -> int:
        """Of the forward pass's matrix product: a multiplication and an addition for each pixel and weight."""
        return 2 * self.kernel_elements * self.pixels

    def column_bytes(self, precision: Precision) -> int:
        """What the sampled values of all taps would take if they were kept at once."""
        return TAPS * self.elements * precision.bytes
