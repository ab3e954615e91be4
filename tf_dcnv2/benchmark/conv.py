"""Deformable convolution against dense convolution, against itself in plain TensorFlow and against other engines."""

import dataclasses
from collections.abc import Callable, Mapping

from tf_dcnv2.benchmark import conv_functions as functions
from tf_dcnv2.benchmark.agreement import check_agreement
from tf_dcnv2.benchmark.conv_case import ConvCase
from tf_dcnv2.benchmark.conv_functions import COMPOSITE, DENSE, MATMUL, NATIVE, ConvData, Run
from tf_dcnv2.benchmark.peers import ONNXRUNTIME, OPENVINO, Unavailable, peer
from tf_dcnv2.benchmark.results import Goal, Group, Section, time_goal, times_table
from tf_dcnv2.benchmark.sizes import Sizes
from tf_dcnv2.benchmark.timing import measure, stopwatch

FORWARD = "forward"
BOTH = "forward + backward"
MOST_FORWARD_TO_DENSE = 1.15
MOST_BOTH_TO_DENSE = 1.5

# float32 sums of thousands of terms in different orders; in the other types one rounding of the result.
_TOLERANCES = {"float32": 1e-4, "float16": 2e-3, "bfloat16": 1.6e-2}
_HALF_TYPES = ("bfloat16", "float16")
# TensorFlow's float16 gradient of a dense convolution takes seconds on CPUs: there is nothing to compare with.
_HALF_TYPES_WITH_GRADIENT = ("bfloat16",)


def run(sizes: Sizes, *, threads: int, repetitions: int, log: Callable[[str, str], None]) -> Section:
    """Checks that the contenders agree, measures them, and judges the goals.

    Args:
        sizes: `sizes.conv` is what is measured.
        threads: of the other engines; TensorFlow has been told already.
        repetitions: rounds.
        log: told what is going on.

    Raises:
        Disagreement: a contender computes something else.
    """
    forward, both, half = [], [], []
    for case in sizes.conv:
        log("conv", f"{case}, float32")
        data = functions.make_data(case)
        forward.append(_forward_group(case, data, threads, repetitions))
        both.append(_both_group(case, data, repetitions))
    for dtype in _HALF_TYPES:
        for case in sizes.conv:
            log("conv", f"{case}, {dtype}")
            half += _half_groups(dataclasses.replace(case, dtype=dtype), repetitions)
    works = dict.fromkeys(group.work for group in half)
    tables = [
        times_table("Deformable convolution forward, float32", forward),
        times_table("Deformable convolution forward + backward, float32", both),
        *(times_table(f"Deformable convolution {work}", [g for g in half if g.work == work]) for work in works),
    ]
    return Section("conv", [*forward, *both, *half], goals(forward, both), tables)


def goals(forward: list[Group], both: list[Group]) -> list[Goal]:
    """What the native op should reach on every case."""
    compared = [
        (forward, ONNXRUNTIME, 1.0),
        (forward, OPENVINO, 1.0),
        (forward, DENSE, MOST_FORWARD_TO_DENSE),
        (both, DENSE, MOST_BOTH_TO_DENSE),
    ]
    return [
        goal
        for groups, other, most in compared
        for group in groups
        for goal in time_goal(f"{group.work}: time relative to {other}", group.case, group, NATIVE, other, most)
    ]


def _forward_group(case: ConvCase, data: ConvData, threads: int, repetitions: int) -> Group:
    runs = {name: functions.forward(name, data) for name in (NATIVE, DENSE, MATMUL, COMPOSITE)}
    absent = {}
    for name in (ONNXRUNTIME, OPENVINO):
        try:
            runs[name] = peer(name, data, threads)
        except Unavailable as reason:
            absent[name] = str(reason)
    work = f"{FORWARD}, {case}, {case.dtype}"
    _check_deformable({name: run for name, run in runs.items() if name not in (DENSE, MATMUL)}, work, case)
    plain = {name: functions.forward(name, functions.undeformed(data)) for name in (NATIVE, DENSE, MATMUL)}
    _check_dense(plain, work, case)
    return Group(FORWARD, str(case), _measure(runs, repetitions), absent)


def _both_group(case: ConvCase, data: ConvData, repetitions: int) -> Group:
    runs = {name: functions.forward_backward(name, data) for name in (NATIVE, DENSE, COMPOSITE)}
    work = f"{BOTH}, {case}, {case.dtype}"
    _check_deformable({name: runs[name] for name in (NATIVE, COMPOSITE)}, work, case)
    plain = {name: functions.forward_backward(name, functions.undeformed(data)) for name in (NATIVE, DENSE)}
    _check_dense(plain, work, case)
    return Group(BOTH, str(case), _measure(runs, repetitions))


def _half_groups(case: ConvCase, repetitions: int) -> list[Group]:
    """Native and dense convolution in the type of the case."""
    data = functions.make_data(case)
    works = {FORWARD: functions.forward}
    if case.dtype in _HALF_TYPES_WITH_GRADIENT:
        works[BOTH] = functions.forward_backward
    groups = []
    for work, make in works.items():
        plain = {name: make(name, functions.undeformed(data)) for name in (NATIVE, DENSE)}
        _check_dense(plain, f"{work}, {case}, {case.dtype}", case)
        runs = {name: make(name, data) for name in (NATIVE, DENSE)}
        groups.append(Group(f"{work}, {case.dtype}", str(case), _measure(runs, repetitions)))
    return groups


def _check_deformable(runs: Mapping[str, Run], work: str, case: ConvCase) -> None:
    """All give what the composite implementation gives, which is made of TensorFlow's own ops."""
    expected = runs[COMPOSITE]()
    for name, run_ in runs.items():
        check_agreement(name, COMPOSITE, work, run_(), expected, _TOLERANCES[case.dtype])


def _check_dense(runs: Mapping[str, Run], work: str, case: ConvCase) -> None:
    """Without deformation all give what the dense convolution gives: the output and the gradients that it has."""
    expected = runs[DENSE]()
    for name, run_ in runs.items():
        outputs = run_()[: len(expected)]
        check_agreement(name, DENSE, f"undeformed {work}", outputs, expected, _TOLERANCES[case.dtype])


def _measure(runs: Mapping[str, Run], repetitions: int):
    return measure({name: stopwatch(run_) for name, run_ in runs.items()}, repetitions)
