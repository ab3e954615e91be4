"""`fit` that is killed and goes on as if it had not been."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.training import Resumable


class Killed(BaseException):
    """Ends `fit` as a kill would: no callback hears of it."""


class Recorder(keras.callbacks.Callback):
    """Notes epochs and steps, and kills `fit` after so many steps."""

    def __init__(self, die_after=None):
        super().__init__()
        self.events, self._left = [], die_after

    def on_epoch_begin(self, epoch, logs=None):
        self.events.append(("begin", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.events.append(("step", batch))
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                raise Killed

    def on_epoch_end(self, epoch, logs=None):
        self.events.append(("end", epoch, logs["loss"]))


def make_model(units=4):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(units, "tanh"), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile(keras.optimizers.Adam(0.05, use_ema=True), loss="mse", run_eagerly=True)
    return model


def batches_from(step):
    x = np.random.default_rng(0).standard_normal([40, 2, 3]).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, x.sum(-1, keepdims=True))).repeat().skip(step)


def fit(folder, recorder, **named):
    model = make_model()
    resumable = Resumable(folder, epochs=3, steps_per_epoch=4, callbacks=[recorder], **named)
    model.fit(batches_from(resumable.start_step), callbacks=[resumable], verbose=0)
    return model, resumable


def test_fit_that_is_killed_goes_on_inside_the_epoch_and_ends_with_the_same_weights(tmp_path):
    whole = Recorder()
    expected, complete = fit(tmp_path / "whole", whole)
    # Checkpoints after every second step: 3 is done again from 2, and 9 from 8.
    for steps in (3, 7):
        with pytest.raises(Killed):
            fit(tmp_path / "killed", Recorder(die_after=steps), steps=2)
    last = Recorder()
    model, resumable = fit(tmp_path / "killed", last, steps=2)
    assert resumable.start_step == 8
    assert last.events == whole.events[-6:]
    assert resumable.history == complete.history
    for value, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


def test_training_that_has_ended_makes_no_further_step_unless_it_is_given_more_epochs(tmp_path):
    model, _ = fit(tmp_path, Recorder())
    again = Recorder()
    same, resumable = fit(tmp_path, again)
    assert again.events == [] and resumable.start_step == 12 and len(resumable.history) == 3
    np.testing.assert_array_equal(same.get_weights()[0], model.get_weights()[0])
    more = Recorder()
    resumable = Resumable(tmp_path, epochs=4, steps_per_epoch=4, callbacks=[more])
    same.fit(batches_from(resumable.start_step), callbacks=[resumable], verbose=0)
    assert [event[:2] for event in more.events] == [("begin", 3), *(("step", step) for step in range(4)), ("end", 3)]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    fit(tmp_path, Recorder())
    resumable = Resumable(tmp_path, epochs=4, steps_per_epoch=4)
    with pytest.raises(ValueError, match="backup is of another model or optimizer"):
        make_model(units=5).fit(batches_from(12), callbacks=[resumable], verbose=0)


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match="steps_per_epoch"):
        Resumable(tmp_path, epochs=1, steps_per_epoch=0)
    with pytest.raises(ValueError, match="minutes"):
        Resumable(tmp_path, epochs=1, steps_per_epoch=1, minutes=0)
