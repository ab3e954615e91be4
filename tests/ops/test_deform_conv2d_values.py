"""Values and gradients of deformable convolution against other implementations and against each other."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d


def test_values_and_gradients_equal_those_of_mmcv(deform_conv_vectors, implementation, traced, value_and_gradients):
    vectors = deform_conv_vectors

    @traced
    def convolve(x, kernel, bias, offset, mask):
        y = deform_conv2d(
            x,
            kernel,
            offset,
            mask,
            strides=vectors["strides"].tolist(),
            padding=vectors["padding"].tolist(),
            dilation_rate=vectors["dilation_rate"].tolist(),
            deformable_groups=int(vectors["deformable_groups"]),
            implementation=implementation,
        )
        return y + bias

    names = ["x", "kernel", "bias", "offset", "mask"]
    y, gradients = value_and_gradients(convolve, [vectors[name] for name in names], vectors["dy"])

    np.testing.assert_allclose(y, vectors["y"], rtol=0, atol=1e-9)
    for name, gradient in zip(names, gradients, strict=True):
        np.testing.assert_allclose(gradient, vectors[f"d{name}"], rtol=0, atol=1e-9, err_msg=f"d{name}")


def test_zero_offsets_give_an_ordinary_convolution(conv_problem, implementation):
    # TensorFlow convolves groups only on GPUs; here they are convolved one after the other.
    x, kernel = conv_problem.x, conv_problem.kernel
    groups = x.shape[-1] // kernel.shape[2]
    parts = zip(np.split(x, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True)
    expected = np.concatenate([conv_problem.convolve(*part) for part in parts], axis=-1)

    y = conv_problem.operator(implementation)(x, kernel, np.zeros_like(conv_problem.offset))

    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


def test_both_implementations_agree(conv_problem, native_ops, value_and_gradients):
    results = []
    for name in ("native", "composite"):
        y, gradients = value_and_gradients(conv_problem.operator(name), conv_problem.tensors)
        results.append([y, *gradients])
    for native, composite in zip(*results, strict=True):
        np.testing.assert_allclose(native, composite, rtol=0, atol=1e-11)


def test_float32_is_as_accurate_as_float32_can_be(conv_problem, implementation, value_and_gradients):
    precise = value_and_gradients(conv_problem.operator(implementation), conv_problem.tensors)
    single = value_and_gradients(
        conv_problem.operator(implementation), [tensor.astype(np.float32) for tensor in conv_problem.tensors]
    )
    # Positions of some 10 pixels carry an error of 1e-6, which slopes of about 1 and sums over 72 products enlarge.
    for expected, received in zip([precise[0], *precise[1]], [single[0], *single[1]], strict=True):
        assert received.dtype == np.float32
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=3e-4)


@pytest.mark.cpu_only
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("channels", [6, 40], ids=["a part of a vector", "vectors and a rest"])
def test_half_precision_is_rounded_only_at_the_ends(
    make_conv_problem, implementation, value_and_gradients, check_rounded_once, dtype, channels
):
    problem = make_conv_problem(shape=(2, 7, 6, channels), filters=channels, spread=5.0)
    operator = problem.operator(implementation)
    x, kernel = (tf.cast(tensor, dtype) for tensor in (problem.x, problem.kernel))
    offset, mask = problem.offset.astype(np.float32), problem.mask.astype(np.float32)
    dy = tf.cast(problem.convolve(problem.x, problem.kernel), dtype)

    y, gradients = value_and_gradients(operator, [x, kernel, offset, mask], dy)

    wide = [tf.cast(x, tf.float32), tf.cast(kernel, tf.float32), offset, mask]
    exact_y, exact_gradients = value_and_gradients(operator, wide, dy)
    check_rounded_once(dtype, [y, *gradients[:2]], [exact_y, *exact_gradients[:2]], gradients[2:], exact_gradients[2:])


def test_xla_compiles_the_composite_with_the_same_results(some_conv_problem, value_and_gradients):
    operator = some_conv_problem.operator("auto")
    eager = value_and_gradients(some_conv_problem.operator("composite"), some_conv_problem.tensors)
    compiled = tf.function(lambda *tensors: value_of(operator, tensors), jit_compile=True)(*some_conv_problem.tensors)
    for expected, received in zip([eager[0], *eager[1]], compiled, strict=True):
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-11)


def value_of(operator, tensors):
    """Value and gradients inside one compiled function."""
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = operator(*tensors)
    return [y, *tape.gradient(y, tensors)]


@pytest.mark.parametrize("padding, sides", [(1, ((1, 1), (1, 1))), ((2, 0), ((2, 2), (0, 0))), ("SAME", "same")])
def test_padding_has_several_spellings(make_conv_problem, implementation, padding, sides):
    problem = make_conv_problem(padding=sides)
    expected = problem.operator(implementation)(*problem.tensors)
    problem.options["padding"] = padding
    np.testing.assert_array_equal(problem.operator(implementation)(*problem.tensors), expected)
