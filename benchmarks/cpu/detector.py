"""Whole detectors, deformable and regular, against other libraries': time and memory of Mask R-CNN on one image."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from benchmarks.agreement import Disagreement, check_losses
from benchmarks.cases import FORWARD, STEP
from benchmarks.cpu.detector_process import DETECTIONS, DetectorProcess
from benchmarks.cpu.interpreter import package_versions
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import DetectorCase, Sizes
from benchmarks.report import Table, megabytes, times_table
from benchmarks.results import Goal, Group, speed_goal
from benchmarks.timing import measure

REGULAR = "tf-dcnv2, regular"
MDCONV = "tf-dcnv2, mdconv c3-c5"
FROZEN = "tf-dcnv2, mdconv c3-c5, frozen weights"
MDPOOL = "tf-dcnv2, mdconv c3-c5 + mdpool"
TORCHVISION = "torchvision, regular"

LEAST_SPEED = {TORCHVISION: {FORWARD: 1.8, STEP: 1.75}}

_WORKS = (FORWARD, STEP)
_MOST_DETECTIONS = 100
_FROZEN_WEIGHTS = {"TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1"}
_WITHOUT_DEFORMABLE_POOLING = {"box_head.pooling": "none", "mask_head.pooling": "none"}


class _Contender(NamedTuple):
    """Arguments of a `DetectorProcess`, the packages without which its interpreter cannot run it, and what it does."""

    name: str
    module: str
    settings: Mapping[str, Any]
    python: str = sys.executable
    environment: Mapping[str, str] | None = None
    packages: tuple[str, ...] = ()
    works: tuple[str, ...] = _WORKS


def run(
    sizes: Sizes,
    *,
    threads: int,
    repetitions: int,
    log: Callable[[str, str], None],
    torch_python: str = sys.executable,
) -> Section:
    """Measures forward passes and training steps in processes of their own, and judges the goals.

    Args:
        sizes: `sizes.detector` is what is measured.
        threads: of every contender.
        repetitions: rounds, of which what takes seconds gets fewer.
        log: told what is going on.
        torch_python: the interpreter for contenders that need PyTorch.

    Raises:
        Disagreement: a contender finds too few objects, or a loss is not a number.
        RuntimeError: a process that measures fails.
    """
    case = sizes.detector
    contenders = [*_ours(case), _torchvision(case, torch_python)]
    missing = {contender.name: "not installed" for contender in contenders if not _is_installed(contender)}
    groups, peaks = [], {}
    for work in _WORKS:
        log("detector", f"Mask R-CNN, {case}, {work}")
        absent = missing | {one.name: f"no {work}" for one in contenders if work not in one.works}
        present = [contender for contender in contenders if contender.name not in absent]
        group, peaks[work] = _measure(work, case, present, absent, threads, repetitions)
        groups.append(group)
    tables = [times_table(f"Mask R-CNN, {case}", groups, columns=_WORKS), _memory_table(case, groups, peaks)]
    return Section("detector", groups, goals(groups), tables, {"peak_bytes": peaks})


def goals(groups: Sequence[Group]) -> list[Goal]:
    """How much faster than a regular detector of another library a deformable one of ours should be."""
    return [
        goal
        for group in groups
        for theirs, least in LEAST_SPEED.items()
        for goal in speed_goal(
            f"Mask R-CNN {group.work}: speed relative to {theirs}", MDCONV, group, MDCONV, theirs, least[group.work]
        )
    ]


def _ours(case: DetectorCase) -> list[_Contender]:
    detectors = {
        REGULAR: (case.regular, {}),
        MDCONV: (case.deformable, _WITHOUT_DEFORMABLE_POOLING),
        MDPOOL: (case.deformable, {}),
    }
    contenders = {
        name: _Contender(
            name,
            "benchmarks.cpu.detector_tensorflow",
            {"preset": preset, "overrides": {**case.overrides, **overrides}, "image_size": case.image_size},
        )
        for name, (preset, overrides) in detectors.items()
    }
    # TensorFlow then lays kernels out for oneDNN once, which suits servers: training would go on with the first ones.
    frozen = contenders[MDCONV]._replace(name=FROZEN, environment=_FROZEN_WEIGHTS, works=(FORWARD,))
    return [*contenders.values(), frozen]


def _torchvision(case: DetectorCase, python: str) -> _Contender:
    return _Contender(
        TORCHVISION,
        "benchmarks.cpu.detector_torchvision",
        {"image_size": case.image_size},
        python,
        packages=("torch", "torchvision"),
    )


def _is_installed(contender: _Contender) -> bool:
    # Nothing is asked of an interpreter that needs no further package.
    return not contender.packages or None not in package_versions(contender.python, contender.packages).values()


def _measure(
    work: str,
    case: DetectorCase,
    contenders: Sequence[_Contender],
    absent: Mapping[str, str],
    threads: int,
    repetitions: int,
) -> tuple[Group, dict[str, int | None]]:
    """Times of one work, and the peak memory of each process, which has done nothing else."""
    with ExitStack() as stack:
        processes = {
            contender.name: stack.enter_context(
                DetectorProcess(
                    contender.name,
                    work,
                    threads=threads,
                    module=contender.module,
                    settings=contender.settings,
                    python=contender.python,
                    environment=contender.environment,
                )
            )
            for contender in contenders
        }
        for name, process in processes.items():
            _check(name, work, process.outcome())
        series = measure({name: process.seconds for name, process in processes.items()}, repetitions)
        peaks = {name: process.peak_bytes() for name, process in processes.items()}
    return Group(work, str(case), series, absent), peaks


def _check(contender: str, work: str, outcome: Mapping[str, float]) -> None:
    if work == STEP:
        check_losses(contender, outcome)
    elif outcome[DETECTIONS] != _MOST_DETECTIONS:
        raise Disagreement(
            f"{contender} does not compute: it detects {outcome[DETECTIONS]} objects instead of {_MOST_DETECTIONS}, "
            "which every detector finds without a threshold."
        )


def _memory_table(case: DetectorCase, groups: Sequence[Group], peaks: Mapping[str, Mapping[str, int | None]]) -> Table:
    contenders = [*groups[0].series, *groups[0].absent]  # of the forward pass, which all can do
    rows = [
        [
            name,
            *(group.absent[name] if name in group.absent else megabytes(peaks[group.work][name]) for group in groups),
        ]
        for name in contenders
    ]
    return Table(f"Peak memory of a process, Mask R-CNN, {case}, MB", ["", *_WORKS], rows)
