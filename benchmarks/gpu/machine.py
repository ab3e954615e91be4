"""Shows the machine and its tools, and measures what it reaches: `python -m benchmarks.gpu.machine`."""

import argparse
import os
import shutil
import subprocess
import sys

_TOOLS = (
    ("nvidia-smi",),
    ("nvcc", "--version"),
    ("g++", "--version"),
    ("compute-sanitizer", "--version"),
    ("ncu", "--version"),
)
_TOOL_LIMIT_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if the device does not do what is asked of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.machine", description=__doc__)
    parser.add_argument("--emulated", action="store_true", help="of a machine without a GPU")
    options = parser.parse_args(arguments)
    print(f"{os.cpu_count()} processors, Python {sys.version.split()[0]} at {sys.executable}", flush=True)
    for command in _TOOLS:
        print(f"-- {' '.join(command)}", flush=True)
        if not shutil.which(command[0]):
            print("not found")
            continue
        try:
            subprocess.run(command, timeout=_TOOL_LIMIT_S)
        except subprocess.TimeoutExpired:
            print(f"did not end within {_TOOL_LIMIT_S} s", flush=True)

    from benchmarks.gpu import report
    from benchmarks.gpu.cases import FULL, TINY
    from benchmarks.gpu.device import CudaDevice, EmulatedDevice, measure_rates
    from benchmarks.gpu.findings import Findings

    device, sizes = (EmulatedDevice(), TINY) if options.emulated else (CudaDevice(), FULL)
    print(f"-- PyTorch\n{report.describe(Findings(device.describe(), measure_rates(device, sizes)))}")
    print(f"state: {device.state()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
