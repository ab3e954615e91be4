"""Training on several devices and in several processes, which are started as a user would start them."""

import csv
import json
import os
import signal
import time

import keras
import numpy as np
import pytest

from tests.support.sizes import TINY
from tests.support.worker_processes import start, start_together
from tf_dcnv2.data import load_records
from tf_dcnv2.training import RunFolder, RunState, TrainOptions, strategies, train
from tf_dcnv2.training.agreement import Agreement, require_same_state
from tf_dcnv2.training.stop_requests import StopRequests
from tf_dcnv2.training.strategies import require_workers

MASK_HEAD = {"mask_head.convolutions": 1, "mask_head.channels": 8, "mask_head.pool_size": 7}

# Sums of float32 numbers in another order, over a few steps of SGD.
TOLERANCE = 1e-4


def words(records, folder, preset="faster_rcnn_small_dcnv2", **options) -> list[str]:
    """A command that mimics, clips, averages weights, and has batch normalisation that learns."""
    settings = {**TINY, **(MASK_HEAD if preset.startswith("mask") else {})}
    options = {
        "steps": 3,
        "batch_size": 4,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "warmup_steps": 0,
        "clip_norm": 1,
        "ema": 0.9,
        "short_side": 64,
        "max_side": 96,
        "seed": 0,
        **options,
    }
    given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    changed = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ["train", "--preset", preset, "--train", records, "--output", str(folder), *given, *changed]


def ended(processes, within: float) -> list[int]:
    """The exit codes of processes, which have to end by themselves."""
    until = time.monotonic() + within
    try:
        for process in processes:
            process.join(max(0.0, until - time.monotonic()))
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()


def assert_same_run(run, other):
    """Same losses, and same weights relative to the largest of each variable."""
    rows = [list(csv.DictReader((folder / "log.csv").open())) for folder in (run, other)]
    for row, expected in zip(*rows, strict=True):
        for name, value in expected.items():
            assert float(row[name]) == pytest.approx(float(value), rel=TOLERANCE, abs=1e-6, nan_ok=True), name
    detectors = [keras.saving.load_model(folder / "last.keras", compile=False) for folder in (run, other)]
    for weight, expected in zip(*(detector.get_weights() for detector in detectors), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max() + 1e-7)


def test_two_processes_reach_the_losses_and_weights_of_one(synthetic_records, tmp_path):
    one = start(words(synthetic_records, tmp_path / "one", steps=2), tmp_path / "one.txt")
    outputs = [tmp_path / "chief.txt", tmp_path / "worker.txt"]
    together = words(synthetic_records, tmp_path / "two", steps=2, strategy="multiworker")
    assert ended([one, *start_together(together, outputs)], within=300) == [0, 0, 0], outputs[0].read_text()
    assert_same_run(tmp_path / "two", tmp_path / "one")
    assert "2 devices in 2 processes" in outputs[0].read_text()
    assert "number 2 of 2" in outputs[1].read_text()
    assert "epoch" not in outputs[1].read_text()


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["faster_rcnn_small_dcnv2", "mask_rcnn_small_dcnv2"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_all_strategies_reach_the_same_run_as_graphs(preset, accumulate, synthetic_records, tmp_path):
    """With evaluations, whose detections are shared. In parts, batch normalisation would see other statistics."""
    options = {"preset": preset, "val": synthetic_records, "evaluate_every": 1, "batch_size": 8, "steps": 4}
    # At a higher rate rounding soon decides which of two proposals of nearly the same score is sampled, and runs part.
    options["learning_rate"] = 0.002
    options |= {"accumulate": accumulate, "set": "backbone.norm=group" if accumulate > 1 else "backbone.norm=batch"}
    arguments = {"eager": False}
    one = start(words(synthetic_records, tmp_path / "one", **options), tmp_path / "one.txt", **arguments)
    assert ended([one], within=600) == [0]
    options["strategy"] = "mirrored"
    mirrored = words(synthetic_records, tmp_path / "mirrored", **options)
    assert ended([start(mirrored, tmp_path / "mirrored.txt", cpus=2, **arguments)], within=600) == [0]
    options["strategy"] = "multiworker"
    two = words(synthetic_records, tmp_path / "two", **options)
    assert ended(start_together(two, [tmp_path / "0.txt", tmp_path / "1.txt"], **arguments), within=600) == [0, 0]
    assert_same_run(tmp_path / "mirrored", tmp_path / "one")
    assert_same_run(tmp_path / "two", tmp_path / "one")


def wait_for(run: RunFolder, steps: int, within: float = 300) -> None:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if (state := run.backups.load_state()) and state.steps >= steps:
            return
        time.sleep(0.05)
    pytest.fail(f"{run} has no backup of step {steps}")


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1], ids=["chief", "worker"])
def test_a_process_that_dies_ends_the_others_within_a_minute_and_the_run_goes_on(victim, synthetic_records, tmp_path):
    options = {"strategy": "multiworker", "steps": 40, "checkpoint_steps": 1}
    run = RunFolder(tmp_path / "run")
    outputs = [tmp_path / "0.txt", tmp_path / "1.txt"]
    processes = start_together(words(synthetic_records, run, **options), outputs)
    wait_for(run, 3)
    os.kill(processes[victim].pid, signal.SIGKILL)
    codes = ended(processes, within=60)
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] not in (0, None)
    resumed = start_together(["train", "--resume", "--output", str(run)], outputs)
    assert ended(resumed, within=300) == [0, 0]
    assert run.backups.load_state().steps == 40


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1], ids=["chief", "worker"])
def test_a_signal_to_one_process_stops_all_after_the_same_step_and_they_go_on_alike(asked, synthetic_records, tmp_path):
    options = {"strategy": "multiworker", "steps": 12, "checkpoint_steps": 1}
    run, whole = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "whole")
    outputs = [tmp_path / "0.txt", tmp_path / "1.txt"]
    processes = start_together(words(synthetic_records, run, **options), outputs)
    wait_for(run, 3)
    os.kill(processes[asked].pid, signal.SIGTERM)
    assert ended(processes, within=60) == [0, 0]
    stopped = [next(line for line in path.read_text().splitlines() if "stopped" in line) for path in outputs]
    assert stopped[0] == stopped[1]
    assert ended(start_together(["train", "--resume", "--output", str(run)], outputs), within=300) == [0, 0]
    assert ended(start_together(words(synthetic_records, whole, **options), outputs), within=300) == [0, 0]
    assert_same_run(run.path, whole.path)


def test_shares_of_a_batch_are_together_the_batch_in_its_order(synthetic_records):
    arguments = {"batch_size": 4, "training": True, "seed": 3, "repeat": True, "start_step": 1, "color_jitter": 0.2}
    whole = load_records(synthetic_records, **arguments).take(3)
    shares = [load_records(synthetic_records, share=(index, 2), **arguments).take(3) for index in range(2)]
    for (_, targets), *parts in zip(whole, *shares, strict=True):
        for name in ("image_ids", "seeds", "boxes"):
            together = np.concatenate([of_part[name] for _, of_part in parts])
            np.testing.assert_array_equal(together, targets[name])


@pytest.mark.parametrize("share", [(2, 2), (0, 3)])
def test_a_share_that_is_none_of_a_batch_is_refused(share, synthetic_records):
    with pytest.raises(ValueError, match="share must be a part of batch_size=4"):
        load_records(synthetic_records, batch_size=4, training=True, share=share)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        json.dumps({"cluster": {"worker": ["a:1"]}}),
        json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}),
        json.dumps({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "worker", "index": 0}}),
    ],
)
def test_processes_that_are_not_described_are_refused_with_an_example(text):
    with pytest.raises(ValueError, match='needs the environment variable TF_CONFIG .* "index": 0'):
        require_workers(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 4}, "a multiple of the 3 devices, .*batch_size=4"),
        ({"batch_size": 3, "accumulate": 2}, "images for each in accumulate=2 parts. Received: batch_size=3"),
        ({"batch_size": 3, "precision": "mixed_float16"}, "trains on one device.*'mirrored' with 3 devices"),
    ],
    ids=str,
)
def test_what_several_devices_cannot_do_is_refused_before_anything_is_written(
    options, message, synthetic_records, tmp_path, monkeypatch
):
    class Three:
        num_replicas_in_sync = 3

    monkeypatch.setitem(strategies._STRATEGIES, "mirrored", Three)
    given = {"preset": "faster_rcnn_small_dcnv1", "train": synthetic_records, "output": str(tmp_path / "run")}
    with pytest.raises(ValueError, match=message):
        train(TrainOptions(**given, **options, strategy="mirrored"))
    assert not (tmp_path / "run").exists()


class Worker:
    """One of two processes; the other, the chief, adds what it is told to."""

    workers, is_chief = 2, False

    def __init__(self, *of_chief):
        self._of_chief = iter(of_chief)

    def sum(self, values):
        return np.add(values, next(self._of_chief))


def test_a_process_follows_the_chiefs_clock_and_every_processs_signals():
    own = StopRequests()
    agreement = Agreement(Worker([7.0, 0, 0], [9.0, 0, 0], [11.0, 1, 0]), own)
    assert agreement.clock() == 0.0
    agreement.on_train_batch_end(0)
    assert (agreement.clock(), agreement.stop.received) == (7.0, None)
    own.received = "SIGTERM"  # between two steps, of which the other process knows nothing yet
    assert agreement.stop.received is None
    agreement.on_train_batch_end(1)
    assert (agreement.clock(), agreement.stop.received) == (9.0, "SIGTERM")
    own.received = None
    agreement.on_train_batch_end(2)
    assert (agreement.clock(), agreement.stop.received) == (11.0, "SIGINT")


def test_processes_that_see_different_folders_are_refused(tmp_path):
    class Two:
        def from_each(self, value):
            return [20.0, value]

    with pytest.raises(ValueError, match="holds a run after 20, 0 steps"):
        require_same_state(RunFolder(tmp_path), RunState(), Two())
