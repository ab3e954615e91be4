"""Two times that no implementation can beat: the bytes over the bandwidth, and the operations over the matrix rate.

Bytes count every input read once and every output written once; backward reads its inputs again. Operations are those
of the matrix products alone: sampling and interpolation cost something on top, which no floor includes.
"""

import dataclasses
from collections.abc import Mapping

from benchmarks.cases import BOTH, FLOAT32, FORWARD, TF32, ConvCase, Precision
from benchmarks.gpu.cases import BACKWARD, BINS, INPUT_GRADIENT, KERNEL_GRADIENT, OFFSET_GRADIENTS, RoICase

_COORDINATE_BYTES = 4
_INDEX_BYTES = 4
# Products in TF32 that make one in float32: high times high, high times low, low times high.
_TF32_PRODUCTS = 3


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the device was measured to reach.

    Attributes:
        bandwidth: bytes per second of a copy, those read and those written.
        matrix: by precision's name, operations per second of a large square matrix product.
    """

    bandwidth: float
    matrix: Mapping[str, float]

    def of(self, precision: Precision) -> float:
        """Operations per second that a precision allows: float32 also by way of three products in TF32."""
        rate = self.matrix[precision.name]
        return max(rate, self.matrix[TF32.name] / _TF32_PRODUCTS) if precision == FLOAT32 else rate


@dataclasses.dataclass(frozen=True)
class Floor:
    """Seconds for the bytes and for the operations."""

    bytes_s: float
    operations_s: float

    @property
    def seconds(self) -> float:
        return max(self.bytes_s, self.operations_s)

    @property
    def bound(self) -> str:
        """Which of the two it is."""
        return "bytes" if self.bytes_s >= self.operations_s else "FLOPs"


def conv_floor(case: ConvCase, precision: Precision, work: str, rates: Rates) -> Floor:
    """Of modulated deformable convolution."""
    return Floor(conv_bytes(case, precision, work) / rates.bandwidth, conv_operations(case, work) / rates.of(precision))


def roi_floor(case: RoICase, precision: Precision, work: str, modulated: bool, rates: Rates) -> Floor:
    """Of RoI pooling, which has no matrix products."""
    return Floor(roi_bytes(case, precision, work, modulated) / rates.bandwidth, 0.0)


def conv_operations(case: ConvCase, work: str) -> int:
    """A multiplication and an addition for each pixel and weight, for the output and for each gradient.

    Those of input, offset and mask come from the same product.
    """
    return (3 if work == BOTH else 1) * case.operations


def conv_bytes(case: ConvCase, precision: Precision, work: str) -> int:
    """Of what a work reads and writes: maps, kernel, offset and mask, and their gradients."""
    maps = case.elements * precision.bytes
    kernel = case.kernel_elements * precision.bytes
    coordinates = case.coordinates * _COORDINATE_BYTES
    inputs = maps + kernel + coordinates
    return {
        FORWARD: inputs + maps,
        INPUT_GRADIENT: kernel + coordinates + maps + maps,
        OFFSET_GRADIENTS: inputs + maps + coordinates,
        KERNEL_GRADIENT: maps + coordinates + maps + kernel,
        # The output, and all gradients by the inputs, which are read once more, and dy.
        BOTH: (inputs + maps) + (inputs + maps + inputs),
    }[work]


def roi_bytes(case: RoICase, precision: Precision, work: str, modulated: bool) -> int:
    """Of features, boxes and indices, and of y; backward the boxes again, dy and the gradient of the features.

    With modulation there are offset and mask, which backward reads again, like the features, and gives gradients of.
    """
    features = case.elements * precision.bytes
    boxes = case.all_rois * (4 * _COORDINATE_BYTES + _INDEX_BYTES)
    deformation = 3 * case.all_rois * BINS * BINS * _COORDINATE_BYTES if modulated else 0
    output = case.pooled_elements * precision.bytes
    forward = features + boxes + deformation + output
    backward = output + boxes + features + (features + 2 * deformation if modulated else 0)
    return {FORWARD: forward, BACKWARD: backward, BOTH: forward + backward}[work]
