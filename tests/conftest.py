"""Fixtures for the whole suite: where reference data lies, which implementation runs, and how gradients are checked."""

import os
from collections.abc import Callable
from pathlib import Path

# Before TensorFlow is imported: its start-up messages would bury those of the tests.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf

from tests.support.eagerly import run_eagerly
from tests.support.reference_vectors import SHARED, deform_conv_vectors, psroi_vectors  # noqa: F401, the fixtures
from tf_dcnv2.ops import native

# Comparisons are of float32 numbers, and of GPUs' with those of CPUs.
tf.config.experimental.enable_tensor_float_32_execution(False)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with photographs of COCO, which may not be copied into the repository; numbers are in tests/golden."""
    if not SHARED.is_dir():
        pytest.skip(f"no photographs of COCO: {SHARED} does not exist (set TF_DCNV2_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def unavailable() -> Callable[[str], None]:
    """Ends a test that lacks something which `make` installs: a failure in continuous integration, else a skip."""
    return pytest.fail if os.environ.get("CI", "").lower() not in ("", "0", "false") else pytest.skip


@pytest.fixture
def native_ops(unavailable) -> None:
    """For tests of the custom ops, which a fresh checkout may not have."""
    try:
        native.load()
    except native.NativeOpsUnavailable as error:
        unavailable(str(error))


@pytest.fixture(params=["native", "composite"])
def implementation(request) -> str:
    """Both implementations of an operator."""
    if request.param == "native":
        request.getfixturevalue("native_ops")
    return request.param


@pytest.fixture(params=["eager", "graph"])
def traced(request):
    """Runs a function as it is, or as a graph: `traced(function)(*arguments)`."""
    return (lambda function: function) if request.param == "eager" else tf.function


@pytest.fixture(params=["eager", pytest.param("graph", marks=pytest.mark.slow)])
def eagerly(request):
    """For tests of what surrounds a network, which runs as a graph in the slow tests only.

    Tracing the graph takes most of the time of a short training, and of the detection in a few images.
    """
    with run_eagerly(request.param == "eager"):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def value_and_gradients():
    """Calls `function(*tensors)` and returns its value and the gradients of sum(value * dy), densely, as arrays."""

    def compute(function, tensors, dy=None):
        tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        gradients = tape.gradient(value, tensors, output_gradients=None if dy is None else tf.cast(dy, value.dtype))
        return value.numpy(), [None if g is None else tf.convert_to_tensor(g).numpy() for g in gradients]

    return compute


@pytest.fixture
def numeric_gradient():
    """Central differences of sum(function(array) * dy) with respect to every element of a float64 array."""

    def compute(function, array, dy, step=1e-6):
        function = tf.function(function)
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * step
                ends.append(np.sum(function(tf.constant(moved)).numpy() * dy))
            gradient[index] = (ends[0] - ends[1]) / (2 * step)
        return gradient

    return compute
