"""Calls with wrong arguments, by the hundred: each is refused by the argument's name, and none breaks the process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d, deform_roi_pool

RUN = Path(__file__).parent / "bad_calls" / "run.py"


def make_bad_calls(first, count, seed, log, seconds):
    """Makes the calls in another process, which they may break, and returns how they ended."""
    command = [sys.executable, str(RUN), *map(str, (first, count, seed))]
    environment = dict(os.environ, BAD_CALL=str(log), CUDA_VISIBLE_DEVICES="")
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        pytest.fail(f"after {seconds} s still at {log.read_text()}")
    last_call = log.read_text() if log.exists() else "its start"
    assert done.returncode == 0, f"exit status {done.returncode} at {last_call}\n{done.stderr[-2000:]}"
    report = json.loads(done.stdout.splitlines()[-1])
    assert sum(report["endings"].values()) == count
    assert not report["complaints"], "\n".join(report["complaints"])
    return report["endings"]


def test_five_hundred_bad_calls_are_refused_by_name(native_ops, tmp_path):
    endings = make_bad_calls(0, 500, 0, tmp_path / "call", seconds=300)
    # Most are wrong indeed; some happen to be right.
    assert endings["ValueError"] > 200
    assert 10 < endings["valid"] < 150


@pytest.mark.slow
def test_ten_thousand_bad_calls_are_refused_by_name(native_ops, tmp_path):
    make_bad_calls(0, 10_000, 1, tmp_path / "call", seconds=3000)


def convolve(**changes):
    arguments = {"x": np.zeros((1, 3, 3, 2), np.float32), "kernel": np.zeros((3, 3, 2, 4), np.float32)}
    return deform_conv2d(**{**arguments, "offset": np.zeros((1, 3, 3, 18), np.float32), **changes})


def pool(**changes):
    arguments = {"features": np.zeros((1, 3, 3, 2), np.float32), "boxes": [[0.0, 0.0, 2.0, 2.0]], "box_indices": [0]}
    return deform_roi_pool(**{**arguments, "spatial_scale": 1.0, **changes})


@pytest.mark.parametrize(
    "call, changes, message",
    [
        (convolve, {"x": None}, "x must be a tensor or an array. Received: a NoneType"),
        (convolve, {"kernel": "weights"}, "kernel must be a tensor or an array of float32. Received: a str"),
        (convolve, {"offset": [[1.0], [2.0, 3.0]]}, "offset must be a tensor or an array. Received: a list"),
        (convolve, {"mask": tf.sparse.eye(3)}, "mask must be a tensor or an array. Received: a SparseTensor"),
        (pool, {"features": {0: np.zeros((1, 3, 3, 2))}}, "features must be a tensor or an array. Received: a dict"),
        (pool, {"box_indices": None}, "box_indices must be a tensor or an array"),
        (
            pool,
            {"boxes": np.zeros((1, 3)), "features": [np.zeros((1, 3, 3, 2))]},
            r"boxes must have the shape \(N, 4\)",
        ),
        (pool, {"gamma": "3"}, "gamma must be a finite number. Received: gamma='3'"),
        (pool, {"gamma": True}, "gamma must be a finite number"),
        (pool, {"spatial_scale": "0.25"}, "spatial_scale must be a positive number"),
        (pool, {"sampling_ratio": 2**40}, "sampling_ratio must be an integer from 0 to 128"),
    ],
)
def test_what_is_no_such_argument_at_all_is_refused_by_name(call, changes, message):
    with pytest.raises(ValueError, match=message):
        call(**changes)


@pytest.mark.cpu_only
@pytest.mark.parametrize("index", [2**32, -(2**32), 2**63 - 1])
def test_indices_beyond_32_bits_are_not_mistaken_for_others(implementation, index):
    with pytest.raises(tf.errors.InvalidArgumentError, match="box_indices"):
        pool(box_indices=np.array([index]), implementation=implementation)


def test_wrong_channels_of_the_kernel_are_refused_at_run_time(implementation):
    graph = tf.function(
        lambda kernel: convolve(kernel=kernel, implementation=implementation), input_signature=[tf.TensorSpec(None)]
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="input channel"):
        graph(np.zeros((3, 3, 0, 4), np.float32))


def test_filters_that_the_groups_do_not_divide_are_refused_at_run_time(implementation):
    """Of a depthwise kernel, whose groups are as many as the channels: 4, of which 6 filters are no multiple."""
    graph = tf.function(
        lambda *tensors: deform_conv2d(*tensors, implementation=implementation),
        input_signature=[tf.TensorSpec(None)] * 3,
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="output channels"):
        graph(tf.zeros([1, 3, 3, 4]), tf.zeros([3, 3, 1, 6]), tf.zeros([1, 3, 3, 18]))


def test_wrong_deformable_groups_cost_no_memory(implementation):
    # A constant of this size was made, and folded, before the check ran.
    @tf.function(input_signature=[tf.TensorSpec(None)] * 3)
    def graph(x, kernel, offset):
        return deform_conv2d(x, kernel, offset, deformable_groups=2**31 - 1, implementation=implementation)

    with pytest.raises(tf.errors.InvalidArgumentError, match="deformable_groups|offset"):
        graph(tf.zeros([1, 3, 3, 2]), tf.zeros([3, 3, 2, 4]), tf.zeros([1, 3, 3, 18]))


def test_output_sizes_that_differ_are_refused_with_what_they_follow_from(native_ops):
    graph = tf.function(
        lambda offset: convolve(offset=offset, strides=2, padding=1, implementation="native"),
        input_signature=[tf.TensorSpec(None)],
    )
    message = (
        r"offset has size 3 on axis 1, expected 2.*x.shape=\[1,3,3,2\], kernel.shape=\[3,3,2,4\], strides=\[2, 2\]"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        graph(np.zeros((1, 3, 3, 18), np.float32))
