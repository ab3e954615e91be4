"""Deformable convolution with many groups, down to one for each channel, against dense convolution with as many."""

from collections.abc import Callable

from benchmarks.cases import BOTH, FORWARD, ConvCase
from benchmarks.cpu import conv_functions as functions
from benchmarks.cpu.conv_checks import WORKS, check_undeformed
from benchmarks.cpu.conv_functions import DENSE, NATIVE
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import Sizes
from benchmarks.report import times_table
from benchmarks.results import Goal, Group, time_goal
from benchmarks.timing import measure, stopwatch

MOST_TO_DENSE = 1.5


def run(sizes: Sizes, *, threads: int, repetitions: int, log: Callable[[str, str], None]) -> Section:
    """Checks that the contenders agree without deformation, measures them, and judges the goals.

    Args:
        sizes: `sizes.groups` is what is measured.
        threads: TensorFlow has been told already.
        repetitions: rounds.
        log: told what is going on.

    Raises:
        Disagreement: they do not agree.
    """
    groups: dict[str, list[Group]] = {FORWARD: [], BOTH: []}
    for case in sizes.groups:
        log("groups", str(case))
        for work, measured in groups.items():
            measured.append(_group(work, case, repetitions))
    tables = [times_table(f"Deformable convolution with groups, {work}, float32", of) for work, of in groups.items()]
    everything = [*groups[FORWARD], *groups[BOTH]]
    return Section("groups", everything, goals(everything), tables)


def goals(groups: list[Group]) -> list[Goal]:
    """What the native op should reach on every case."""
    return [
        goal
        for group in groups
        for goal in time_goal(
            f"{group.work}: time relative to {DENSE}", group.case, group, NATIVE, DENSE, MOST_TO_DENSE
        )
    ]


def _group(work: str, case: ConvCase, repetitions: int) -> Group:
    data = functions.make_data(case)
    check_undeformed(work, case, data)
    runs = {name: WORKS[work](name, data) for name in (NATIVE, DENSE)}
    return Group(work, str(case), measure({name: stopwatch(run) for name, run in runs.items()}, repetitions))
