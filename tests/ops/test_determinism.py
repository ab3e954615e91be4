"""Results are the same to the bit from run to run and for any number of threads, and under TensorFlow's determinism."""

import functools
import hashlib
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.worker_processes import PROCESSES
from tf_dcnv2 import layers
from tf_dcnv2.ops import deform_conv2d, deform_roi_pool


def digests(threads: int, implementations: tuple[str, ...], environment: dict[str, str]) -> dict[str, str]:
    """Digests of values and gradients of every operator and layer, computed under op determinism."""
    os.environ.update(environment)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(0)

    def normal(*shape, dtype="float32"):
        return tf.constant(rng.normal(size=shape).astype(dtype))

    def digest(function, variables):
        with tf.GradientTape() as tape:
            tape.watch(variables)
            # A sum of squares: every output has a gradient of its own.
            value = function()
            loss = tf.reduce_sum(tf.square(tf.cast(value, tf.float64)))
        sha = hashlib.sha256()
        for result in (value, *tape.gradient(loss, variables)):
            sha.update(np.ascontiguousarray(tf.convert_to_tensor(result)).tobytes())
        return sha.hexdigest()

    boxes = tf.constant(rng.uniform(0, 200, (60, 4)).astype("float32"))
    indices, levels = rng.integers(0, 2, 60), rng.integers(0, 2, 60)
    results = {}
    for dtype in ("float16", "float32", "float64"):
        x, kernel = normal(2, 17, 23, 48, dtype=dtype), normal(3, 3, 48, 40, dtype=dtype)
        wide = "float64" if dtype == "float64" else "float32"
        offset, mask = normal(2, 17, 23, 36, dtype=wide), normal(2, 17, 23, 18, dtype=wide)
        features = [normal(2, 25, 30, 48, dtype=dtype), normal(2, 13, 15, 48, dtype=dtype)]
        shift, weight = normal(60, 7, 7, 2, dtype=wide), normal(60, 7, 7, dtype=wide)
        for name in implementations:
            results[f"{name} convolution {dtype}"] = digest(
                functools.partial(deform_conv2d, x, kernel, offset, mask, deformable_groups=2, implementation=name),
                [x, kernel, offset, mask],
            )
            pool = functools.partial(deform_roi_pool, features, boxes, indices, shift, weight, implementation=name)
            results[f"{name} pooling {dtype}"] = digest(
                functools.partial(pool, levels=levels, spatial_scale=[1 / 8, 1 / 16]), [*features, shift, weight]
            )
    x = normal(2, 17, 23, 48)
    for layer in (
        layers.ModulatedDeformableConv2D(40, 3, padding="same"),
        layers.ModulatedDeformableRoIPooling(7, spatial_scale=1 / 8, hidden_units=32),
    ):
        inputs = (x,) if isinstance(layer, layers.ModulatedDeformableConv2D) else (x, boxes, tf.constant(indices))
        layer(*inputs)
        for variable in layer.variables:
            variable.assign(0.1 * normal(*variable.shape))
        variables = [variable.value for variable in layer.trainable_variables]
        results[type(layer).__name__] = digest(functools.partial(layer, *inputs), variables)
    return results


def run(threads: int, *implementations: str, **environment: str) -> dict[str, str]:
    """Digests by another process."""
    with PROCESSES.Pool(1) as pool:
        return pool.apply(digests, (threads, implementations, environment))


@pytest.fixture(scope="module")
def runs():
    """Digests of one run on one thread, which the composition may depend on, and two runs on two."""
    both = ("native", "composite")
    return [run(*words, CUDA_VISIBLE_DEVICES="") for words in ((1, "native"), (2, *both), (2, *both))]


def test_everything_is_the_same_from_run_to_run_under_op_determinism(native_ops, runs):
    assert runs[1] == runs[2]


def test_native_ops_are_the_same_for_any_number_of_threads(native_ops, runs):
    native = [{name: digest for name, digest in run.items() if name.startswith("native")} for run in runs]
    assert len(native[0]) == 6
    assert native[0] == native[1]


def test_native_ops_on_a_gpu_are_the_same_from_run_to_run_under_op_determinism(native_ops, device):
    if "GPU" not in device:
        pytest.skip("no GPU")
    assert run(2, "native") == run(2, "native")
