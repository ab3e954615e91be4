"""Two times that no implementation can beat: the bytes over the bandwidth, and the operations over the matrix rate.

Bytes count every input read once and every output written once; backward reads its inputs again. Operations are those
of the matrix products alone: sampling and interpolation cost something on top, which no floor includes.
"""

import dataclasses
from collections.abc import Mapping

from benchmarks.gpu.cases import BINS, BOTH, TAPS, ConvCase, Precision, RoICase

_COORDINATE_BYTES = 4
_INDEX_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the device was measured to reach.

    Attributes:
        bandwidth: bytes per second of a copy, those read and those written.
        matrix: by precision's name, operations per second of a large square matrix product.
    """

    bandwidth: float
    matrix: Mapping[str, float]


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
    operations = conv_operations(case, work)
    return Floor(conv_bytes(case, precision, work) / rates.bandwidth, operations / rates.matrix[precision.name])


def roi_floor(case: RoICase, precision: Precision, work: str, modulated: bool, rates: Rates) -> Floor:
    """Of RoI pooling, which has no matrix products."""
    return Floor(roi_bytes(case, precision, work, modulated) / rates.bandwidth, 0.0)


def conv_operations(case: ConvCase, work: str) -> int:
    """A multiplication and an addition for each pixel and weight; three times that with both gradients."""
    return (3 if work == BOTH else 1) * 2 * case.kernel_elements * case.pixels


def conv_bytes(case: ConvCase, precision: Precision, work: str) -> int:
    """Of x, kernel, offset and mask, and of y; backward those again, dy, and a gradient for each of the four."""
    inputs = (case.elements + case.kernel_elements) * precision.bytes + 3 * TAPS * case.pixels * _COORDINATE_BYTES
    output = case.elements * precision.bytes
    return inputs + output + ((inputs + output + inputs) if work == BOTH else 0)


def roi_bytes(case: RoICase, precision: Precision, work: str, modulated: bool) -> int:
    """Of features, boxes and indices, and of y; backward the boxes again, dy and the gradient of the features.

    With modulation there are offset and mask, which backward reads again, like the features, and gives gradients of.
    """
    features = case.elements * precision.bytes
    boxes = case.all_rois * (4 * _COORDINATE_BYTES + _INDEX_BYTES)
    deformation = 3 * case.all_rois * BINS * BINS * _COORDINATE_BYTES if modulated else 0
    output = case.pooled_elements * precision.bytes
    total = features + boxes + deformation + output
    if work == BOTH:
        total += output + boxes + features
        total += features + 2 * deformation if modulated else 0
    return total
