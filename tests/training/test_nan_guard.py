import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_dcnv2
from tf_dcnv2.training import NaNGuard, TrainingDiverged

OPTIMIZERS = [
    lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    lambda: keras.optimizers.Adam(0.1),
    lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.1), initial_scale=1.0),
]


@keras.saving.register_keras_serializable(package="tests")
class NaNGradient(keras.layers.Layer):
    """The sum of its weight times the square root of its input: at zero a finite value whose gradient is not."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="kernel")

    def call(self, inputs):
        return tf.reduce_sum(tf.sqrt(tf.abs(inputs * self.kernel)), axis=-1, keepdims=True)


class WeightsAfterEachStep(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append([v.numpy() for v in (*self.model.weights, *self.model.optimizer.variables)])


def fit(layers, optimizer, x, **named):
    """Fits one sample after the other, and returns model and what it was after each step."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(x.shape[1:]), *(layers if isinstance(layers, list) else [layers])])
    model.compile(optimizer, loss="mse")
    seen = WeightsAfterEachStep()
    with pytest.raises(TrainingDiverged) as error:
        callbacks = [seen, NaNGuard(**named)]
        model.fit(x, np.ones([len(x), 1]), batch_size=1, shuffle=False, verbose=0, callbacks=callbacks)
    return model, seen.seen, str(error.value)


@pytest.mark.parametrize("make", OPTIMIZERS, ids=["sgd", "adam", "loss scaling"])
def test_training_stops_at_the_first_loss_that_is_not_finite_with_all_as_before_that_step(make):
    x = np.ones([8, 3], "float32")
    x[5, 1] = np.nan
    model, seen, message = fit(keras.layers.Dense(1), make(), x)
    assert len(seen) == 6
    assert "loss is nan at step" in message and "(epoch 1)" in message
    now = [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]
    for value, expected in zip(now, seen[4], strict=True):
        np.testing.assert_array_equal(value, expected)


def test_the_message_names_the_term_that_is_not_finite():
    guard = NaNGuard()
    guard.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    guard.model.compile("sgd", loss="mse")
    guard.on_train_begin()
    guard.on_epoch_begin(2)
    guard.on_train_batch_end(0, {"loss": 1.0, "box_loss": 1.0, "val_AP": float("nan")})
    with pytest.raises(TrainingDiverged, match=r"box_loss is inf, loss is inf at step 0 \(epoch 3\)"):
        guard.on_train_batch_end(1, {"loss": float("inf"), "box_loss": float("inf"), "rpn_box_loss": 0.5})
    assert guard.model.stop_training


def test_a_weight_that_is_spoilt_by_its_gradient_counts_though_the_loss_is_finite():
    x = np.ones([4, 3], "float32")
    x[2, 0] = 0.0
    model, seen, message = fit(NaNGradient(), keras.optimizers.SGD(0.01), x)
    assert "kernel is not finite, though the losses are at step 3" in message
    np.testing.assert_array_equal(model.layers[0].kernel, seen[1][0])


def sample_of(x):
    """The batch of each step of `fit` above."""
    return lambda step: (x[step : step + 1], np.ones([1, 1]))


def test_a_step_that_is_computed_again_tells_which_output_was_the_first_to_go_wrong():
    x = np.ones([6, 3], "float32")
    x[4, 1] = 1e30
    layers = [keras.layers.Dense(4, name="first"), keras.layers.Lambda(tf.square, name="second"), keras.layers.Dense(1)]
    model, seen, message = fit(layers, keras.optimizers.SGD(1e-3), x, batch_at=sample_of(x))
    assert "at step 5 (epoch 1), with a learning rate of 0.001." in message
    assert "The first value that is not finite is the output of second." in message
    # What was put back is still there, batch normalisation's averages for instance.
    now = [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]
    for value, expected in zip(now, seen[3], strict=True):
        np.testing.assert_array_equal(value, expected)


def test_averages_that_the_repeated_step_moves_are_put_back():
    x = np.random.default_rng(0).standard_normal([6, 3]).astype("float32")
    x[4] = np.inf
    layers = [keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    model, seen, message = fit(layers, keras.optimizers.SGD(1e-3), x, batch_at=sample_of(x))
    assert "output of batch_normalization" in message
    np.testing.assert_array_equal(model.layers[0].moving_mean, seen[3][2])
    assert np.isfinite(model.layers[0].moving_mean).all()


def test_offsets_that_are_not_finite_are_named_as_such():
    x = np.ones([3, 4, 4, 2], "float32")
    x[2, 1, 1, 0] = np.nan
    deformable = tf_dcnv2.layers.DeformableConv2D(2, 3, padding="same", name="deformable")
    layers = [deformable, keras.layers.Flatten(), keras.layers.Dense(1)]
    deformable.build((None, 4, 4, 2))
    deformable.offset_kernel.assign(np.ones(deformable.offset_kernel.shape))
    *_, message = fit(layers, keras.optimizers.SGD(0.0), x, batch_at=sample_of(x))
    assert "The first value that is not finite is the offset of deformable." in message


def test_a_gradient_is_named_where_all_that_was_computed_forwards_is_finite():
    x = np.ones([4, 3], "float32")
    x[2, 0] = 0.0
    layers = [keras.layers.Rescaling(1.0), NaNGradient(name="square_root")]
    *_, message = fit(layers, keras.optimizers.SGD(0.01), x, batch_at=sample_of(x))
    assert re.search(r"The first value that is not finite is the gradient of \S+/square_root/kernel\.", message)


def test_weights_may_be_looked_at_less_often():
    x = np.ones([8, 3], "float32")
    x[6] = np.nan
    model, seen, message = fit(keras.layers.Dense(1), keras.optimizers.SGD(0.1), x, every=4)
    assert "at step 7" in message and "those of step 4" in message
    np.testing.assert_array_equal(model.layers[0].kernel, seen[3][0])


def test_training_that_begins_with_weights_that_are_not_finite_is_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, bias_initializer=lambda *_, **__: [np.nan])])
    model.compile("sgd", loss="mse")
    with pytest.raises(TrainingDiverged, match="bias held NaN or infinity before the first step"):
        model.fit(np.ones([2, 1]), np.ones([2, 1]), verbose=0, callbacks=[NaNGuard()])


@keras.saving.register_keras_serializable(package="tests")
class BuiltInPart(keras.Model):
    """A model that counts as built before its second layer is."""

    def __init__(self):
        super().__init__()
        self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(1)

    def build(self, input_shape):
        self.first.build(input_shape)

    def call(self, inputs):
        return self.second(self.first(inputs))


def built_in_part():
    model = BuiltInPart()
    model.build((None, 3))
    assert model.built and not model.second.built
    return model


MODELS = {
    "built": lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]),
    "not built": lambda: keras.Sequential([keras.layers.Dense(1)]),
    "built in part": built_in_part,
}


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("kind", ["not built", "built in part"])
def test_a_model_that_fit_has_to_build_is_guarded_from_its_second_step_on(kind, every):
    x = np.ones([8, 3], "float32")
    x[1] = np.nan
    keras.utils.set_random_seed(0)
    model, seen = MODELS[kind](), WeightsAfterEachStep()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    with pytest.raises(TrainingDiverged, match="loss is nan at step 2 .*those of step 1, which were finite"):
        model.fit(x, x[:, :1], batch_size=1, shuffle=False, verbose=0, callbacks=[seen, NaNGuard(every)])
    now = [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]
    for value, expected in zip(now, seen.seen[0], strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("kind", ["not built", "built in part"])
def test_where_the_first_step_of_a_model_that_fit_builds_diverges_there_is_nothing_to_go_back_to(kind):
    x = np.full([2, 3], np.nan, "float32")
    model = MODELS[kind]()
    model.compile("sgd", loss="mse")
    with pytest.raises(TrainingDiverged, match="loss is nan at step 1 .* there are no weights to go back to"):
        model.fit(x, x[:, :1], batch_size=1, verbose=0, callbacks=[NaNGuard()])


def test_a_weight_that_the_first_step_of_a_model_that_fit_builds_spoils_is_named():
    model = keras.Sequential([NaNGradient()])
    model.compile("sgd", loss="mse")
    with pytest.raises(TrainingDiverged, match="kernel is not finite, though the losses are at step 1 .*no weights"):
        model.fit(np.zeros([1, 3]), np.ones([1, 1]), verbose=0, callbacks=[NaNGuard(every=3)])


@pytest.mark.parametrize("kind", MODELS)
def test_a_training_that_goes_well_is_not_changed(kind):
    def trained(callbacks):
        keras.utils.set_random_seed(0)
        model = MODELS[kind]()
        model.compile("adam", loss="mse")
        x = np.random.default_rng(0).normal(size=(16, 3))
        model.fit(x, x[:, :1], batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        return model.get_weights()

    for guarded, plain in zip(trained([NaNGuard()]), trained([]), strict=True):
        np.testing.assert_array_equal(guarded, plain)


@pytest.mark.parametrize("every", [0, -1])
def test_every_must_be_positive(every):
    with pytest.raises(ValueError, match="every must be at least 1"):
        NaNGuard(every)
