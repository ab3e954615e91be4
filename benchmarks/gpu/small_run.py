"""Runs every kernel on small problems and compares: `python -m benchmarks.gpu.small_run`.

Each operator has a process of its own in each precision. For programs that watch memory accesses there is
`--one-process`; data and reference are the processor's, so that the device runs hardly anything but our kernels.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.gpu import conv, library, roi
from benchmarks.gpu.agreement import largest_error
from benchmarks.gpu.apart import run_apart
from benchmarks.gpu.cases import CONV_PRECISIONS, CONV_WORKS, ROI_PRECISIONS, ROI_WORKS, ConvCase, Precision, RoICase
from benchmarks.gpu.contenders import Contender
from benchmarks.gpu.kernels import KernelOptions

Log = Callable[[str], None]

# Channels that 16-byte loads fit and that they do not, more than one tile and less; rows of pixels that fill no tile.
_CONV = (
    ConvCase(72, 9, 13, 2),
    ConvCase(5, 4, 7, 2),
    ConvCase(32, 4, 7, 1, groups=2, deformable_groups=4),
    ConvCase(8, 4, 7, 1, groups=8),
)
_ROI = (RoICase(72, 9, 13, 16, 2, 3), RoICase(5, 4, 7, 16, 2, 3))
_LIMIT_S = 30.0


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if a kernel failed or gave wrong values."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.small_run", description=__doc__)
    parser.add_argument("--one-process", action="store_true", help="everything in this process")
    parser.add_argument("--emulated", action="store_true", help="on the emulated device")
    options = parser.parse_args(arguments)
    kind = "emulated" if options.emulated else "cuda"
    library.build(kind)
    wrong = []

    def receive(sent: tuple[str, bool]) -> None:
        line, right = sent
        print(line, flush=True)
        if not right:
            wrong.append(line)

    for check, precisions in ((_check_conv, CONV_PRECISIONS), (_check_roi, ROI_PRECISIONS)):
        for precision in precisions:

            def work(send, check=check, precision=precision):
                kernels = library.Library(kind)
                device = "cpu" if options.emulated else "cuda"
                for result in check(kernels, device, precision):
                    send(result)

            if options.one_process:
                work(receive)
            elif failure := run_apart(work, _LIMIT_S, receive):
                receive(
                    (
                        f"WRONG {check.__name__.removeprefix('_check_')}, {precision}, after the line above: {failure}",
                        False,
                    )
                )
    print(f"{len(wrong)} wrong" if wrong else "all right")
    return 1 if wrong else 0


def _check_conv(kernels: library.Library, device: str, precision: Precision) -> Iterator[tuple[str, bool]]:
    for case in _CONV:
        data = conv.make_data(case, "cpu").stored(precision)
        expected = conv.expected_results(data, [precision])[precision]
        on_device = conv.ConvData(*(tensor.to(device) for tensor in data))
        for options in (KernelOptions(), KernelOptions(deterministic=True)):
            contender = conv.ours(on_device, precision, kernels, options=options)
            for work in CONV_WORKS:
                wanted = [expected[index] for index in conv.RESULTS[work]]
                yield _check(f"convolution, {work}, {case}", contender, work, wanted, options)


def _check_roi(kernels: library.Library, device: str, precision: Precision) -> Iterator[tuple[str, bool]]:
    for case in _ROI:
        data = roi.make_data(case, "cpu").stored(precision)
        on_device = roi.RoIData(*(tensor.to(device) for tensor in data))
        for subject in roi.SUBJECTS:
            expected = roi.expected_results(subject, data, case)
            for options in (KernelOptions(), KernelOptions(deterministic=True)):
                contender = roi.ours(subject, on_device, precision, kernels, case, options)
                for work in ROI_WORKS:
                    yield _check(f"{subject}, {work}, {case}", contender, work, expected[roi.RESULTS[work]], options)


def _check(
    name: str, contender: Contender, work: str, expected: Sequence[Tensor], options: KernelOptions
) -> tuple[str, bool]:
    """A line of text, and whether the values are right."""
    precision = contender.precision
    name = f"{name}, {precision}{', deterministic' if options.deterministic else ''}"
    contender.reset()
    try:
        outputs = [tensor.cpu() for tensor in contender.runs[work]()]
    except library.KernelError as error:
        return f"WRONG {name}: {error}", False
    error = largest_error(outputs, expected)
    right = error <= precision.tolerance
    return f"{'right' if right else 'WRONG'} {name}: error {error:.1e}", right


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
