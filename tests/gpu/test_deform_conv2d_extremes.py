"""The sampling rule at borders, and numbers that are not finite, on GPUs."""

import itertools
import os

import numpy as np
import pytest
from c_api import STORAGES, ConvGeometry
from kernels import ConvArrays, store, widen
from problems import conv_problem

NAN, INFINITY = float("nan"), float("inf")
MAP = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]])
# One channel, which only the general kernels take, and as many as one vector of the others has.
CHANNELS = [1, 8]
ORDERS = pytest.mark.parametrize("deterministic", [False, True], ids=["atomic", "ordered"])


@pytest.fixture(params=[(storage, channels) for storage in STORAGES for channels in CHANNELS], ids=str)
def sample(request, gpu):
    """Samples `feature` at (row, column) with a 1 x 1 kernel; the value and its gradients by x, offset and mask."""
    storage, channels = request.param

    def sample(row, column, feature=MAP, dy=1.0, deterministic=False):
        geometry = ConvGeometry((1, 3, 3, channels), (1, 1, channels, channels), padding=((0, 0), (0, 0)))
        compute = STORAGES[storage].compute
        # Output pixel (0, 0) starts at position (0, 0), others far outside; channels but the first are zero.
        offset = np.full(geometry.offset_shape, -1e3, compute)
        offset[0, 0, 0] = row, column
        x, kernel, gradient = (np.zeros(shape) for shape in (geometry.x_shape, geometry.kernel_shape, geometry.y_shape))
        x[0, ..., 0] = feature
        kernel[0, 0, 0, 0] = 1
        gradient[..., 0] = dy
        inputs = ConvArrays(store(x, storage), store(kernel, storage), offset, np.ones(geometry.mask_shape, compute))
        y = widen(gpu.conv_forward(storage, geometry, inputs), storage)
        assert not y.reshape(-1, channels)[1:].any()
        gradients = gpu.conv_backward(storage, geometry, inputs, store(gradient, storage), deterministic=deterministic)
        dx, dkernel = widen(gradients.x, storage), widen(gradients.kernel, storage)
        return (
            y[0, 0, 0, 0],
            dx[0, ..., 0],
            dkernel[0, 0, 0, 0],
            gradients.offset[0, 0, 0, 0, 0],
            gradients.mask[0, 0, 0],
        )

    return sample


@pytest.mark.parametrize(
    "position, expected",
    [
        ((1, 1), 16),
        ((0.5, 0.5), (1 + 2 + 8 + 16) / 4),
        ((1.25, 2), 0.75 * 32 + 0.25 * 256),
        ((-0.5, 0), 0.5),
        ((0, -0.75), 0.25),
        ((2.5, 1), 64),
        ((2, 2.75), 64),
    ],
)
def test_samples_are_bilinear_with_zeros_outside(sample, position, expected):
    value, *_, dmask = sample(*position)
    assert value == expected
    assert dmask == expected


@ORDERS
@pytest.mark.parametrize(
    "position",
    [(-1, 0), (0, -1), (3, 1), (1, 3), (-1, -1), (1, 1e6), (INFINITY, 0), (0, -INFINITY), (-INFINITY, INFINITY)],
)
@pytest.mark.parametrize("dy", [1, NAN])
def test_samples_a_pixel_or_more_outside_are_zero_and_have_no_gradient(sample, position, dy, deterministic):
    value, dx, dkernel, doffset, dmask = sample(*position, dy=dy, deterministic=deterministic)
    assert value == 0 and dmask == 0
    assert dkernel == 0 or dy != 1
    assert not dx.any() and not doffset.any()


@ORDERS
@pytest.mark.parametrize("position", [(NAN, 0), (1, NAN), (NAN, INFINITY), (NAN, 1e6)])
def test_nan_positions_give_nan_and_no_gradient_to_features(sample, position, deterministic):
    value, dx, dkernel, doffset, dmask = sample(*position, deterministic=deterministic)
    assert np.isnan([value, dkernel, *dmask.flat, *doffset]).all()
    assert not dx.any()


def test_gradient_at_integers_is_the_right_hand_one(sample):
    assert sample(1, 1)[3].tolist() == [128 - 16, 32 - 16]
    assert sample(0, 0)[3].tolist() == [8 - 1, 2 - 1]
    # The neighbour past the last pixel is zero.
    assert sample(2, 2)[3].tolist() == [-256, -256]


def test_gradient_outside_the_first_pixel_leads_towards_it(sample):
    assert sample(-0.5, 0)[3].tolist() == [1, 0.5 * (2 - 1)]


@ORDERS
def test_feature_gradient_is_the_interpolation_weight(sample, deterministic):
    dx = sample(0.25, 1.5, deterministic=deterministic)[1]
    np.testing.assert_array_equal(dx, [[0, 0.375, 0.375], [0, 0.125, 0.125], [0, 0, 0]])


@pytest.mark.parametrize("bad", [NAN, INFINITY])
def test_bad_features_do_not_reach_samples_elsewhere(sample, bad):
    feature = MAP.copy()
    feature[0, 0] = bad
    assert sample(1.5, 1.5, feature)[0] == (16 + 32 + 128 + 256) / 4
    assert sample(-5, -5, feature)[0] == 0
    assert not np.isfinite(sample(0.5, 0.5, feature)[0])


def with_extremes(rng, problem, name, value):
    """`problem` with `value` in a few elements of x, kernel, offset, mask or dy."""
    array = (problem.dy if name == "dy" else getattr(problem.inputs, name)).copy()
    array.reshape(-1)[rng.choice(array.size, max(1, array.size // 300), replace=False)] = value
    if name == "dy":
        problem.dy = array
    else:
        problem.inputs = problem.inputs._replace(**{name: array})
    return problem


SHAPES = {
    "plain": ConvGeometry((2, 6, 7, 16), (3, 3, 16, 8)),
    "deformable groups": ConvGeometry((2, 6, 7, 16), (3, 3, 16, 8), deformable_groups=2),
    "odd channels": ConvGeometry((1, 6, 7, 6), (3, 3, 6, 9), deformable_groups=3),
    "groups": ConvGeometry((2, 6, 7, 16), (3, 3, 4, 16), deformable_groups=2),
    "wide groups": ConvGeometry((2, 6, 7, 32), (3, 3, 8, 32), deformable_groups=4),
    "odd groups": ConvGeometry((1, 6, 7, 6), (3, 3, 2, 9), deformable_groups=3),
}
EXTREMES = [
    *(("offset", value) for value in (NAN, INFINITY, -1e30, 1e10)),
    *((name, value) for name in ("x", "kernel", "mask", "dy") for value in (NAN, INFINITY)),
]


KERNELS = [(storage, order) for storage in ("float32", "float64", "bfloat16") for order in ("atomic", "ordered")]


def extreme_cases():
    """Every number in every shape by two of the six kernels, so that each meets all numbers and all shapes.

    The other four are slow tests, but where only a GPU runs them, in milliseconds.
    """
    slow = [] if os.environ.get("DCNV2_TEST_DEVICES") == "cuda" else [pytest.mark.slow]
    numbered = itertools.product(enumerate(KERNELS), enumerate(EXTREMES), enumerate(SHAPES))
    for (i, (storage, order)), (j, (name, value)), (k, shape) in numbered:
        marks = [] if (i + j + k) % 3 == 0 else slow
        yield pytest.param(storage, order, name, value, shape, marks=marks)


@pytest.mark.parametrize("storage, order, name, value, shape", extreme_cases())
def test_extreme_numbers_reach_what_they_feed_and_nothing_else(gpu, cpu, rng, storage, order, name, value, shape):
    geometry = SHAPES[shape]
    problem = with_extremes(rng, conv_problem(rng, storage, geometry), name, value)
    compute = STORAGES[storage].compute
    wide = ConvArrays(*(array.astype(compute) for array in problem.inputs))
    with np.errstate(invalid="ignore"):
        inputs, dy = problem.stored()

    expected = {"y": cpu.conv_forward(compute.name, geometry, wide)}
    expected |= cpu.conv_backward(compute.name, geometry, wide, problem.dy.astype(compute))._asdict()
    received = {"y": gpu.conv_forward(storage, geometry, inputs, allow_tf32=False)}
    options = {"allow_tf32": False, "deterministic": order == "ordered"}
    received |= gpu.conv_backward(storage, geometry, inputs, dy, **options)._asdict()

    for part, exact in expected.items():
        values = received[part]
        if part in ("y", "x", "kernel"):
            values = widen(values, storage)
        if geometry.groups > 1 and part != "kernel":
            # Groups are multiplied together, with zeros for what one has to do with another; NaN times zero is NaN. So
            # what is not finite in one group may show in the others, at the same pixel.
            bad, bad_exact = ~np.isfinite(values), ~np.isfinite(exact)
            pixels = (*values.shape[:3], -1)
            assert bad[bad_exact].all(), part
            assert bad_exact.reshape(pixels).any(-1)[bad.reshape(pixels).any(-1)].all(), part
            values, exact = (np.where(bad, 0, array) for array in (values, exact))
        tolerance = 0.05 if storage == "bfloat16" else 1e-4
        np.testing.assert_allclose(values, exact, rtol=tolerance, atol=10 * tolerance, err_msg=part)
