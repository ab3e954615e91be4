"""Runs that stop inside an epoch and go on as if they had not: the same images, weights, evaluations and log."""

import functools
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.config import disable_op_determinism

from tests.support.sizes import TINY
from tf_dcnv2.training import RunFolder, TrainingStopped, TrainOptions, finished_state, train


def options_of(records, folder, **changes) -> TrainOptions:
    """Epochs of four steps."""
    defaults = {
        "preset": "faster_rcnn_small_dcnv2",
        "train": records,
        "output": str(folder),
        "overrides": TINY,
        "optimizer": "sgd",
        "batch_size": 2,
        "short_side": 64,
        "max_side": 96,
        "warmup_steps": 3,
        "schedule": "cosine",
        "ema": 0.9,
        "steps": 8,
        "color_jitter": 0.2,
        "seed": 3,
        "deterministic": True,
        "pictures": 0,
        "tensorboard": False,
    }
    return TrainOptions(**{**defaults, **changes})


@pytest.fixture
def options(synthetic_records, tmp_path, eagerly):
    yield lambda name, **changes: options_of(synthetic_records, tmp_path / name, **changes)
    disable_op_determinism()


@pytest.fixture(scope="module")
def whole_runs(synthetic_records, tmp_path_factory):
    """`whole_runs()` makes the run of eight steps that nothing ends before, once for graphs and once eagerly."""

    @functools.cache
    def make(is_eager: bool) -> TrainOptions:
        whole = options_of(synthetic_records, tmp_path_factory.mktemp("whole") / "run")
        train(whole)
        return whole

    return lambda: make(tf.config.functions_run_eagerly())


class Killed(BaseException):
    """Ends a process without the courtesies that an exception gets."""


class KillAfter(keras.callbacks.Callback):
    def __init__(self, steps):
        super().__init__()
        self._left = steps

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            raise Killed


class SignalIn(keras.callbacks.Callback):
    def __init__(self, step, number):
        super().__init__()
        self._left, self._number = step, number

    def on_train_batch_begin(self, batch, logs=None):
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)


def weights_of(options):
    return keras.saving.load_model(RunFolder(options.output).last, compile=False).get_weights()


def assert_same_run(options, others):
    for weight, other in zip(weights_of(options), weights_of(others), strict=True):
        np.testing.assert_array_equal(weight, other)
    logs = [(RunFolder(one.output).path / "log.csv").read_text() for one in (options, others)]
    assert logs[0] == logs[1]


def test_a_run_that_is_killed_inside_epochs_ends_with_the_same_weights_and_log(options, whole_runs):
    """Epochs of four steps, checkpoints after every second one, kills after steps 3 (so 2), 5 (so 4) and 7 (so 6)."""
    killed = options("killed", checkpoint_steps=2, resume=True)
    for kept in ((2, 0), (4, 1), (6, 1)):
        with pytest.raises(Killed):
            train(killed, callbacks=[KillAfter(3)])
        state = RunFolder(killed.output).backups.load_state()
        assert (state.steps, state.epochs) == kept
    assert train(killed).steps == 8
    assert_same_run(whole_runs(), killed)


def test_signals_end_a_run_after_its_step_and_keep_it(options, whole_runs):
    stopped = options("stopped", resume=True)
    for number, steps in ((signal.SIGINT, 3), (signal.SIGTERM, 5)):
        done, lines = RunFolder(stopped.output).backups.load_state(), []
        signal_in = SignalIn(steps - (done.steps if done else 0), number)
        with pytest.raises(TrainingStopped, match=f"{number.name} has ended the run after {steps} steps"):
            train(stopped, log=lambda *line, lines=lines: lines.append(line), callbacks=[signal_in])
        assert ("stopping", f"{number.name}: the run is saved after this step. Once more ends it at once.") in lines
        assert RunFolder(stopped.output).backups.load_state().steps == steps
    assert train(stopped).steps == 8
    assert_same_run(whole_runs(), stopped)


def test_a_run_without_a_seed_draws_one_and_keeps_it(options):
    first = options("run", steps=2, batch_size=8, seed=None, resume=True)
    with pytest.raises(Killed):
        train(first, callbacks=[KillAfter(2)])
    seed = RunFolder(first.output).read_config()["options"]["seed"]
    assert isinstance(seed, int)
    train(first)
    again = options("again", steps=2, batch_size=8, seed=seed)
    train(again)
    assert_same_run(first, again)


class Scores(keras.callbacks.Callback):
    """Stands for an evaluation whose results are known."""

    def __init__(self, name, values):
        super().__init__()
        self._name, self._values = name, iter(values)

    def on_epoch_end(self, epoch, logs=None):
        logs[self._name] = next(self._values)


@pytest.mark.parametrize(("best_by", "name"), [("box", "val_AP"), ("mask", "val_mask_AP")])
def test_a_run_ends_when_evaluations_stop_to_improve(options, monkeypatch, best_by, name):
    import tf_dcnv2.training.run_callbacks as callbacks_module

    scores = Scores(name, [0.1, 0.3, 0.2, 0.3, 0.9])
    monkeypatch.setattr(callbacks_module, "CocoEvaluation", lambda *_: scores)
    changes = {"preset": "faster_rcnn_small_dcnv1"}
    if best_by == "mask":
        head = {"mask_head.convolutions": 1, "mask_head.channels": 8, "mask_head.pool_size": 7}
        changes = {"preset": "mask_rcnn_small_regular", "overrides": {**TINY, **head}}
    patient = options("run", steps=None, epochs=9, patience=2, best_by=best_by, batch_size=8, resume=True, **changes)
    patient = patient.replace(val=patient.train)
    result = train(patient)
    assert result.steps == 4  # of nine epochs
    state = RunFolder(patient.output).backups.load_state()
    assert (state.best_ap, state.best_steps, state.is_finished) == (0.3, 2, True)
    assert finished_state(patient) == state
    assert finished_state(patient.replace(patience=3)) is None


def test_a_finished_run_that_goes_on_writes_checkpoints_inside_epochs_too(options):
    """Epochs of two steps, of which one is made, and a kill inside the next one."""
    train(options("run", steps=2, batch_size=4, seed=1))
    longer = options("run", steps=4, batch_size=4, seed=1, checkpoint_steps=1, resume=True)
    with pytest.raises(Killed):
        train(longer, callbacks=[KillAfter(1)])
    assert RunFolder(longer.output).backups.load_state().steps == 3
    assert train(longer).steps == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"best_by": "mask"}, "best_by='mask' needs a Mask R-CNN. Received: preset='faster_rcnn_small_dcnv2'"),
        ({"patience": 2}, "patience counts evaluations: give val"),
    ],
    ids=str,
)
def test_what_needs_evaluations_that_will_not_be_is_refused(options, changes, message):
    with pytest.raises(ValueError, match=message):
        train(options("run", **changes))
    assert not RunFolder(options("run").output).path.exists()
