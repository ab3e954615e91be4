"""Whether those that compute a deformable convolution, or as much as one, give the same."""

from collections.abc import Mapping

from tf_dcnv2.benchmark import conv_functions as functions
from tf_dcnv2.benchmark.agreement import check_agreement
from tf_dcnv2.benchmark.conv_case import ConvCase
from tf_dcnv2.benchmark.conv_functions import COMPOSITE, DENSE, MATMUL, NATIVE, Run

FORWARD = "forward"
BOTH = "forward + backward"
WORKS = {FORWARD: functions.forward, BOTH: functions.forward_backward}

# float32 sums of thousands of terms in different orders; in the other types one rounding of the result.
_TOLERANCES = {"float32": 1e-4, "float16": 2e-3, "bfloat16": 1.6e-2}


def check_deformable(work: str, case: ConvCase, runs: Mapping[str, Run]) -> None:
    """All give what the composite implementation among them gives, which is made of TensorFlow's own ops.

    Raises:
        Disagreement: one does not; the message says which.
    """
    expected = runs[COMPOSITE]()
    for name, run in runs.items():
        check_agreement(name, COMPOSITE, _subject(work, case), run(), expected, _TOLERANCES[case.dtype])


def check_undeformed(work: str, case: ConvCase, data: functions.ConvData) -> None:
    """Without deformation all give what the dense convolution gives: the output, and the gradients that it has.

    Raises:
        Disagreement: one does not; the message says which.
    """
    names = (NATIVE, DENSE, MATMUL) if work == FORWARD and case.dtype == "float32" else (NATIVE, DENSE)
    plain = functions.undeformed(data)
    expected = WORKS[work](DENSE, plain)()
    for name in names:
        outputs = WORKS[work](name, plain)()[: len(expected)]
        check_agreement(name, DENSE, f"undeformed {_subject(work, case)}", outputs, expected, _TOLERANCES[case.dtype])


def _subject(work: str, case: ConvCase) -> str:
    return f"{work}, {case}, {case.dtype}"
