"""What every Keras layer has to do, as one check."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

PRECISIONS = {"mixed_bfloat16": 0.05, "mixed_float16": 0.01, "float64": 1e-4}


@pytest.fixture
def check_layer(tmp_path):
    """Checks shapes, graph, configuration, saving, training and precision of `layer_class(**options)`.

    Args of the check:
        layer_class: a Keras layer.
        options: its constructor arguments.
        inputs: arrays, the layer's positional arguments; a list among them is one argument.
        unknown: the same structure of `keras.Input`s, with sizes unknown as far as the layer allows.
        expected_shape: of the output.
    """

    def check(layer_class, options, inputs, unknown, expected_shape):
        keras.utils.set_random_seed(0)
        layer = layer_class(**options)
        output = layer(*inputs)
        randomize(layer)
        output = layer(*inputs)

        assert output.shape == expected_shape and output.dtype == "float32"
        shapes = [tf.nest.map_structure(np.shape, one) for one in inputs]
        assert tuple(layer.compute_output_shape(*shapes)) == expected_shape
        assert layer.supports_jit is (layer.implementation == "composite" and getattr(layer, "sampling_ratio", 1) > 0)
        np.testing.assert_allclose(tf.function(layer)(*inputs), output, rtol=1e-5, atol=1e-6)

        check_configuration(layer)
        check_model(layer, inputs, unknown, output, tmp_path / "model.keras")
        for precision, tolerance in PRECISIONS.items():
            check_precision(layer, inputs, output, precision, tolerance)
        return layer

    return check


def randomize(layer):
    """Moves the layer away from its start, where offsets are zero: less than a pixel, so that outputs stay smooth."""
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(variable + 0.02 * rng.standard_normal(variable.shape))


def check_configuration(layer):
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    copy = keras.saving.deserialize_keras_object(serialized)
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()


def check_model(layer, inputs, unknown, output, path):
    """The layer in a functional model: unknown sizes, saving and loading, one step of training."""
    model = keras.Model(unknown, layer(*unknown))
    assert model.output.shape[-1] == output.shape[-1]
    np.testing.assert_allclose(model(inputs), output, rtol=1e-5, atol=1e-6)

    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(loaded(inputs), output, rtol=1e-5, atol=1e-6)
    copy = loaded.layers[-1]
    assert copy.get_config() == layer.get_config()
    for old, new in zip(layer.variables, copy.variables, strict=True):
        assert getattr(new, "learning_rate_multiplier", 1.0) == getattr(old, "learning_rate_multiplier", 1.0)

    if loaded.trainable_variables:
        before = [variable.numpy() for variable in loaded.trainable_variables]
        loaded.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        loaded.train_on_batch(inputs, np.ones(output.shape, np.float32))
        for variable, value in zip(loaded.trainable_variables, before, strict=True):
            assert not np.array_equal(variable.numpy(), value), f"{variable.path} has no gradient"


def check_precision(layer, inputs, output, precision, tolerance):
    """The same weights under another dtype policy give the same output but for rounding."""
    copy = type(layer).from_config({**layer.get_config(), "dtype": precision})
    received = copy(*inputs)
    for old, new in zip(layer.variables, copy.variables, strict=True):
        new.assign(old.numpy())
    received = copy(*inputs)
    assert received.dtype == keras.DTypePolicy(precision).compute_dtype
    scale = np.abs(output).max()
    np.testing.assert_allclose(tf.cast(received, tf.float32), output, rtol=0, atol=tolerance * scale)
