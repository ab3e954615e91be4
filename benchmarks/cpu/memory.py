"""How much memory a computation takes on top of its inputs and its results."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from benchmarks.cpu.conv_functions import Run
from benchmarks.cpu.process_memory import peak_bytes, resident_bytes

# Variables for a process that measures: its C library gives freed blocks back to the system at once. Otherwise what is
# measured could take blocks that are left over from making its inputs, and that would not show.
RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}

_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def workspace_bytes(run: Run) -> tuple[int | None, Sequence[tf.Tensor]]:
    """Peak memory of `run` less what is there before and what it returns, and what it returns.

    TensorFlow keeps freed memory for later: the caller should keep the results, and all inputs, as long as it measures.
    Accurate to a few megabytes; None if the system does not tell.
    """
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
        before = resident_bytes()
        results = run()
        used = peak_bytes() - before
    except (OSError, KeyError):
        return None, ()
    return max(0, used - sum(output.dtype.size * output.shape.num_elements() for output in results)), results
