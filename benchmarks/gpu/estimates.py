"""Times that were worked out before anything ran: what a measurement is to be held against.

Counted from instructions, registers and bytes of the compiled kernels for an H100; good to 40 % at best. A measurement
that is far off says that the kernel does something else than was thought. Of our own kernels only the forward pass in
TF32 and bfloat16 was counted; float32, which is three products in TF32, float16 and the gradients were not.
"""

from benchmarks.cases import BFLOAT16, BOTH, FLOAT32, FORWARD, TF32, ConvCase, Precision
from benchmarks.gpu.cases import CONV_OF_TWO_IMAGES
from benchmarks.gpu.findings import OURS, TORCHVISION

# Milliseconds of stages 3, 4 and 5 with two images.
_MILLISECONDS = {
    (OURS, TF32, FORWARD): (0.09, 0.08, 0.10),
    (OURS, BFLOAT16, FORWARD): (0.05, 0.055, 0.085),
    (TORCHVISION, FLOAT32, FORWARD): (0.55, 0.38, 0.32),
    (TORCHVISION, FLOAT32, BOTH): (3.2, 1.9, 1.3),
}


def conv_estimate(case: ConvCase, who: str, precision: Precision, work: str) -> float | None:
    """Seconds that a convolution was expected to take on an H100; None where nobody estimated."""
    milliseconds = _MILLISECONDS.get((who, precision, work))
    if milliseconds is None or case not in CONV_OF_TWO_IMAGES:
        return None
    return milliseconds[CONV_OF_TWO_IMAGES.index(case)] / 1e3
