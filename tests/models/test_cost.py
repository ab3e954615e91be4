"""Multiply-adds and weights of any Keras model, compared with counts by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.layers import DeformableConv2D, DeformableRoIPooling, ModulatedDeformableConv2D, RoIAlign
from tf_dcnv2.models import Cost, model_cost, multiply_adds

IMAGE = tf.TensorSpec([2, 10, 13, 6])


def built(layer, shape=IMAGE.shape):
    layer.build(tuple(shape))
    return layer


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras.layers.Conv2D(8, (3, 5), strides=(2, 1)), 2 * (4 * 9) * (3 * 5 * 6 * 8)),
        (keras.layers.Conv2D(8, 3, padding="same", groups=2, dilation_rate=2), 2 * (10 * 13) * (3 * 3 * 3 * 8)),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), 2 * (10 * 13) * (3 * 3 * 6 * 2)),
        (
            keras.layers.SeparableConv2D(8, 3, strides=2, depth_multiplier=2, padding="same"),
            2 * (5 * 7) * (3 * 3 * 6 * 2 + 6 * 2 * 8),
        ),
        (keras.layers.Conv2DTranspose(8, 3, strides=2, padding="same"), 2 * (10 * 13) * (3 * 3 * 6 * 8)),
        (keras.layers.Dense(8), 2 * (10 * 13) * (6 * 8)),
        (keras.layers.BatchNormalization(), 0),
        (
            DeformableConv2D(8, 3, strides=2, padding=1),
            2 * (5 * 7) * (9 * 6 * 8 + 9 * 6 * (2 * 9) + 4 * 9 * 6),  # convolution, offsets, samples
        ),
        (
            ModulatedDeformableConv2D(8, 3, padding="same", groups=2, deformable_groups=3),
            2 * (10 * 13) * (9 * 3 * 8 + 9 * 6 * (3 * 3 * 9) + 4 * 9 * 6),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, keras.Layer) else "",
)
def test_multiply_adds_of_a_layer(layer, expected):
    layer = built(layer)
    assert model_cost(layer, IMAGE) == Cost(layer.count_params(), expected)


def test_multiply_adds_of_roi_pooling():
    features = [tf.TensorSpec([1, 10, 13, 6]), tf.TensorSpec([1, 5, 7, 6])]
    boxes, indices = tf.TensorSpec([20, 4]), tf.TensorSpec([20], tf.int32)
    bins, scales = 3 * 4, [1 / 4, 1 / 8]
    align = built(RoIAlign((3, 4), spatial_scale=scales, sampling_ratio=3), [(1, 10, 13, 6), (1, 5, 7, 6)])
    assert model_cost(align, features, boxes, indices).multiply_adds == 20 * bins * 6 * 9 * 4
    layer = DeformableRoIPooling((3, 4), spatial_scale=scales, hidden_units=5)
    deformable = built(layer, [(1, 10, 13, 6), (1, 5, 7, 6)])
    branch = (bins * 6) * 5 + 5 * 5 + 5 * (2 * bins)
    assert model_cost(deformable, features, boxes, indices).multiply_adds == 20 * (2 * bins * 6 * 4 * 4 + branch)


def test_roi_pooling_with_as_many_samples_as_a_bin_has_pixels_cannot_be_counted():
    align = built(RoIAlign(7, spatial_scale=1.0, sampling_ratio=0))
    with pytest.raises(ValueError, match="sampling_ratio=0"):
        model_cost(align, IMAGE, tf.TensorSpec([20, 4]), tf.TensorSpec([20], tf.int32))


def test_a_model_is_counted_as_often_as_it_is_called_and_its_weights_once():
    shared = keras.Sequential([keras.Input((None, None, 6)), keras.layers.Conv2D(6, 1, name="convolution")])
    image = keras.Input((None, None, 6))
    once = shared(image)
    network = keras.Model(image, [once, shared(keras.layers.MaxPooling2D(2)(once))])
    assert model_cost(network, IMAGE) == Cost(6 * 6 + 6, 2 * (10 * 13 + 5 * 6) * 6 * 6)


def test_mobilenet_v2_costs_what_its_paper_says():
    """arXiv:1801.04381, table 4: 300 M multiply-adds; and what Keras' documentation says: 3.5 M parameters."""
    cost = model_cost(keras.applications.MobileNetV2(weights=None), tf.TensorSpec([1, 224, 224, 3]))
    assert cost.multiply_adds == pytest.approx(300e6, rel=0.01)
    assert cost.parameters == pytest.approx(3.5e6, rel=0.02)


def test_a_model_is_as_before_when_it_has_been_counted():
    network = built(keras.Sequential([keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(2)]))
    image = np.ones(IMAGE.shape, "float32")
    before = network(image)
    model_cost(network, IMAGE)
    with pytest.raises(ValueError, match="incompatible"):
        model_cost(network, tf.TensorSpec([2, 10, 14, 6]))
    np.testing.assert_array_equal(network(image), before)
    assert not any("call" in vars(layer) for layer in (network, *network.layers))


class Mixing(keras.layers.Layer):
    """A layer of one's own with a kernel."""

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], input_shape[-1]))

    def call(self, x):
        return tf.matmul(x, tf.convert_to_tensor(self.kernel))


def test_a_layer_with_a_kernel_of_an_unknown_kind_is_refused_until_it_is_defined():
    network = keras.Sequential([keras.Input(IMAGE.shape[1:]), Mixing(name="mixing")])
    with pytest.raises(ValueError, match=r"multiply_adds\.register\(Mixing\).*'mixing' with kernel"):
        model_cost(network, IMAGE)
    multiply_adds.register(Mixing, lambda layer, inputs, outputs: outputs.shape.num_elements() * 6)
    assert model_cost(network, IMAGE).multiply_adds == 2 * 10 * 13 * 6 * 6


def test_sizes_must_be_known():
    with pytest.raises(ValueError, match=r"all sizes.*Received: .*\(None, 8, 11, 4\)"):
        model_cost(built(keras.layers.Conv2D(4, 3)), tf.TensorSpec([None, 10, 13, 6]))


def test_a_model_must_be_built():
    with pytest.raises(ValueError, match="must be built"):
        model_cost(keras.layers.Conv2D(4, 3), IMAGE)


def test_a_quantised_model_is_refused():
    network = keras.Sequential([keras.layers.Dense(4)])
    network(tf.zeros(IMAGE.shape))
    network.quantize("int8")
    with pytest.raises(ValueError, match="must not be quantised"):
        model_cost(network, IMAGE)


def test_costs_add_up():
    assert Cost(1, 10) + Cost(2, 20) == Cost(3, 30)
