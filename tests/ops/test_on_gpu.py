"""What is different about the custom ops on a GPU. The other tests of the operators run there too, see conftest.py."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d, deform_roi_pool

pytestmark = pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="no GPU")

FEATURES = tf.ones([2, 6, 8, 3])
BOXES = tf.constant([[0.0, 0.0, 40.0, 48.0]] * 3)


@pytest.fixture(autouse=True)
def only_on_the_gpu(native_ops, device):
    """Nothing is moved to the CPU quietly, and nothing is repeated there."""
    if device != "/GPU:0":
        pytest.skip("tests of the GPU")
    soft = tf.config.get_soft_device_placement()
    tf.config.set_soft_device_placement(False)
    yield
    tf.config.set_soft_device_placement(soft)


def pool(features=FEATURES, indices=(0, 1, 0), **options):
    options = {"spatial_scale": 1 / 8, "implementation": "native", **options}
    return deform_roi_pool(features, BOXES, tf.constant(indices), **options)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_values_and_gradients_are_computed_on_the_gpu(dtype):
    x, kernel = tf.ones([1, 5, 5, 8], dtype), tf.ones([3, 3, 8, 4], dtype)
    features, offset = tf.cast(FEATURES, dtype), tf.zeros([1, 5, 5, 18])
    with tf.GradientTape() as tape:
        tape.watch([x, kernel, offset, features])
        results = [deform_conv2d(x, kernel, offset, implementation="native"), pool(features)]
        loss = tf.add_n([tf.reduce_sum(tf.cast(result, tf.float32)) for result in results])
    for tensor in (*results, *tape.gradient(loss, [x, kernel, offset, features])):
        assert tensor.device.endswith("GPU:0")


@pytest.mark.parametrize("bad", [-1, 2, 2**31 - 1, -(2**31)])
def test_a_roi_of_an_index_that_does_not_exist_is_nan_and_has_no_part_in_the_gradient(bad):
    features, mask = tf.Variable(FEATURES), tf.ones([3, 7, 7])
    with tf.GradientTape() as tape:
        tape.watch(mask)
        y = pool(features, (0, bad, 1), mask=mask)
    dfeatures, dmask = tape.gradient(y, [features, mask])
    expected = np.array([False, True, False])
    np.testing.assert_array_equal(np.isnan(y).all(axis=(1, 2, 3)), expected)
    np.testing.assert_array_equal(np.isnan(y).any(axis=(1, 2, 3)), expected)
    np.testing.assert_array_equal(np.isnan(dmask).all(axis=(1, 2)), expected)
    np.testing.assert_allclose(dfeatures.numpy().sum(), 2 * 49 * 3, rtol=1e-4)


def test_more_levels_than_the_kernels_take_are_refused():
    with pytest.raises(tf.errors.InvalidArgumentError, match="features has 17 levels; on a GPU at most 16"):
        pool([FEATURES] * 17, spatial_scale=[1 / 8] * 17, levels=[0, 1, 2])


# Samples are rounded to 16 bits, as are the results; the errors of samples average out.
@pytest.mark.parametrize("dtype, tolerance", [("float16", 2e-3), ("bfloat16", 1.6e-2)])
def test_sums_of_half_precision_are_formed_in_single_precision(
    make_conv_problem, value_and_gradients, dtype, tolerance
):
    problem = make_conv_problem(shape=(2, 7, 6, 256), filters=64)
    operator = problem.operator("native")
    x, kernel = (tf.cast(tensor, dtype) for tensor in (problem.x, problem.kernel))
    others = [problem.offset.astype(np.float32), problem.mask.astype(np.float32)]
    y, gradients = value_and_gradients(operator, [x, kernel, *others])
    wide = [tf.cast(x, tf.float32), tf.cast(kernel, tf.float32), *others]
    exact_y, exact_gradients = value_and_gradients(operator, wide)
    for received, exact in zip([y, *gradients], [exact_y, *exact_gradients], strict=True):
        difference = np.abs(received.astype(np.float32) - exact).max()
        assert difference < tolerance * np.abs(exact).max()


def test_tf32_is_used_only_where_tensorflow_allows_it(rng):
    x, kernel = rng.normal(size=(1, 32, 32, 64)), rng.normal(size=(3, 3, 64, 64))
    offset = rng.normal(size=(1, 32, 32, 18))
    exact = deform_conv2d(x, kernel, offset, implementation="native").numpy()

    def error():
        y = deform_conv2d(*(array.astype(np.float32) for array in (x, kernel, offset)), implementation="native")
        return np.abs(y - exact).max() / np.abs(exact).max()

    assert error() < 1e-5
    tf.config.experimental.enable_tensor_float_32_execution(True)
    try:
        assert error() < 1e-2
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(False)
