import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.layers import ModulatedDeformableConv2D
from tf_dcnv2.training import scale_learning_rates

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.3),
    "lion": lambda: keras.optimizers.Lion(0.1),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1.0),
}


def train_two_steps(optimizer, multiplier):
    variable = keras.Variable([2.0, -3.0])
    variable.learning_rate_multiplier = multiplier
    for gradient in ([0.5, -0.25], [0.1, 0.2]):
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
    return variable.numpy()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_multiplier_acts_as_a_smaller_learning_rate_under_any_optimizer(name):
    scaled = train_two_steps(scale_learning_rates(OPTIMIZERS[name]()), 0.1)
    slower = OPTIMIZERS[name]()
    slower.learning_rate = 0.01
    np.testing.assert_allclose(scaled, train_two_steps(slower, 1.0), rtol=1e-6)


def test_variables_without_a_multiplier_learn_as_before():
    np.testing.assert_array_equal(
        train_two_steps(scale_learning_rates(keras.optimizers.Adam(0.1)), 1.0),
        train_two_steps(keras.optimizers.Adam(0.1), 1.0),
    )


def test_scaling_twice_scales_once():
    once = train_two_steps(scale_learning_rates(keras.optimizers.SGD(0.1)), 0.1)
    twice = train_two_steps(scale_learning_rates(scale_learning_rates(keras.optimizers.SGD(0.1))), 0.1)
    np.testing.assert_array_equal(once, twice)


def test_offset_branches_move_a_tenth_as_far_in_a_users_own_model():
    keras.utils.set_random_seed(0)
    layer = ModulatedDeformableConv2D(4, 3, padding="same")
    model = keras.Sequential([keras.Input((8, 8, 2)), layer])
    before = {variable.path: variable.numpy() for variable in layer.trainable_variables}
    # Adam's first step is the learning rate in every coordinate that has a gradient.
    model.compile(scale_learning_rates(keras.optimizers.Adam(1e-2, epsilon=1e-12)), loss="mse")
    random = np.random.default_rng(0)
    model.fit(random.normal(size=(2, 8, 8, 2)), random.normal(size=(2, 8, 8, 4)), verbose=0)
    for variable in layer.trainable_variables:
        step = np.abs(variable.numpy() - before[variable.path]).max()
        assert step == pytest.approx(1e-3 if "offset" in variable.path else 1e-2, rel=1e-3), variable.path


def test_multipliers_hold_on_every_replica():
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    with strategy.scope():
        model = keras.Sequential([keras.Input((6, 6, 1)), ModulatedDeformableConv2D(1, 3, padding="same")])
        model.compile(scale_learning_rates(keras.optimizers.Adam(1e-2, epsilon=1e-12)), loss="mse")
    random = np.random.default_rng(0)
    model.fit(random.normal(size=(2, 6, 6, 1)), random.normal(size=(2, 6, 6, 1)), verbose=0)
    offsets = [variable for variable in model.trainable_variables if "offset" in variable.path]
    assert max(np.abs(variable.numpy()).max() for variable in offsets) == pytest.approx(1e-3, rel=1e-3)
