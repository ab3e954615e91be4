import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.layers import (
    DeformableConv2D,
    DeformableRoIPooling,
    ModulatedDeformableConv2D,
    ModulatedDeformableRoIPooling,
    RoIAlign,
    observe_sampling,
)

BOXES = np.array([[[1.0, 2.0, 7.0, 9.0]]], np.float32)


@pytest.mark.parametrize("layer_class", [DeformableConv2D, ModulatedDeformableConv2D])
def test_a_convolution_goes_on_with_what_the_observer_returns(layer_class, rng, traced):
    layer = layer_class(2, 1, name="conv")
    x = tf.constant(rng.standard_normal([1, 8, 8, 3]), tf.float32)
    plain = layer(x)
    seen = []

    def move_down(layer, inputs, offset, mask):
        seen.append((layer.name, inputs[0].shape, offset.shape, mask is None))
        return offset + [1.0, 0.0], mask

    with observe_sampling(move_down):
        moved = traced(lambda x: layer(x))(x)
    assert seen == [("conv", x.shape, (1, 8, 8, 2), layer_class is DeformableConv2D)]
    np.testing.assert_allclose(moved[:, :-1], plain[:, 1:], rtol=1e-5)
    np.testing.assert_array_equal(layer(x), plain)


@pytest.mark.parametrize("layer_class", [RoIAlign, DeformableRoIPooling, ModulatedDeformableRoIPooling])
def test_roi_pooling_is_seen_once_and_takes_offsets_and_modulation(layer_class, rng):
    layer = layer_class(2, spatial_scale=1.0)
    features = tf.constant(rng.standard_normal([1, 10, 10, 3]), tf.float32)
    plain = layer(features, BOXES)
    seen = []

    def halve(layer, inputs, offset, mask):
        seen.append(inputs[1].shape)
        return tf.zeros([1, 2, 2, 2]), (1.0 if mask is None else mask) * tf.fill([1, 2, 2], 0.5)

    with observe_sampling(halve):
        halved = layer(features, BOXES)
    assert seen == [(1, 4)]  # not the branch's own look at the RoI
    np.testing.assert_allclose(halved, 0.5 * plain, rtol=1e-5)


def test_observers_nest_and_end_with_their_context_even_after_an_error(rng):
    model = keras.Sequential([keras.Input((4, 4, 1)), DeformableConv2D(1, 1)])
    seen = []

    def observer(name):
        def observe(layer, inputs, offset, mask):
            seen.append(name)
            return offset, mask

        return observe

    with observe_sampling(observer("outer")):
        with pytest.raises(RuntimeError), observe_sampling(observer("inner")):
            model(np.ones([1, 4, 4, 1]))
            raise RuntimeError
        model(np.ones([1, 4, 4, 1]))
    model(np.ones([1, 4, 4, 1]))
    assert seen == ["inner", "outer"]
