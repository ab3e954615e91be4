"""No contender is timed before it gives what the others give."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class Disagreement(RuntimeError):
    """A contender computes something else; timing it would compare different work."""


def largest_error(outputs: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference as a fraction of the array's largest expected value; infinite where one is NaN.

    Args:
        outputs: arrays of NumPy or tensors of PyTorch.
        expected: likewise, in the same order and of float64, in which differences are computed.

    Raises:
        ValueError: shapes differ, or the number of arrays.
    """
    return max(_error(output, wanted) for output, wanted in zip(outputs, expected, strict=True))


def check_agreement(
    contender: str, reference: str, work: str, outputs: Sequence[Any], expected: Sequence[Any], tolerance: float
) -> float:
    """Compares the outputs of a contender with those of the reference, array by array.

    Args:
        contender, reference, work: names for the message.
        outputs, expected: whatever NumPy takes for arrays, in the same order and of the same shapes.
        tolerance: the largest difference allowed, as a fraction of the largest expected value of the array.

    Returns:
        The largest difference, as such a fraction.

    Raises:
        Disagreement: a difference is larger, or not a number, or shapes differ.
    """
    worst = 0.0
    for index, (output, wanted) in enumerate(zip(outputs, expected, strict=True), start=1):
        what = f"{contender} disagrees with {reference} on {work}, output {index} of {len(expected)}: "
        try:
            error = _error(np.asarray(output, np.float64), np.asarray(wanted, np.float64))
        except ValueError as mistake:
            raise Disagreement(f"{what}{mistake}") from None
        if error > tolerance:
            raise Disagreement(
                f"{what}the largest difference is {error:.2g} of the largest value, allowed are {tolerance:.2g}."
            )
        worst = max(worst, error)
    return worst


def check_losses(contender: str, losses: Mapping[str, float]) -> None:
    """Losses of the same step are random, and all that can be asked of them is that they are numbers.

    Raises:
        Disagreement: one is infinite or not a number.
    """
    for name, loss in losses.items():
        if not math.isfinite(loss):
            raise Disagreement(f"{contender} does not compute: {name} is {loss}.")


def _error(output: Any, wanted: Any) -> float:
    if output.shape != wanted.shape:
        raise ValueError(f"its shape is {tuple(output.shape)} instead of {tuple(wanted.shape)}.")
    error = float(abs(output - wanted).max()) / max(float(abs(wanted).max()), 1e-30)
    return math.inf if math.isnan(error) else error
