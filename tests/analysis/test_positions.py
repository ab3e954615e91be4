"""Cells of feature maps lie on the image where what they see is centred."""

import keras
import numpy as np
import pytest

from tf_dcnv2.analysis import ConvNode, effective_receptive_field, node_at, node_position, sampling_locations
from tf_dcnv2.analysis._network import network_of
from tf_dcnv2.layers import DeformableConv2D

CONV = {"kernel_initializer": "ones", "use_bias": False}
CHAINS = {
    "same, odd and even strides": [
        keras.layers.Conv2D(1, 3, strides=2, padding="same", **CONV),
        keras.layers.Conv2D(1, 5, strides=3, padding="same", **CONV),
    ],
    "valid": [keras.layers.Conv2D(1, 4, strides=2, **CONV), keras.layers.DepthwiseConv2D(3, use_bias=False)],
    "dilated": [keras.layers.Conv2D(1, 3, dilation_rate=3, padding="same", **CONV)],
    "a residual network's stem": [
        keras.layers.ZeroPadding2D(3),
        keras.layers.Conv2D(1, 7, strides=2, **CONV),
        keras.layers.ZeroPadding2D(((1, 0), (1, 0))),
        keras.layers.AveragePooling2D(3, 2),
    ],
    "cropped": [keras.layers.Cropping2D(((3, 1), (2, 5))), keras.layers.Conv2D(1, 3, **CONV)],
    "pooled": [keras.layers.AveragePooling2D(2), keras.layers.Activation("relu"), keras.layers.AveragePooling2D(3, 1)],
    "deformable": [DeformableConv2D(1, 3, strides=2, padding=((0, 2), (1, 1)), **CONV)],
}


def grid_of(model, size, node):
    network = network_of(model)
    shape = network.feature_map(node.layer)(np.ones([1, *size, 1], np.float32)).shape
    return network.grid(node.layer, size, shape[1:3])


@pytest.mark.parametrize("size", [(41, 52), (44, 47)], ids=str)
@pytest.mark.parametrize("chain", CHAINS)
def test_a_cell_lies_in_the_middle_of_what_it_sees(sequential, chain, size):
    layers = [layer.from_config(layer.get_config()) for layer in CHAINS[chain]]
    model = sequential(*layers)
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.set_weights([np.ones_like(layer.get_weights()[0])])
    node = ConvNode(layers[-1].name, 3, 4)
    field = effective_receptive_field(model, np.ones([*size, 1]), node)
    centre = [np.average(np.arange(length), weights=field.sum(1 - axis)) for axis, length in enumerate(size)]
    np.testing.assert_allclose(node_position(model, np.ones([*size, 1]), node), centre, atol=1e-4)


def test_cells_are_found_by_their_place(sequential):
    model = sequential(keras.layers.Conv2D(1, 3, strides=4, padding="same", name="conv"))
    image = np.zeros([33, 40, 1])
    for node in (ConvNode("conv", 0, 0), ConvNode("conv", 5, 7), ConvNode("conv", 8, 9)):
        y, x = sampling_locations(model, image, node, depth=1).mean(axis=0)  # of taps around it
        assert node_at(model, image, "conv", (min(y, 32), min(x, 39))) == node


def test_maps_that_no_layer_places_cover_the_image(detectors, image):
    node = node_at(detectors["v2"], image, "P4", (40.0, 70.0))
    assert (node.row, node.column) == (2, 4)  # 16 pixels a cell: rows 32 to 48, columns 64 to 80


def test_joined_and_nested_layers_are_placed(rng):
    images = keras.Input((None, None, 1))
    left = keras.layers.Conv2D(2, 3, strides=2, padding="same")(images)
    right = keras.layers.Conv2D(2, 1, strides=2, padding="valid")(images)
    joined = keras.layers.Add(name="joined")([left, right])
    inner = keras.Sequential(
        [keras.Input((None, None, 2)), keras.layers.Conv2D(1, 3, strides=2, padding="same")], name="inner"
    )
    model = keras.Model(images, inner(joined))
    size = (31, 31)  # odd: both branches look at every second pixel
    np.testing.assert_allclose(grid_of(model, size, ConvNode("joined", 0, 0)).pixels(np.array([2, 5])), [4, 10])
    np.testing.assert_allclose(grid_of(model, size, ConvNode("inner", 0, 0)).pixels(np.array([2, 5])), [10, 22])
