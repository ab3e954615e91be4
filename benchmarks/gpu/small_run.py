"""Runs every kernel on small problems and compares: `python -m benchmarks.gpu.small_run`.

A check that ends its process is named, and the next ones run in another. Programs that watch memory accesses want
`--one-process`; data and reference are the processor's, so that the device runs hardly anything but our kernels.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.agreement import largest_error
from benchmarks.cases import ConvCase, Precision
from benchmarks.gpu import conv, library, roi
from benchmarks.gpu.apart import run_apart
from benchmarks.gpu.cases import CONV_PRECISIONS, CONV_WORKS, ROI_PRECISIONS, ROI_WORKS, RoICase
from benchmarks.gpu.contenders import Contender
from benchmarks.gpu.kernels import KernelOptions, Kernels

# Channels that 16-byte loads fit and that they do not, more than one tile and less; rows of pixels that fill no tile.
# What has most to tell comes first: under a checker time may run out.
_CASES = (
    ConvCase(72, 9, 13, 2),
    RoICase(72, 9, 13, 16, 2, 3),
    ConvCase(5, 4, 7, 2),
    RoICase(5, 4, 7, 16, 2, 3),
    ConvCase(32, 4, 7, 1, groups=2, deformable_groups=4),
    ConvCase(8, 4, 7, 1, groups=8),
)
_OPTIONS = (KernelOptions(), KernelOptions(deterministic=True))
_SILENCE_S = 15.0

# Whether a check is right, and a line of text.
Result = tuple[bool, str]


class Check(NamedTuple):
    """One work on one problem.

    Attributes:
        name: for people.
        error: runs it with kernels on PyTorch's device; its largest error as a fraction of the largest value.
        tolerance: the largest that is right.
    """

    name: str
    error: Callable[[Kernels, str], float]
    tolerance: float

    def result(self, kernels: Kernels, device: str) -> Result:
        try:
            error = self.error(kernels, device)
        except library.KernelError as failure:
            return False, f"WRONG {self.name}: {failure}"
        right = error <= self.tolerance
        return right, f"{'right' if right else 'WRONG'} {self.name}: error {error:.1e}"


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if a kernel failed or gave wrong values."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.small_run", description=__doc__)
    parser.add_argument("--one-process", action="store_true", help="everything in this process")
    parser.add_argument("--emulated", action="store_true", help="on the emulated device")
    options = parser.parse_args(arguments)
    kind, device = ("emulated", "cpu") if options.emulated else ("cuda", "cuda")
    library.build(kind)
    torch.set_num_threads(1)
    checks = planned_checks()

    def results(first: int) -> Iterable[Result]:
        kernels = library.Library(kind)
        return (check.result(kernels, device) for check in checks[first:])

    right = []

    def report(result: Result) -> None:
        is_right, line = result
        print(line, flush=True)
        right.append(is_right)

    if options.one_process:
        for result in results(0):
            report(result)
    else:
        run_in_processes(checks, results, report)
    print(f"{sum(right)} of {len(checks)} right")
    return 0 if sum(right) == len(checks) else 1


def run_in_processes(
    checks: Sequence[Check], results: Callable[[int], Iterable[Result]], report: Callable[[Result], None]
) -> None:
    """Reports every check as soon as it is done: `results(first)` in a process, and from where it ended in the next."""
    done = 0

    def receive(result: Result) -> None:
        nonlocal done
        done += 1
        report(result)

    while done < len(checks):
        first = done
        failure = run_apart(
            lambda send, first=first: [send(result) for result in results(first)], receive, silence_s=_SILENCE_S
        )
        if failure and done < len(checks):
            receive((False, f"WRONG {checks[done].name}: {failure}"))


def planned_checks() -> list[Check]:
    """Every operator in every precision, with gradients summed in any order and in a fixed one."""
    return [
        check for case in _CASES for check in (_conv_checks(case) if isinstance(case, ConvCase) else _roi_checks(case))
    ]


def _conv_checks(case: ConvCase) -> list[Check]:
    return [
        Check(
            _name(f"convolution, {work}, {case}", precision, options),
            lambda kernels, device, of=(case, precision, options, work): _conv_error(*of, kernels, device),
            precision.tolerance,
        )
        for options, precision, work in itertools.product(_OPTIONS, CONV_PRECISIONS, CONV_WORKS)
    ]


def _roi_checks(case: RoICase) -> list[Check]:
    return [
        Check(
            _name(f"{subject}, {work}, {case}", precision, options),
            lambda kernels, device, of=(subject, case, precision, options, work): _roi_error(*of, kernels, device),
            precision.tolerance,
        )
        for options, precision, subject, work in itertools.product(_OPTIONS, ROI_PRECISIONS, roi.SUBJECTS, ROI_WORKS)
    ]


def _conv_error(
    case: ConvCase, precision: Precision, options: KernelOptions, work: str, kernels: Kernels, device: str
) -> float:
    data = conv.make_data(case, "cpu").stored(precision)
    expected = conv.expected_results(data, [precision])[precision]
    on_device = conv.ConvData(*(tensor.to(device) for tensor in data))
    contender = conv.ours(on_device, precision, kernels, options=options)
    return _error(contender, work, [expected[index] for index in conv.RESULTS[work]])


def _roi_error(
    subject: str, case: RoICase, precision: Precision, options: KernelOptions, work: str, kernels: Kernels, device: str
) -> float:
    data = roi.make_data(case, "cpu").stored(precision)
    expected = roi.expected_results(subject, data, case)
    on_device = roi.RoIData(*(tensor.to(device) for tensor in data))
    contender = roi.ours(subject, on_device, precision, kernels, case, options)
    return _error(contender, work, expected[roi.RESULTS[work]])


def _error(contender: Contender, work: str, expected: Sequence[Tensor]) -> float:
    return largest_error([tensor.cpu() for tensor in contender.runs[work]()], expected)


def _name(name: str, precision: Precision, options: KernelOptions) -> str:
    return f"{name}, {precision}{', deterministic' if options.deterministic else ''}"


if __name__ == "__main__":
    sys.exit(main())
