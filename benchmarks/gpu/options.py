"""What the benchmark is asked to do."""

import argparse
import os

DESCRIPTION = """\
Builds the CUDA kernels for the GPU of this machine, tests them, and measures them against torchvision's ops, against
cuDNN's dense convolution and against what the device's bandwidth and matrix units allow. Needs PyTorch, nvcc, g++,
numpy and pytest; with torchvision more is compared. Prints one table and writes results.json and results.md, again
after every case. A goal that is missed is information; the exit status is 1 if the build or a test fails, or if one of
our values is wrong."""

FULL_ROUNDS = 21
QUICK_ROUNDS = 5


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        default=os.environ.get("OUT") or "runs/benchmark-gpu",
        help="folder of the results (default: $OUT, otherwise runs/benchmark-gpu)",
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        metavar="N",
        help=f"of each measurement (default: {FULL_ROUNDS}, or {QUICK_ROUNDS} with small sizes)",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, not how fast")
    parser.add_argument("--no-tests", action="store_true", help="leaves out the tests")
    parser.add_argument("--sanitize", action="store_true", help="also runs the kernels under compute-sanitizer")
    parser.add_argument(
        "--emulated", action="store_true", help="a dry run without a GPU, with tiny sizes and emulated kernels"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1. Received: {value}")
    return value
