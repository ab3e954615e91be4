"""Deformable convolution against dense convolution, against itself in plain TensorFlow and against other engines."""

from collections.abc import Callable, Mapping

from benchmarks.cases import BFLOAT16, BOTH, FLOAT16, FORWARD, ConvCase, Precision
from benchmarks.cpu import conv_functions as functions
from benchmarks.cpu.conv_checks import WORKS, check_deformable, check_undeformed
from benchmarks.cpu.conv_functions import COMPOSITE, DENSE, MATMUL, NATIVE, ConvData, Run
from benchmarks.cpu.machine import has_matrix_units
from benchmarks.cpu.peers import ENGINES, Unavailable, peer
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import Sizes
from benchmarks.report import times_table
from benchmarks.results import Goal, Group, speed_goal, time_goal
from benchmarks.timing import Series, measure, stopwatch

MOST_FORWARD_TO_DENSE = 1.0
MOST_BOTH_TO_DENSE = 1.2
MOST_BFLOAT16_TO_DENSE = {FORWARD: 2.0, BOTH: 2.5}
LEAST_BFLOAT16_SPEED = 2.5  # of its float32; where a processor has units for bfloat16, and not for float32

IN_FLOAT32 = f"{NATIVE}, float32"

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
    return Section("conv", [*forward, *both, *half], [*goals(forward, both), *bfloat16_goals(half)], tables)


def goals(forward: list[Group], both: list[Group]) -> list[Goal]:
    """What the native op should reach on every case in float32."""
    compared = [
        *((forward, engine, 1.0) for engine in ENGINES),
        (forward, DENSE, MOST_FORWARD_TO_DENSE),
        (both, DENSE, MOST_BOTH_TO_DENSE),
    ]
    return [
        goal
        for groups, other, most in compared
        for group in groups
        for goal in time_goal(f"{group.work}: time relative to {other}", group.case, group, NATIVE, other, most)
    ]


def bfloat16_goals(half: list[Group]) -> list[Goal]:
    """What it should reach in bfloat16, among groups of all types of 16 bits."""
    found = []
    for group in half:
        for work, most in MOST_BFLOAT16_TO_DENSE.items():
            if group.work == f"{work}, {BFLOAT16}":
                found += time_goal(f"{group.work}: time relative to {DENSE}", group.case, group, NATIVE, DENSE, most)
        subject = f"{group.work}: speed relative to float32"
        found += speed_goal(subject, group.case, group, NATIVE, IN_FLOAT32, LEAST_BFLOAT16_SPEED)
    return found


def _forward_group(case: ConvCase, data: ConvData, threads: int, repetitions: int) -> Group:
    deformable = {name: functions.forward(name, data) for name in (NATIVE, COMPOSITE)}
    absent = {}
    for name in ENGINES:
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
        if (work, precision) == (FORWARD, BFLOAT16) and has_matrix_units():
            runs[IN_FLOAT32] = WORKS[work](NATIVE, functions.make_data(case))
        groups.append(Group(f"{work}, {precision}", str(case), _measure(runs, repetitions)))
    return groups


def _measure(runs: Mapping[str, Run], repetitions: int) -> dict[str, Series]:
    return measure({name: stopwatch(run) for name, run in runs.items()}, repetitions)
