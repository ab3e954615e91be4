"""What the measurements are asked to do."""

import argparse
import os

from benchmarks.arguments import Parser, positive_int

DESCRIPTION = """\
Measures the CUDA kernels on the GPU of this machine against torchvision's ops, against cuDNN's dense convolution,
against what the device's bandwidth and matrix units allow, and against what was expected of them. Needs PyTorch, NumPy,
nvcc and g++, or a library built elsewhere (DCNV2_GPU_LIBRARY); with torchvision more is compared. Every case has a
process of its own; results.json and results.md are written again after each measurement. A goal that is missed is
information; the exit status is 1 if one of our values is wrong, or if something could not be measured."""

FULL_ROUNDS = 21
QUICK_ROUNDS = 5
TINY_ROUNDS = 1


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command's options."""
    parser = Parser(prog="python -m benchmarks.gpu", description=DESCRIPTION)
    parser.add_argument(
        "--output",
        metavar="DIR",
        default=os.environ.get("OUT") or "runs/benchmark-gpu",
        help="folder of the results (default: $OUT, otherwise runs/benchmark-gpu)",
    )
    parser.add_argument(
        "--rounds",
        type=positive_int,
        metavar="N",
        help=f"of each measurement (default: {FULL_ROUNDS}, {QUICK_ROUNDS} with small sizes, {TINY_ROUNDS} emulated)",
    )
    parser.add_argument(
        "--seconds",
        type=positive_int,
        metavar="N",
        default=3600,
        help="after which nothing more is measured, the least important cases being last (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument(
        "--emulated", action="store_true", help="a dry run without a GPU, with tiny sizes and emulated kernels"
    )
    return parser.parse_args(arguments)
