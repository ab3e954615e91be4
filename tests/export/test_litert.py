"""Graphs of plain TensorFlow ops in LiteRT, without TensorFlow's ops beside its own ("select ops")."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import tiny_config
from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D
from tf_dcnv2.ops import portable_ops


def run_in_litert(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    """The outputs of a model in LiteRT's interpreter, as flat as `tf.nest` makes them."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    with portable_ops():
        function = tf.function(lambda x: tf.nest.flatten(model(x, training=False)))
        concrete = function.get_concrete_function(tf.TensorSpec(x.shape))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    runner = interpreter.Interpreter(model_content=converter.convert())
    runner.allocate_tensors()
    [given] = runner.get_input_details()
    runner.set_tensor(given["index"], x)
    runner.invoke()
    outputs = sorted(runner.get_output_details(), key=lambda output: output["name"])
    return [runner.get_tensor(output["index"]) for output in outputs]


def deform(model: keras.Model) -> None:
    for variable in model.variables:
        if "offset" in variable.path:
            variable.assign(keras.random.normal(variable.shape, stddev=0.05, seed=1))


@pytest.mark.parametrize("padding", ["same", "valid", ((1, 2), (0, 3))])
@pytest.mark.parametrize("size", [(17, 23), (16, 20)])
def test_a_strided_layer_gives_the_same_numbers_at_odd_sizes_too(padding, size):
    keras.utils.set_random_seed(0)
    layer = ModulatedDeformableConv2D(6, 3, strides=2, padding=padding, deformable_groups=2)
    model = keras.Sequential([keras.Input((*size, 4)), layer])
    deform(model)
    x = np.random.default_rng(0).normal(size=[1, *size, 4]).astype("float32")
    [y] = run_in_litert(model, x)
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{"dilation_rate": 2}, {"groups": 2}, {"deformable_groups": 4}], ids=str)
@pytest.mark.parametrize("layer", [DeformableConv2D, ModulatedDeformableConv2D])
def test_each_kind_of_layer_gives_the_same_numbers(layer, options):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((9, 12, 4)), layer(8, 3, padding="same", **options)])
    deform(model)
    x = np.random.default_rng(0).normal(size=[2, 9, 12, 4]).astype("float32")
    [y] = run_in_litert(model, x)
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-5)


def test_a_backbone_gives_the_same_feature_maps():
    keras.utils.set_random_seed(0)
    backbone = tiny_config("fpn").build((1,)).backbone
    deform(backbone)
    x = np.random.default_rng(0).normal(size=[1, 64, 96, 3]).astype("float32")
    expected = tf.nest.flatten(backbone(x, training=False))
    received = run_in_litert(backbone, x)
    for feature in expected:
        [same] = [array for array in received if array.shape == feature.shape]
        np.testing.assert_allclose(same, feature, rtol=1e-3, atol=1e-4)
