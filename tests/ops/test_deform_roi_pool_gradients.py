"""Gradients of RoI pooling against central differences, and between the implementations."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_roi_pool

BOXES = np.array([[3.0, 5.0, 40.0, 61.0], [-14.0, 20.0, 30.0, 85.0], [30.0, -9.0, 63.0, 50.0]])
CONFIGURATIONS = {
    "RoIAlign geometry": {"spatial_scale": 1 / 8},
    "fitted grid": {"spatial_scale": 1 / 8, "sampling_ratio": 0, "gamma": 0.3},
    "fitted grid of bins larger than the map": {"spatial_scale": 1.0, "sampling_ratio": 0, "gamma": 0.05},
    "mxnet convention": {"spatial_scale": 1 / 8, "convention": "mxnet", "sampling_ratio": 3},
    "two levels": {"spatial_scale": [1 / 8, 1 / 16], "levels": [0, 1, 1]},
}


@pytest.fixture(params=CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def problem(request, rng):
    """Options and the differentiable inputs: one map a level, offset and mask."""
    levels = np.size(request.param["spatial_scale"])
    features = [rng.standard_normal((2, 8 >> level, 10 >> level, 2)) for level in range(levels)]
    return request.param, [*features, rng.standard_normal((3, 2, 2, 2)), rng.uniform(size=(3, 2, 2))]


def operator(implementation, options):
    def pool(*tensors):
        *features, offset, mask = tensors
        return deform_roi_pool(
            features, BOXES, [0, 1, 1], offset, mask, output_size=2, implementation=implementation, **options
        )

    return pool


def test_gradients_are_the_derivatives(problem, implementation, value_and_gradients, numeric_gradient, rng):
    options, tensors = problem
    pool = operator(implementation, options)
    dy = rng.standard_normal((3, 2, 2, 2))

    _, gradients = value_and_gradients(pool, tensors, dy)

    for position, gradient in enumerate(gradients):

        def of_one(array, position=position):
            return pool(*tensors[:position], array, *tensors[position + 1 :])

        np.testing.assert_allclose(gradient, numeric_gradient(of_one, tensors[position], dy), rtol=1e-6, atol=1e-7)


def test_both_implementations_agree(problem, native_ops, value_and_gradients, rng):
    options, tensors = problem
    dy = rng.standard_normal((3, 2, 2, 2))
    native, composite = (value_and_gradients(operator(name, options), tensors, dy) for name in ("native", "composite"))
    for one, other in zip([native[0], *native[1]], [composite[0], *composite[1]], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(options, id=name, marks=() if name in ("mxnet convention", "two levels") else pytest.mark.slow)
        for name, options in CONFIGURATIONS.items()
    ],
    indirect=True,
)
def test_xla_compiles_the_composite_with_the_same_results(problem):
    options, tensors = problem
    if options.get("sampling_ratio") == 0:
        options = {**options, "sampling_ratio": 2}  # a number of samples that depends on the boxes is refused

    def run(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            pooled = operator("composite", options)(*tensors)
        return [pooled, *tape.gradient(pooled, tensors)]

    for one, other in zip(run(*map(tf.constant, tensors)), tf.function(run, jit_compile=True)(*tensors), strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(one), other, rtol=0, atol=1e-12)


def test_boxes_have_no_gradient(implementation):
    boxes = tf.constant(BOXES)
    with tf.GradientTape() as tape:
        tape.watch(boxes)
        pooled = deform_roi_pool(
            tf.random.stateless_normal([2, 8, 10, 2], [1, 2], dtype=tf.float64),
            boxes,
            [0, 1, 1],
            tf.ones([3, 7, 7, 2]),
            spatial_scale=1 / 8,
            implementation=implementation,
        )
    assert tape.gradient(pooled, boxes) is None


@pytest.mark.parametrize("position, slope", [(0.0, 1.0), (1.0, 2.0), (2.0, 0.0), (-0.5, 0.0), (2.7, 0.0), (0.5, 1.0)])
def test_gradient_by_position_is_right_handed_and_zero_where_clamped(implementation, position, slope):
    # One sample in the middle of a box of height 1; the offset is in units of that height.
    offset = tf.zeros([1, 1, 1, 2], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(offset)
        pooled = deform_roi_pool(
            np.array([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1),
            [[position, 0.0, position + 1, 1.0]],
            [0],
            offset,
            output_size=1,
            spatial_scale=1.0,
            sampling_ratio=1,
            gamma=1.0,
            implementation=implementation,
        )
    assert tape.gradient(pooled, offset).numpy().reshape(2).tolist() == [slope, 0.0]


def test_in_mxnets_convention_the_gradient_by_a_position_on_a_pixel_is_zero(implementation, rng):
    """There its two neighbours are one and the same pixel."""
    offset = tf.zeros([1, 2, 2, 2], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(offset)
        pooled = deform_roi_pool(
            rng.standard_normal((1, 8, 8, 3)),
            [[1.0, 1.0, 8.0, 8.0]],  # at half the scale from 0 to 4: two bins of two samples, on pixels 0 to 3
            [0],
            offset,
            output_size=2,
            spatial_scale=0.5,
            sampling_ratio=2,
            convention="mxnet",
            implementation=implementation,
        )
    assert not tape.gradient(pooled, offset).numpy().any()
