"""The sampling rule of deformable convolution, worked out by hand on a 3 x 3 map with a 1 x 1 kernel of weight 1."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d

MAP = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]])


@pytest.fixture
def sample(implementation, traced):
    """Samples `feature` at (row, column); returns the value and its gradients by x, kernel, offset and mask."""

    def sample(row, column, feature=MAP):
        # Output pixel (0, 0) starts at position (0, 0); the others look far outside.
        offset = np.full((1, *feature.shape, 2), -1e3)
        offset[0, 0, 0] = row, column
        tensors = [feature[None, ..., None], np.ones((1, 1, 1, 1)), offset, np.ones((1, *feature.shape, 1))]
        tensors = [tf.constant(tensor) for tensor in tensors]

        @traced
        def run(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                y = deform_conv2d(*tensors, implementation=implementation)
            return y, *tape.gradient(y, tensors)

        y, dx, dkernel, doffset, dmask = (result.numpy() for result in run(*tensors))
        assert not np.any(y.reshape(-1)[1:])
        return y[0, 0, 0, 0], dx[0, ..., 0], dkernel.item(), doffset[0, 0, 0], dmask[0, 0, 0, 0]

    return sample


@pytest.mark.parametrize(
    "position, expected",
    [
        ((1, 1), 16),
        ((0.5, 0.5), (1 + 2 + 8 + 16) / 4),
        ((1.25, 2), 0.75 * 32 + 0.25 * 256),
        ((-0.5, 0), 0.5),
        ((0, -0.75), 0.25),
        ((-0.5, -0.5), 0.25),
        ((2.5, 1), 64),
        ((2, 2.75), 64),
        ((2.5, 2.5), 64),
    ],
)
def test_samples_are_bilinear_with_zeros_outside(sample, position, expected):
    value, *_, dmask = sample(*position)
    assert value == expected
    assert dmask == expected


@pytest.mark.parametrize("position", [(-1, 0), (0, -1), (3, 1), (1, 3), (-1, -1), (3, 3), (-1.5, 1), (1, 1e6)])
def test_samples_a_pixel_or_more_outside_are_zero_and_have_no_gradient(sample, position):
    value, dx, dkernel, doffset, dmask = sample(*position)
    assert value == 0 and dkernel == 0 and dmask == 0
    assert not dx.any() and not doffset.any()


@pytest.mark.parametrize("position", [(np.inf, 0), (0, -np.inf), (np.inf, np.inf), (-np.inf, np.inf), (1e30, 0)])
def test_infinite_positions_are_outside(sample, position):
    value, dx, dkernel, doffset, dmask = sample(*position)
    assert value == 0 and dkernel == 0 and dmask == 0
    assert not dx.any() and not doffset.any()


@pytest.mark.parametrize("dy", [np.inf, np.nan])
def test_samples_outside_have_no_gradient_whatever_arrives(implementation, value_and_gradients, dy):
    tensors = [MAP[None, ..., None], np.ones((1, 1, 1, 1)), np.full((1, 3, 3, 2), 9.0), np.ones((1, 3, 3, 1))]
    _, (dx, _, doffset, dmask) = value_and_gradients(
        lambda *tensors: deform_conv2d(*tensors, implementation=implementation), tensors, np.full((1, 3, 3, 1), dy)
    )
    assert not dx.any() and not doffset.any() and not dmask.any()


@pytest.mark.parametrize("position", [(np.nan, 0), (1, np.nan), (np.nan, np.inf), (np.nan, 1e6)])
def test_nan_positions_give_nan_and_no_gradient_to_features(sample, position):
    value, dx, dkernel, doffset, dmask = sample(*position)
    assert np.isnan([value, dkernel, dmask, *doffset]).all()
    assert not dx.any()


def test_gradient_at_integers_is_the_right_hand_one(sample):
    assert sample(1, 1)[3].tolist() == [128 - 16, 32 - 16]
    assert sample(0, 0)[3].tolist() == [8 - 1, 2 - 1]
    # The neighbour past the last pixel is zero.
    assert sample(2, 2)[3].tolist() == [-256, -256]


def test_gradient_outside_the_first_pixel_leads_towards_it(sample):
    assert sample(-0.5, 0)[3].tolist() == [1, 0.5 * (2 - 1)]


def test_feature_gradient_is_the_interpolation_weight(sample):
    dx = sample(0.25, 1.5)[1]
    np.testing.assert_array_equal(dx, [[0, 0.375, 0.375], [0, 0.125, 0.125], [0, 0, 0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_features_do_not_reach_samples_elsewhere(sample, bad):
    feature = MAP.copy()
    feature[0, 0] = bad
    assert sample(1.5, 1.5, feature)[0] == (16 + 32 + 128 + 256) / 4
    assert sample(-5, -5, feature)[0] == 0
    assert not np.isfinite(sample(0.5, 0.5, feature)[0])


def test_padding_one_puts_border_taps_on_minus_one_where_they_have_no_gradient(
    implementation, value_and_gradients, rng
):
    x, kernel = rng.standard_normal((1, 4, 4, 2)), rng.standard_normal((3, 3, 2, 3))
    _, (_, _, doffset) = value_and_gradients(
        lambda *tensors: deform_conv2d(*tensors, padding=1, implementation=implementation),
        [x, kernel, np.zeros((1, 4, 4, 18))],
    )
    doffset = doffset.reshape(4, 4, 3, 3, 2)
    assert not doffset[0, :, 0].any() and not doffset[:, 0, :, 0].any()
    assert doffset[1:-1, 1:-1].all()
