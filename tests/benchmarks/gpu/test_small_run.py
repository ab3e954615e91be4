"""The small run of every kernel, with checks that compute nothing."""

import os
import time

import pytest

pytest.importorskip("torch", reason="the GPU benchmark runs in PyTorch")

from benchmarks.gpu import library  # noqa: E402
from benchmarks.gpu.small_run import Check, planned_checks, run_in_processes  # noqa: E402


def fails(kernels, device):
    raise library.KernelError("conv_forward: invalid configuration argument")


def run(checks):
    reported = []
    run_in_processes(checks, lambda first: (check.result(None, "cpu") for check in checks[first:]), reported.append)
    return reported


def test_values_are_right_within_their_tolerance():
    assert run([Check("a", lambda kernels, device: 1e-5, 1e-4), Check("b", lambda kernels, device: 1e-3, 1e-4)]) == [
        (True, "right a: error 1.0e-05"),
        (False, "WRONG b: error 1.0e-03"),
    ]


def test_not_a_number_is_wrong():
    assert run(
        [Check("a", lambda kernels, device: float("inf"), 1.0), Check("b", lambda kernels, device: float("nan"), 1.0)]
    ) == [
        (False, "WRONG a: error inf"),
        (False, "WRONG b: error nan"),
    ]


def test_a_launch_that_fails_is_named():
    assert run([Check("a", fails, 1.0)]) == [(False, "WRONG a: conv_forward: invalid configuration argument")]


def test_a_check_that_ends_its_process_is_named_and_the_rest_runs():
    right = Check("a", lambda kernels, device: 0.0, 1.0)
    deadly = Check("b", lambda kernels, device: os.abort(), 1.0)
    assert run([right, deadly, deadly, right]) == [
        (True, "right a: error 0.0e+00"),
        *[(False, "WRONG b: ended by SIGABRT")] * 2,
        (True, "right a: error 0.0e+00"),
    ]


def test_results_are_reported_while_the_rest_runs():
    slow = Check("a", lambda kernels, device: time.sleep(0.5) or 0.0, 1.0)
    times = []
    run_in_processes(
        [slow] * 3, lambda first: (slow.result(None, "cpu") for _ in range(3)), lambda _: times.append(time.monotonic())
    )
    assert time.monotonic() - times[0] > 0.8


def test_every_operator_and_gradient_is_checked_in_every_precision():
    names = {check.name for check in planned_checks()}
    assert len(names) == len(planned_checks())
    for part in ("kernel gradient", "offset and mask gradients", "depthwise", "modulated pooling, backward", "TF32"):
        assert any(part in name and not name.endswith("deterministic") for name in names), part
        assert any(part in name and name.endswith("deterministic") for name in names), part
