import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.training import Budget, MaxMinutes, SpendBudget
from tf_dcnv2.training.schedules import cosine_decay, step_decay, warm_up


def small_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), loss="mse")
    return model, tf.data.Dataset.from_tensors((tf.ones([1, 1]), tf.ones([1, 1]))).repeat(4)


class LearningRates(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(self.model.optimizer.learning_rate))


def test_the_step_schedule_is_the_papers():
    assert [step_decay(epoch / 16) for epoch in (0, 9.99, 10, 13.99, 14, 16)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]


def test_the_cosine_schedule_goes_from_one_to_zero():
    np.testing.assert_allclose([cosine_decay(x) for x in (0, 0.5, 1)], [1, 0.5, 0], atol=1e-12)


def test_warm_up_rises_linearly_and_then_leaves_the_rate_alone():
    assert [warm_up(step, 4) for step in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert warm_up(0, 0) == 1.0


def test_a_step_budget_ends_the_run_inside_an_epoch_and_sets_the_rate_of_every_step():
    model, dataset = small_model()
    budget, rates = Budget(steps=6), LearningRates()
    model.fit(dataset, epochs=9, callbacks=[SpendBudget(budget, 0.5, lambda progress: 1 - progress), rates], verbose=0)
    assert budget.steps_done == 6
    np.testing.assert_allclose(rates.values, 0.5 * (1 - np.arange(6) / 6), rtol=1e-6)


def test_a_time_budget_that_is_used_up_ends_the_run_at_once():
    model, dataset = small_model()
    budget = Budget(minutes=1, seconds_before=60)
    model.fit(dataset, epochs=9, callbacks=[SpendBudget(budget, 0.5, cosine_decay)], verbose=0)
    assert budget.steps_done == 1


def test_the_budget_used_up_first_counts():
    assert Budget(steps=10, minutes=1, steps_done=3, seconds_before=30).progress == pytest.approx(0.5, abs=0.01)


def test_the_time_left_is_that_of_the_remaining_steps_without_the_first_which_traces(monkeypatch):
    clock = Clock(monkeypatch)
    budget = Budget(steps=10)
    assert budget.seconds_left is None
    clock.now += 100
    budget.count_step()
    assert budget.seconds_left is None
    for _ in range(3):
        clock.now += 2
        budget.count_step()
    assert budget.seconds_left == pytest.approx(2 * 6)


def test_the_time_left_is_that_of_the_budget_which_is_used_up_first(monkeypatch):
    clock = Clock(monkeypatch)
    budget = Budget(steps=1000, minutes=3, steps_done=500, seconds_before=60)
    clock.now += 30
    budget.count_step()
    assert budget.seconds_left == pytest.approx(90)
    clock.now += 1
    budget.count_step()
    assert budget.seconds_left == pytest.approx(89)
    for _ in range(490):
        budget.count_step()
    assert budget.seconds_left == pytest.approx(8 / 491)
    clock.now += 100
    assert budget.seconds_left == 0


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


def test_max_minutes_stops_any_keras_model():
    model, dataset = small_model()
    history = model.fit(dataset, epochs=9, callbacks=[MaxMinutes(1e-9)], verbose=0)
    assert len(history.epoch) == 1


@pytest.mark.parametrize("minutes", [0, -1, float("nan")])
def test_max_minutes_must_be_positive(minutes):
    with pytest.raises(ValueError, match="minutes must be (positive|a finite number). Received"):
        MaxMinutes(minutes)
