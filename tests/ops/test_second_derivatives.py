"""Second derivatives, higher ones, and forward mode, against central differences of what comes before."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d, deform_roi_pool

BOXES = np.array([[3.0, 5.0, 40.0, 61.0], [-14.0, 20.0, 30.0, 85.0], [30.0, -9.0, 63.0, 50.0]])
POOLINGS = {
    "RoIAlign geometry": {"spatial_scale": 1 / 8},
    "fitted grid": {"spatial_scale": 1 / 8, "sampling_ratio": 0, "gamma": 0.3},
    "mxnet convention": {"spatial_scale": 1 / 8, "convention": "mxnet", "sampling_ratio": 3},
    "two levels": {"spatial_scale": [1 / 8, 1 / 16], "levels": [0, 1, 1]},
    "without offset": {"spatial_scale": 1 / 8, "deformation": ("mask",)},
    "without mask": {"spatial_scale": 1 / 8, "deformation": ("offset",)},
    "without both": {"spatial_scale": 1 / 8, "deformation": ()},
}
# Central differences of a smooth function in float64 are off by about 1e-9; kinks, at integer positions, are rare.
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def scalar(operator):
    """A function with second derivatives by everything, also through an operator that is linear in its input."""
    return lambda *tensors: tf.reduce_sum(tf.sin(operator(*tensors)))


def gradient(function, tensors):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return [tf.convert_to_tensor(part) for part in tape.gradient(value, tensors)]


def along(function, directions):
    """The derivative of a scalar function along fixed directions; its own gradient is a product with the Hessian."""

    def derivative(*tensors):
        terms = zip(gradient(function, tensors), directions, strict=True)
        return sum(tf.reduce_sum(tf.cast(part * way, tf.float64)) for part, way in terms)

    return derivative


def difference(function, tensors, directions, step=1e-6):
    """Central difference along the directions of a function that returns a tensor or a list of them."""

    def at(distance):
        return function(*(tensor + distance * way for tensor, way in zip(tensors, directions, strict=True)))

    return tf.nest.map_structure(lambda one, other: (one - other) / (2 * step), at(step), at(-step))


def check_second_derivatives(operator, tensors, rng):
    tensors, directions = constants(tensors), constants(random_like(rng, tensors))
    expected = difference(lambda *tensors: gradient(scalar(operator), tensors), tensors, directions)
    for one, other in zip(gradient(along(scalar(operator), directions), tensors), expected, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


def check_forward_mode(operator, tensors, rng, traced):
    tensors, directions = constants(tensors), constants(random_like(rng, tensors))

    @traced
    def forward(*tensors):
        with tf.autodiff.ForwardAccumulator(list(tensors), directions) as accumulator:
            y = operator(*tensors)
        return accumulator.jvp(y)

    np.testing.assert_allclose(forward(*tensors), difference(operator, tensors, directions), **CLOSE)


def constants(arrays):
    return [tf.constant(array) for array in arrays]


def random_like(rng, tensors):
    return [rng.standard_normal(tensor.shape) for tensor in tensors]


class Pooling:
    """One of POOLINGS: `operator` is a function of `tensors`, the features of each level and what is deformed."""

    def __init__(self, rng, deformation=("offset", "mask"), **options):
        self.levels, self.names, self.options = np.size(options["spatial_scale"]), deformation, options
        given = {"offset": rng.standard_normal((3, 2, 2, 2)), "mask": rng.uniform(size=(3, 2, 2))}
        features = [rng.standard_normal((2, 8 >> level, 10 >> level, 2)) for level in range(self.levels)]
        self.tensors = [*features, *(given[name] for name in deformation)]

    def operator(self, implementation):
        def pool(*tensors):
            return deform_roi_pool(
                list(tensors[: self.levels]),
                *(BOXES, [0, 1, 1]),
                **dict(zip(self.names, tensors[self.levels :], strict=True)),
                output_size=2,
                implementation=implementation,
                **self.options,
            )

        return pool


def test_second_derivatives_of_convolutions_are_right(conv_problem, implementation, rng):
    check_second_derivatives(conv_problem.operator(implementation), conv_problem.tensors, rng)


@pytest.mark.parametrize("options", POOLINGS.values(), ids=POOLINGS.keys())
def test_second_derivatives_of_pooling_are_right(options, implementation, rng):
    pooling = Pooling(rng, **options)
    check_second_derivatives(pooling.operator(implementation), pooling.tensors, rng)


@pytest.mark.parametrize("options", [{}, {"modulated": False, "strides": 2, "groups": 2}], ids=str)
def test_forward_mode_through_convolutions_is_right(make_conv_problem, options, implementation, traced, rng):
    problem = make_conv_problem(**options)
    check_forward_mode(problem.operator(implementation), problem.tensors, rng, traced)


@pytest.mark.parametrize("name", ["two levels", "without mask"])
def test_forward_mode_through_pooling_is_right(name, implementation, traced, rng):
    pooling = Pooling(rng, **POOLINGS[name])
    check_forward_mode(pooling.operator(implementation), pooling.tensors, rng, traced)


def test_graphs_and_jacobians_have_second_derivatives(make_conv_problem, implementation, rng):
    problem = make_conv_problem(shape=(1, 3, 3, 1), filters=1, kernel_size=(2, 2))
    x, *others = constants(problem.tensors)
    function = scalar(lambda x: problem.operator(implementation)(x, *others))

    @tf.function
    def hessian(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            (by_x,) = gradient(function, [x])
        return tape.jacobian(by_x, x)

    (direction,) = constants(random_like(rng, [x]))
    (expected,) = difference(lambda x: gradient(function, [x]), [x], [direction])
    np.testing.assert_allclose(tf.tensordot(hessian(x), direction, 4), expected, **CLOSE)


def test_third_derivatives_are_right(make_conv_problem, implementation, rng):
    problem = make_conv_problem(shape=(1, 4, 4, 2), filters=2, kernel_size=(2, 2))
    tensors = [tf.constant(tensor) for tensor in problem.tensors]
    directions = random_like(rng, problem.tensors)
    first = along(scalar(problem.operator(implementation)), directions)
    expected = difference(lambda *tensors: gradient(first, tensors), tensors, directions)
    for one, other in zip(gradient(along(first, directions), tensors), expected, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)


@pytest.mark.parametrize("dtype, tolerance", [("float16", 0.01), ("bfloat16", 0.08)])
def test_second_derivatives_by_16_bit_tensors_have_their_dtype(
    make_conv_problem, implementation, rng, dtype, tolerance
):
    problem = make_conv_problem()
    directions = random_like(rng, problem.tensors)
    exact = gradient(along(scalar(problem.operator(implementation)), directions), problem.tensors_of("float64"))

    tensors = problem.tensors_of(dtype)
    directions = [tf.cast(way, tensor.dtype) for way, tensor in zip(directions, tensors, strict=True)]
    received = gradient(along(scalar(problem.operator(implementation)), directions), tensors)

    for tensor, one, other in zip(tensors, received, exact, strict=True):
        assert one.dtype == tensor.dtype
        np.testing.assert_allclose(tf.cast(one, tf.float64), other, rtol=0, atol=tolerance * np.abs(other).max())


def test_samples_outside_have_no_second_derivatives_and_those_of_nan_offsets_are_nan(implementation):
    offset = np.zeros((1, 2, 2, 2))
    offset[0, 0, 0] = [-7.0, 0.3]
    offset[0, 1, 1] = np.nan
    tensors = [tf.constant(rank4) for rank4 in (np.ones((1, 2, 2, 1)), np.ones((1, 1, 1, 1)), offset)]
    function = along(
        scalar(lambda *tensors: deform_conv2d(*tensors, implementation=implementation)),
        [tf.ones_like(tensor) for tensor in tensors],
    )
    by_offset = gradient(function, tensors)[2].numpy()
    assert not by_offset[0, 0, 0].any()
    assert np.isnan(by_offset[0, 1, 1]).all()
