import copy
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.layers import ModulatedDeformableConv2D
from tf_dcnv2.training import scale_learning_rates

OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "Nesterov momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "decoupled decay": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.3),
    "decoupled decay of its own": lambda: keras.optimizers.Muon(0.1, adam_weight_decay=0.3, weight_decay=0.5),
    "loss_scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1.0),
    "schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=1, decay_rate=0.5), weight_decay=0.1
    ),
} | {
    # Every optimizer that Keras has.
    name: lambda optimizer=optimizer: optimizer(0.1)
    for name, optimizer in vars(keras.optimizers).items()
    if isinstance(optimizer, type)
    and issubclass(optimizer, keras.optimizers.Optimizer)
    and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
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
    if name == "schedule":
        slower = keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=1, decay_rate=0.5), weight_decay=0.1
        )
    else:
        slower.learning_rate = 0.01
    expected = train_two_steps(slower, 1.0)
    assert not np.array_equal(expected, [2.0, -3.0])
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_multiplier_of_zero_leaves_a_variable_as_it_is(name):
    np.testing.assert_array_equal(train_two_steps(scale_learning_rates(OPTIMIZERS[name]()), 0.0), [2.0, -3.0])


def test_variables_without_a_multiplier_learn_as_before():
    np.testing.assert_array_equal(
        train_two_steps(scale_learning_rates(keras.optimizers.Adam(0.1)), 1.0),
        train_two_steps(keras.optimizers.Adam(0.1), 1.0),
    )


def test_momentum_takes_gradients_of_a_few_rows():
    table = {}
    for scale in (lambda optimizer: optimizer, scale_learning_rates):
        optimizer = scale(keras.optimizers.SGD(0.1, momentum=0.9))
        variable = keras.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        for row in (0, 2):
            optimizer.apply_gradients([(tf.IndexedSlices(tf.ones((1, 2)), [row], (3, 2)), variable)])
        table[scale] = variable.numpy()
    np.testing.assert_array_equal(*table.values())


def test_a_subclass_of_sgd_keeps_its_own_step():
    class Still(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            pass

    np.testing.assert_array_equal(train_two_steps(scale_learning_rates(Still(0.1, momentum=0.9)), 1.0), [2.0, -3.0])


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


def model_and_data(optimizer) -> tuple[keras.Model, tuple[np.ndarray, np.ndarray]]:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Conv2D(2, 1), ModulatedDeformableConv2D(4, 3, padding="same")]
    )
    model.compile(optimizer, loss="mse")
    random = np.random.default_rng(0)
    return model, (random.normal(size=(2, 8, 8, 2)), random.normal(size=(2, 8, 8, 4)))


def steps_of_one_fit(model, data) -> tuple[float, float]:
    """How far one step moves the offset branches, and how far the other variables."""
    before = [variable.numpy() for variable in model.trainable_variables]
    model.fit(*data, verbose=0)
    steps = {False: [], True: []}
    for variable, value in zip(model.trainable_variables, before, strict=True):
        steps["offset" in variable.path].append(np.abs(variable.numpy() - value).max())
    return max(steps[True]), max(steps[False])


# Adam's first step is the learning rate in every coordinate that has a gradient, whatever the gradient.
def adam():
    return scale_learning_rates(keras.optimizers.Adam(1e-2, epsilon=1e-12))


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.models.load_model(folder / "model.keras")


def pickled(model, folder):
    return pickle.loads(pickle.dumps(model))


def cloned(model, folder):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def recompiled(model, optimizer):
    model.compile(optimizer, loss="mse")
    return model


def from_configuration(model, folder):
    return recompiled(model, type(model.optimizer).from_config(model.optimizer.get_config()))


def from_serialized(model, folder):
    serialized = json.loads(json.dumps(keras.optimizers.serialize(model.optimizer)))
    return recompiled(model, keras.optimizers.deserialize(serialized))


def copied(model, folder):
    return recompiled(model, copy.deepcopy(model.optimizer))


WAYS = [saved_and_loaded, pickled, cloned, from_configuration, from_serialized, copied]


@pytest.mark.parametrize("way", WAYS)
def test_offset_branches_stay_slow_after_every_way_to_copy_an_optimizer(way, tmp_path):
    model, data = model_and_data(adam())
    assert steps_of_one_fit(way(model, tmp_path), data) == pytest.approx((1e-3, 1e-2), rel=1e-3)


@pytest.mark.parametrize("way", [saved_and_loaded, cloned])
@pytest.mark.parametrize("choice", ["map of scaled", "scaled map"])
def test_offset_branches_are_slow_inside_a_multi_optimizer(choice, way, tmp_path):
    make = adam if choice == "map of scaled" else lambda: keras.optimizers.Adam(1e-2, epsilon=1e-12)
    optimizers = keras.optimizers.OptimizerMap(make(), {"conv2d.*": make()})
    optimizer = keras.optimizers.MultiOptimizer(optimizers)
    model, data = model_and_data(optimizer if choice == "map of scaled" else scale_learning_rates(optimizer))
    for one in (way(model, tmp_path), model):
        assert steps_of_one_fit(one, data) == pytest.approx((1e-3, 1e-2), rel=1e-3)


def test_offset_branches_are_slow_where_a_function_chooses_the_optimizer():
    first, second = (keras.optimizers.Adam(1e-2, epsilon=1e-12) for _ in range(2))
    chosen = keras.optimizers.MultiOptimizer(lambda variable: first if "offset" in variable.path else second)
    model, data = model_and_data(scale_learning_rates(chosen))
    assert steps_of_one_fit(model, data) == pytest.approx((1e-3, 1e-2), rel=1e-3)


def test_scaling_an_optimizer_that_has_trained_says_to_compile_again():
    model, data = model_and_data(keras.optimizers.SGD(1e-2))
    model.fit(*data, verbose=0)
    with pytest.warns(UserWarning, match=r"SGD has made 1 steps already.*compiled again"):
        scale_learning_rates(model.optimizer)
    model.compile(model.optimizer, loss="mse")
    offsets, others = steps_of_one_fit(model, data)
    plain, _ = model_and_data(keras.optimizers.SGD(1e-2))
    plain.fit(*data, verbose=0)
    expected_offsets, expected_others = steps_of_one_fit(plain, data)
    assert others == pytest.approx(expected_others, rel=1e-3)
    assert offsets == pytest.approx(0.1 * expected_offsets, rel=1e-3)


@pytest.mark.parametrize("given", ["adam", {"class_name": "adam", "config": {"learning_rate": 0.5}}])
def test_an_optimizer_may_be_given_by_name_or_configuration(given):
    assert isinstance(scale_learning_rates(given), keras.optimizers.Adam)


@pytest.mark.parametrize("given", [None, 3, "no such optimizer"])
def test_what_is_no_optimizer_is_refused(given):
    with pytest.raises(ValueError, match="ptimizer"):
        scale_learning_rates(given)


class MyOptimizer(keras.optimizers.SGD):
    """One that neither Keras nor this package knows."""


def test_an_optimizer_of_a_users_own_class_is_loaded_with_its_model(tmp_path):
    model, data = model_and_data(scale_learning_rates(MyOptimizer(1e-2)))
    loaded = saved_and_loaded(model, tmp_path)
    assert isinstance(loaded.optimizer, MyOptimizer)
    assert steps_of_one_fit(loaded, data) == pytest.approx(steps_of_one_fit(model, data), rel=1e-3)


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
