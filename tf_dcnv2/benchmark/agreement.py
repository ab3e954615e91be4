"""No contender is timed before it gives what the others give."""

from collections.abc import Sequence

import numpy as np


class Disagreement(RuntimeError):
    """A contender computes something else; timing it would compare different work."""


def check_agreement(
    contender: str, reference: str, work: str, outputs: Sequence, expected: Sequence, tolerance: float
) -> float:
    """Compares the outputs of a contender with those of the reference, array by array.

    Args:
        contender, reference, work: names for the message.
        outputs, expected: arrays or tensors in the same order and of the same shapes.
        tolerance: the largest absolute difference allowed, as a fraction of the largest expected value of the array.

    Returns:
        The largest difference, as such a fraction.

    Raises:
        Disagreement: a difference is larger, or not a number, or shapes differ.
    """
    worst = 0.0
    for index, (output, wanted) in enumerate(zip(outputs, expected, strict=True)):
        output, wanted = np.asarray(output, np.float64), np.asarray(wanted, np.float64)
        what = f"{contender} disagrees with {reference} on {work}, output {index + 1} of {len(expected)}: "
        if output.shape != wanted.shape:
            raise Disagreement(f"{what}its shape is {output.shape}, not {wanted.shape}.")
        error = np.abs(output - wanted).max(initial=0.0) / max(np.abs(wanted).max(initial=0.0), 1e-30)
        # Written so that NaN fails too.
        if not error <= tolerance:
            raise Disagreement(
                f"{what}the largest difference is {error:.2g} of the largest value, allowed are {tolerance:.2g}."
            )
        worst = max(worst, float(error))
    return worst
