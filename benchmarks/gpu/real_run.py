"""Runs each main kernel once at its real size, for profilers: `python -m benchmarks.gpu.real_run`."""

import argparse

import torch

from benchmarks.cases import BFLOAT16, FLOAT32, FORWARD, TF32, ConvCase
from benchmarks.gpu import conv, library, roi
from benchmarks.gpu.cases import BACKWARD, FULL, INPUT_GRADIENT, KERNEL_GRADIENT, OFFSET_GRADIENTS, TINY, RoICase
from benchmarks.gpu.findings import MODULATED_POOLING

_CONV = (
    *((precision, FORWARD) for precision in (FLOAT32, TF32, BFLOAT16)),
    *((TF32, gradient) for gradient in (INPUT_GRADIENT, OFFSET_GRADIENTS, KERNEL_GRADIENT)),
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.real_run", description=__doc__)
    parser.add_argument("--emulated", action="store_true", help="tiny sizes on the emulated device")
    options = parser.parse_args(arguments)
    kind, device, sizes = ("emulated", "cpu", TINY) if options.emulated else ("cuda", "cuda", FULL)
    kernels = library.Library(kind)
    conv_case = _middle(sizes.cases, ConvCase)
    roi_case = _middle(sizes.cases, RoICase)

    data = conv.make_data(conv_case, device)
    for precision, work in _CONV:
        print(f"{work}, {conv_case}, {precision}", flush=True)
        conv.ours(data.stored(precision), precision, kernels).runs[work]()
    pooling = roi.ours(MODULATED_POOLING, roi.make_data(roi_case, device), FLOAT32, kernels, roi_case)
    for work in (FORWARD, BACKWARD):
        print(f"{MODULATED_POOLING}, {work}, {roi_case}, {FLOAT32}", flush=True)
        pooling.runs[work]()
    if not options.emulated:
        torch.cuda.synchronize()


def _middle(cases, kind: type):
    """ResNet's stage 4, where there are all stages."""
    of_kind = [case for case in cases if isinstance(case, kind)]
    return of_kind[min(1, len(of_kind) - 1)]


if __name__ == "__main__":
    main()
