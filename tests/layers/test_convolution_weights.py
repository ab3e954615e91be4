"""Weights of an ordinary `Conv2D` in a deformable convolution: by array and by file."""

import keras
import numpy as np
import pytest

from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D

X = (2, 9, 8, 4)
EXACT = pytest.mark.parametrize(
    "layer_class, options", [(DeformableConv2D, {}), (ModulatedDeformableConv2D, {"mask_scale": 2.0})]
)


@pytest.fixture
def x(rng):
    return rng.standard_normal(X).astype(np.float32)


def convolution(**options):
    conv = keras.layers.Conv2D(6, 3, bias_initializer="random_normal", **options)
    conv.build(X)
    return conv


class Network(keras.Model):
    """Names its layer by attribute, as `.weights.h5` files do for subclassed models."""

    def __init__(self, layer):
        super().__init__()
        self.first = layer

    def call(self, x):
        return self.first(x)


@EXACT
@pytest.mark.parametrize("use_bias", [True, False])
def test_the_arrays_of_a_conv2d_make_the_layer_that_conv2d(layer_class, options, use_bias, x):
    conv, layer = convolution(use_bias=use_bias), layer_class(6, 3, use_bias=use_bias, **options)
    layer.build(X)
    layer.set_weights(conv.get_weights())
    np.testing.assert_allclose(layer(x), conv(x), rtol=0, atol=2e-6)
    assert not layer.offset_kernel.numpy().any() and not layer.offset_bias.numpy().any()


@EXACT
def test_the_layer_s_own_arrays_are_set_as_before(layer_class, options, x):
    one, other = layer_class(6, 3, **options), layer_class(6, 3, **options)
    one.build(X), other.build(X)
    one.offset_kernel.assign(keras.random.normal(one.offset_kernel.shape))
    other.set_weights(one.get_weights())
    np.testing.assert_array_equal(other(x), one(x))


@EXACT
def test_arrays_that_do_not_fit_are_refused_with_those_that_would(layer_class, options):
    layer = layer_class(6, 3, use_bias=False, **options)
    with pytest.raises(ValueError, match="has no weights yet: call it, or its build"):
        layer.set_weights(convolution().get_weights())
    layer.build(X)
    with pytest.raises(ValueError, match=r"takes the arrays \[kernel\] of a Conv2D with use_bias=False"):
        layer.set_weights(convolution(use_bias=False).get_weights() * 4)
    with pytest.raises(ValueError, match="shape"):
        layer.set_weights([np.zeros((3, 3, 4, 5), np.float32)])


@EXACT
def test_a_file_of_a_network_with_a_conv2d_in_the_layer_s_place_loads(layer_class, options, x, tmp_path):
    path, conv, layer = tmp_path / "conv.weights.h5", convolution(), layer_class(6, 3, **options)
    before, after = Network(conv), Network(layer)
    before(x), after(x)
    before.save_weights(path)
    after.load_weights(path)
    np.testing.assert_allclose(after(x), before(x), rtol=0, atol=2e-6)


@EXACT
def test_a_file_that_does_not_name_the_layer_is_refused_with_what_to_do(layer_class, options, tmp_path):
    """Files of functional models name layers by class, so that those of a model with Conv2D cannot be found."""
    path, inputs = tmp_path / "conv.weights.h5", keras.Input((None, None, 4))
    keras.Model(inputs, convolution()(inputs)).save_weights(path)
    model = keras.Model(inputs, layer_class(6, 3, **options)(inputs))
    with pytest.raises(ValueError, match=r"layer.set_weights\(conv.get_weights\(\)\)"):
        model.load_weights(path)
    with pytest.warns(UserWarning, match=r"layer.set_weights\(conv.get_weights\(\)\)"):
        model.load_weights(path, skip_mismatch=True)
