"""Deformable convolution against dense convolution, against itself in plain TensorFlow and against other engines."""

from collections.abc import Callable, Mapping

from benchmarks.cases import BFLOAT16, BOTH, FLOAT16, FORWARD, ConvCase, Precision
from benchmarks.cpu import conv_functions as functions
from benchmarks.cpu.conv_checks import WORKS, check_deformable, check_undeformed
from benchmarks.cpu.conv_functions import COMPOSITE, DENSE, MATMUL, NATIVE, ConvData, Run
from benchmarks.cpu.peers import ONNXRUNTIME, OPENVINO, Unavailable, peer
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import Sizes
from benchmarks.report import times_table
from benchmarks.results import Goal, Group, time_goal
from benchmarks.timing import Series, measure, stopwatch

MOST_FORWARD_TO_DENSE = 1.15
MOST_BOTH_TO_DENSE = 1.5

# TensorFlow's float16 gradient of a dense convolution takes seconds on CPUs: there is nothing to compare with.
_HALF_WORKS = {BFLOAT16: (FORWARD, BOTH), FLOAT16: (FORWARD,)}


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
    for precision in _HALF_WORKS:
        for case in sizes.conv:
            log("conv", f"{case}, {precision}")
            half += _half_groups(case, precision, repetitions)
    tables = [
        times_table("Deformable convolution forward, float32", forward),
        times_table("Deformable convolution forward + backward, float32", both),
    ]
    for work in dict.fromkeys(group.work for group in half):
        tables.append(times_table(f"Deformable convolution {work}", [group for group in half if group.work == work]))
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
    deformable = {name: functions.forward(name, data) for name in (NATIVE, COMPOSITE)}
    absent = {}
    for name in (ONNXRUNTIME, OPENVINO):
        try:
            deformable[name] = peer(name, data, threads)
        except Unavailable as reason:
            absent[name] = str(reason)
    check_deformable(FORWARD, case, deformable)
    check_undeformed(FORWARD, case, data)
    plain = {name: functions.forward(name, data) for name in (DENSE, MATMUL)}
    return Group(FORWARD, str(case), _measure({**deformable, **plain}, repetitions), absent)


def _both_group(case: ConvCase, data: ConvData, repetitions: int) -> Group:
    runs = {name: functions.forward_backward(name, data) for name in (NATIVE, COMPOSITE, DENSE)}
    check_deformable(BOTH, case, {name: runs[name] for name in (NATIVE, COMPOSITE)})
    check_undeformed(BOTH, case, data)
    return Group(BOTH, str(case), _measure(runs, repetitions))


def _half_groups(case: ConvCase, precision: Precision, repetitions: int) -> list[Group]:
    """Native and dense convolution in 16 bits."""
    data = functions.make_data(case, precision)
    groups = []
    for work in _HALF_WORKS[precision]:
        check_undeformed(work, case, data, precision)
        runs = {name: WORKS[work](name, data) for name in (NATIVE, DENSE)}
        groups.append(Group(f"{work}, {precision}", str(case), _measure(runs, repetitions)))
    return groups


def _measure(runs: Mapping[str, Run], repetitions: int) -> dict[str, Series]:
    return measure({name: stopwatch(run) for name, run in runs.items()}, repetitions)
