"""Which deformable convolutions are measured: their sizes, without TensorFlow."""

import dataclasses

KERNEL_SIZE = 3
TAPS = KERNEL_SIZE * KERNEL_SIZE

_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclasses.dataclass(frozen=True)
class ConvCase:
    """One image of `height` x `width` pixels, `channels` in and as many out, kernel 3x3, strides 1, "same" padding.

    `dtype` is that of map and kernel; offsets and mask are float32 always.
    """

    channels: int
    height: int
    width: int
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.channels} ch, {self.height} x {self.width}"

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def flops(self) -> int:
        """Of the matrix product of the forward pass: a multiplication and an addition for each pixel and weight."""
        return 2 * TAPS * self.channels**2 * self.pixels

    @property
    def map_bytes(self) -> int:
        """Of the input, and of the output."""
        return self.pixels * self.channels * _BYTES[self.dtype]

    @property
    def column_bytes(self) -> int:
        """What the sampled values of all taps would take if they were kept at once."""
        return TAPS * self.map_bytes
