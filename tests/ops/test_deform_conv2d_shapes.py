"""Shapes of deformable convolution: empty, unknown, and ones that do not fit."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d

X, KERNEL, OFFSET, MASK = (2, 5, 6, 4), (3, 3, 4, 8), (2, 5, 6, 18), (2, 5, 6, 9)


def zeros(*shapes):
    return [np.zeros(shape, np.float32) for shape in shapes]


@pytest.mark.parametrize(
    "x, kernel, options, expected",
    [
        ((0, 5, 6, 4), KERNEL, {}, (0, 5, 6, 8)),
        ((2, 0, 6, 4), KERNEL, {}, (2, 0, 6, 8)),
        ((2, 0, 6, 4), KERNEL, {"padding": 2}, (2, 2, 8, 8)),
        ((2, 2, 6, 4), KERNEL, {"padding": "valid"}, (2, 0, 4, 8)),
        ((2, 1, 1, 4), KERNEL, {"strides": 3}, (2, 1, 1, 8)),
    ],
)
def test_empty_and_tiny_inputs_work_and_have_gradients(
    x, kernel, options, expected, implementation, traced, value_and_gradients
):
    tensors = zeros(x, kernel, (*expected[:3], 18), (*expected[:3], 9))
    operator = traced(lambda *tensors: deform_conv2d(*tensors, implementation=implementation, **options))

    y, gradients = value_and_gradients(operator, tensors)

    assert y.shape == expected
    assert [gradient.shape for gradient in gradients] == [tensor.shape for tensor in tensors]
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize(
    "known",
    [lambda shape: [None, None, None, shape[3]], lambda shape: [None] * 4, lambda shape: None],
    ids=["channels known", "only ranks known", "nothing known"],
)
@pytest.mark.parametrize("groups", [2, 4], ids=["grouped", "depthwise"])
def test_shapes_may_be_known_only_at_run_time(known, groups, implementation, make_conv_problem, value_and_gradients):
    problem = make_conv_problem(groups=groups, deformable_groups=2, strides=2)
    expected = value_and_gradients(problem.operator(implementation), problem.tensors)
    specs = [tf.TensorSpec(known(tensor.shape), tf.float64) for tensor in problem.tensors]
    operator = tf.function(problem.operator(implementation), input_signature=specs)

    received = value_and_gradients(operator, problem.tensors)

    np.testing.assert_allclose(received[0], expected[0], atol=1e-12)
    for one, other in zip(received[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("unknown", range(4), ids=["x", "kernel", "offset", "mask"])
def test_one_shape_may_be_unknown_while_the_others_are_known(
    unknown, implementation, make_conv_problem, value_and_gradients
):
    problem = make_conv_problem(deformable_groups=2)
    expected, _ = value_and_gradients(problem.operator(implementation), problem.tensors)
    specs = [tf.TensorSpec(None if k == unknown else t.shape, tf.float64) for k, t in enumerate(problem.tensors)]
    operator = tf.function(problem.operator(implementation), input_signature=specs)
    np.testing.assert_allclose(operator(*problem.tensors), expected, atol=1e-12)


def test_static_shape_is_inferred_as_far_as_it_is_known(implementation):
    @tf.function
    def trace(x, offset):
        y = deform_conv2d(x, tf.zeros(KERNEL), offset, strides=2, implementation=implementation)
        assert y.shape.as_list() == [None, 3, None, 8]
        return y

    trace.get_concrete_function(tf.TensorSpec([None, 5, None, 4]), tf.TensorSpec([None, 3, None, 18]))


BAD_SHAPES = {
    "x must have 4 dimensions": [(5, 6, 4), KERNEL, OFFSET, MASK],
    "kernel must have 4 dimensions": [X, (3, 3, 4), OFFSET, MASK],
    "offset must have 4 dimensions": [X, KERNEL, (2, 5, 18), MASK],
    "mask must have 4 dimensions": [X, KERNEL, OFFSET, (2, 5, 6, 9, 1)],
    "x has 4 channels, which must be a multiple of the 3": [X, (3, 3, 3, 8), OFFSET, MASK],
    "kernel has 7 output channels, which must be a multiple of the 2 groups": [X, (3, 3, 2, 7), OFFSET, MASK],
    r"offset has 16 channels, but a 3x3 kernel with 1 deformable group needs 2\*9\*1 = 18": [
        X,
        KERNEL,
        (2, 5, 6, 16),
        MASK,
    ],
    r"mask has 8 channels, but a 3x3 kernel with 1 deformable group needs 9\*1 = 9": [X, KERNEL, OFFSET, (2, 5, 6, 8)],
    r"offset must have one entry .* 2 x 5 x 6, it has 2 x 5 x 5": [X, KERNEL, (2, 5, 5, 18), MASK],
    r"mask must have one entry .* 2 x 5 x 6, it has 1 x 5 x 6": [X, KERNEL, OFFSET, (1, 5, 6, 9)],
    "x must have channels": [(2, 5, 6, 0), KERNEL, OFFSET, MASK],
    "kernel must not be empty": [X, (3, 0, 4, 8), OFFSET, MASK],
}


@pytest.mark.parametrize("message, shapes", BAD_SHAPES.items())
def test_static_shapes_that_do_not_fit_are_refused_by_name(message, shapes, implementation, traced):
    operator = traced(lambda *tensors: deform_conv2d(*tensors, implementation=implementation))
    with pytest.raises(ValueError, match=message):
        operator(*(tf.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("shapes", BAD_SHAPES.values(), ids=BAD_SHAPES.keys())
def test_shapes_that_turn_out_not_to_fit_are_refused_at_run_time(shapes, implementation):
    operator = tf.function(
        lambda *tensors: deform_conv2d(*tensors, implementation=implementation),
        input_signature=[tf.TensorSpec(None)] * 4,
    )
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"\b(x|kernel|offset|mask)\b (must|has)|(channels of|dimensions).*(x|kernel)",
    ):
        operator(*(tf.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"strides": 0}, "strides must be an integer of at least 1"),
        ({"strides": (1, -1)}, "strides must be"),
        ({"strides": (1, 1, 1)}, "strides must be"),
        ({"dilation_rate": 0}, "dilation_rate must be"),
        ({"dilation_rate": 1.5}, "dilation_rate must be"),
        ({"padding": -1}, "padding must be"),
        ({"padding": "full"}, "padding must be"),
        ({"padding": ((1, 1),)}, "padding must be"),
        ({"deformable_groups": 0}, "deformable_groups must be"),
        ({"deformable_groups": 3}, "deformable_groups must divide the 4 channels of x"),
        ({"implementation": "fast"}, "implementation must be one of"),
        ({"padding": "valid", "dilation_rate": 5}, "kernel, with its dilation, has more rows than x"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        deform_conv2d(*zeros(X, KERNEL, OFFSET, MASK), **options)


def test_dtypes_that_do_not_fit_are_refused_by_name():
    x, kernel, offset = zeros(X, KERNEL, OFFSET)
    with pytest.raises(ValueError, match="x must be a floating-point tensor"):
        deform_conv2d(x.astype(int), kernel, offset)
    with pytest.raises(ValueError, match="kernel must have the dtype of x, float32"):
        deform_conv2d(x, tf.constant(kernel, tf.float64), offset)
    with pytest.raises(ValueError, match="offset must be a tensor of real numbers"):
        deform_conv2d(x, kernel, offset.astype(complex))
