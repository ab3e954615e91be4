"""How far a contender's tensors are from the reference's."""

import math
from collections.abc import Sequence

from torch import Tensor


def largest_error(outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference as a fraction of the tensor's largest expected value; infinite where one is NaN.

    Raises:
        ValueError: shapes differ.
    """
    worst = 0.0
    for output, wanted in zip(outputs, expected, strict=True):
        if output.shape != wanted.shape:
            raise ValueError(f"A tensor is {tuple(output.shape)} instead of {tuple(wanted.shape)}.")
        error = ((output.double() - wanted).abs().max() / wanted.abs().max()).item()
        worst = max(worst, math.inf if math.isnan(error) else error)
    return worst
