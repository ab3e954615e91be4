"""Whether those that compute a deformable convolution, or as much as one, give the same."""

from collections.abc import Mapping

from benchmarks.agreement import check_agreement
from benchmarks.cases import BOTH, FLOAT32, FORWARD, ConvCase, Precision
from benchmarks.cpu import conv_functions as functions
from benchmarks.cpu.conv_functions import COMPOSITE, DENSE, MATMUL, NATIVE, Run

WORKS = {FORWARD: functions.forward, BOTH: functions.forward_backward}


def check_deformable(work: str, case: ConvCase, runs: Mapping[str, Run]) -> None:
    """All give, in float32, what the composite implementation among them gives, which is made of TensorFlow's own ops.

    Raises:
        Disagreement: one does not; the message says which.
    """
    expected = runs[COMPOSITE]()
    for name, run in runs.items():
        check_agreement(name, COMPOSITE, _subject(work, case, FLOAT32), run(), expected, FLOAT32.tolerance)


def check_undeformed(work: str, case: ConvCase, data: functions.ConvData, precision: Precision = FLOAT32) -> None:
    """Without deformation all give what the dense convolution gives: the output, and the gradients that it has.

    Raises:
        Disagreement: one does not; the message says which.
    """
    has_matmul = work == FORWARD and precision == FLOAT32 and case.groups == 1
    names = (NATIVE, DENSE, MATMUL) if has_matmul else (NATIVE, DENSE)
    plain = functions.undeformed(data)
    expected = WORKS[work](DENSE, plain)()
    subject = f"undeformed {_subject(work, case, precision)}"
    for name in names:
        outputs = WORKS[work](name, plain)()[: len(expected)]
        check_agreement(name, DENSE, subject, outputs, expected, precision.tolerance)


def _subject(work: str, case: ConvCase, precision: Precision) -> str:
    return f"{work}, {case}, {precision}"
