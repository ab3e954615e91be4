"""The windows and grids that the operators and layers are given, and the sizes that follow from them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.layers import ModulatedDeformableRoIPooling
from tf_dcnv2.ops import native
from tf_dcnv2.ops.roi_grid import RoiGrid
from tf_dcnv2.ops.window import Window

SIZES, KERNEL_SIZE = (11, 8), (3, 2)
PADDINGS = ["same", "valid", 2, (0, 3), ((0, 1), (2, 0))]


def convolved_size(window: Window) -> tuple[int, int]:
    """Rows and columns of TensorFlow's own convolution, padded by hand."""
    rows, columns = window.padding_pixels(SIZES, KERNEL_SIZE)
    x = tf.pad(tf.zeros([1, *SIZES, 1]), [(0, 0), rows, columns, (0, 0)])
    y = tf.nn.conv2d(x, tf.zeros([*KERNEL_SIZE, 1, 1]), window.strides, "VALID", dilations=window.dilations)
    return tuple(y.shape[1:3])


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("options", [{}, {"strides": (2, 3)}, {"dilation_rate": (2, 3)}], ids=str)
def test_the_output_has_the_size_of_tensorflows_convolution_of_the_padded_input(padding, options):
    window = Window.from_arguments(padding=padding, **options)
    assert window.output_size(SIZES, KERNEL_SIZE) == convolved_size(window)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_sizes_known_only_at_run_time_give_the_same_results(padding):
    window = Window.from_arguments(padding=padding, strides=2, dilation_rate=2)
    size, kernel_size = map(tf.constant, (SIZES, KERNEL_SIZE))
    np.testing.assert_array_equal(window.output_size(size, kernel_size), window.output_size(SIZES, KERNEL_SIZE))
    np.testing.assert_array_equal(window.padding_pixels(size, kernel_size), window.padding_pixels(SIZES, KERNEL_SIZE))


def test_what_is_not_known_gives_sizes_that_are_not_known():
    assert Window.from_arguments(padding="same").output_size((None, 8), (3, None)) == (None, 8)
    assert Window.from_arguments(padding="valid").output_size((9, 8), (3, None)) == (7, None)


def test_a_window_larger_than_the_input_has_a_negative_output():
    rows, _ = Window.from_arguments(padding="valid").output_size((3, 8), (9, 3))
    assert rows < 0


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_a_window_gives_back_the_padding_it_was_made_with(padding):
    window = Window.from_arguments(padding=padding)
    assert Window.from_arguments(padding=window.padding_argument) == window


def test_a_grid_has_seven_by_seven_bins_by_default():
    assert RoiGrid.from_arguments(spatial_scale=0.25).output_size == (7, 7)


def test_geometry_cannot_be_changed_once_it_is_checked():
    window, grid = Window.from_arguments(), RoiGrid.from_arguments(spatial_scale=0.25)
    with pytest.raises(dataclasses.FrozenInstanceError):
        window.strides = (0, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.gamma = 1.0


def the_op(kind: str, function, *inputs) -> tf.Operation:
    """The custom op of this kind in the graph of `function`."""
    graph = tf.function(function).get_concrete_function(*map(tf.constant, inputs)).graph
    (op,) = (op for op in graph.get_operations() if op.type == f"Dcnv2>{kind}")
    return op


def test_a_convolution_op_has_the_window_it_was_made_with(native_ops):
    window = Window.from_arguments(strides=(2, 1), padding=((1, 0), (2, 3)), dilation_rate=(1, 2), deformable_groups=2)
    x, kernel = np.zeros([1, 6, 7, 4], "float32"), np.zeros([2, 3, 4, 1], "float32")
    offset = np.zeros([1, *window.output_size(x.shape[1:3], kernel.shape[:2]), 24], "float32")
    op = the_op("DeformConv2D", lambda *inputs: native.deform_conv2d(*inputs, None, window), x, kernel, offset)
    assert Window.from_op(op) == window


def test_a_pooling_op_has_the_grid_it_was_made_with(native_ops):
    grid = RoiGrid.from_arguments(output_size=(3, 2), spatial_scale=0.25, sampling_ratio=4, convention="mxnet")
    features, boxes, zeros = np.zeros([1, 6, 7, 4], "float32"), np.zeros([5, 4], "float32"), np.zeros(5, "int32")

    def pool(features, boxes, box_indices, levels):
        return native.deform_roi_pool([features], boxes, box_indices, levels, None, None, grid)

    op = the_op("DeformRoiPool", pool, features, boxes, zeros, zeros)
    scales, gamma = map(tf.get_static_value, op.inputs[-2:])
    assert RoiGrid.from_op(op, tuple(scales), gamma) == grid


def test_a_pooling_layer_moves_its_bins_in_its_own_unit():
    features, boxes = np.random.default_rng(0).normal(size=[1, 9, 9, 2]), np.array([[2.0, 1.0, 20.0, 30.0]])

    def pooled(gamma, shift):
        layer = ModulatedDeformableRoIPooling(2, spatial_scale=0.25, gamma=gamma, hidden_units=4, dtype="float64")
        layer.build([1, 9, 9, 2])
        layer.branches[0].predictor.bias.assign(np.concatenate([np.full(8, shift), np.zeros(4)]))
        return layer(features, boxes, box_indices=np.array([0]))

    np.testing.assert_allclose(pooled(0.5, 0.1), pooled(0.1, 0.5), rtol=1e-12)
    assert np.abs(pooled(0.5, 0.1) - pooled(0.1, 0.1)).max() > 1e-3
