"""RoI pooling against Model Garden's."""

from collections.abc import Callable

from benchmarks.agreement import check_agreement
from benchmarks.cases import BOTH, FORWARD
from benchmarks.cpu import roi_functions as functions
from benchmarks.cpu.roi_functions import MODEL_GARDEN, MODULATED, ONE_SAMPLE, ROI_ALIGN, RoIData
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import Sizes
from benchmarks.report import times_table
from benchmarks.results import Goal, Group, speed_goal
from benchmarks.timing import measure, stopwatch

LEAST_SPEED_UP = 3.0

_OURS = (ROI_ALIGN, MODULATED, ONE_SAMPLE)
_WORKS = {FORWARD: functions.forward, BOTH: functions.forward_backward}
# Positions, hundreds of pixels large, are rounded differently, and maps of noise are steep.
_TOLERANCE = 1e-3
# The composite implementation keeps all samples, of which 1000 RoIs have a gigabyte.
_CHECKED_ROIS = 50


def run(sizes: Sizes, *, threads: int, repetitions: int, log: Callable[[str, str], None]) -> Section:
    """Checks that the contenders agree, measures them, and judges the goals.

    Args:
        sizes: `sizes.roi` is what is measured.
        threads: TensorFlow has been told already.
        repetitions: rounds.
        log: told what is going on.

    Raises:
        Disagreement: a contender computes something else.
    """
    case = sizes.roi
    log("roi", f"{case}, image {case.image_size[0]} x {case.image_size[1]}")
    data = functions.make_data(case)
    _check_against_composite(functions.first(data, _CHECKED_ROIS))
    absent = {}
    try:
        _check_against_model_garden(data)
    except ImportError:
        absent[MODEL_GARDEN] = "not installed"
    groups = []
    for work, make in _WORKS.items():
        runs = {name: make(name, data) for name in (*_OURS, MODEL_GARDEN) if name not in absent}
        series = measure({name: stopwatch(run_) for name, run_ in runs.items()}, repetitions)
        groups.append(Group(work, str(case), series, absent))
    table = times_table(f"RoI pooling, {case}, 7 x 7 bins, float32", groups, columns=list(_WORKS))
    return Section("roi", groups, goals(groups), [table])


def goals(groups: list[Group]) -> list[Goal]:
    """How much faster than Model Garden's pooling ours should be, also with four times its samples."""
    return [
        goal
        for group in groups
        for ours in (ROI_ALIGN, MODULATED)
        for goal in speed_goal(
            f"RoI pooling {group.work}: speed relative to {MODEL_GARDEN}",
            *(ours, group, ours, MODEL_GARDEN, LEAST_SPEED_UP),
        )
    ]


def _check_against_composite(data: RoIData) -> None:
    for name in _OURS:
        expected = functions.composite(name, data)()
        check_agreement(name, "composite", "RoI pooling", functions.forward(name, data)(), expected, _TOLERANCE)


def _check_against_model_garden(data: RoIData) -> None:
    """One sample a bin at its positions gives its values and its gradients."""
    moved = functions.at_model_gardens_positions(data)
    for work, make in _WORKS.items():
        expected = make(MODEL_GARDEN, data)()
        outputs = make(ONE_SAMPLE, moved)()
        check_agreement(MODEL_GARDEN, ONE_SAMPLE, f"RoI pooling {work}", expected, outputs, _TOLERANCE)
