"""`python -m benchmarks.gpu`: builds, tests and measures the CUDA kernels."""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.gpu import report
from benchmarks.gpu.cases import FULL, QUICK, TINY
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.options import FULL_ROUNDS, QUICK_ROUNDS, parse
from benchmarks.gpu.steps import Log, device_kind, planned_steps, take_steps


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if something is wrong, whatever the goals."""
    options = parse(arguments)
    folder = Path(options.output)
    findings = Findings()

    start = time.monotonic()

    def log(topic: str, text: str) -> None:
        print(f"{time.monotonic() - start:4.0f} s  {topic:8} {text}", flush=True)

    def save() -> None:
        report.write(findings, folder)

    if take_steps(planned_steps(options), findings, log):
        try:
            _measure(options, findings, log, save)
        except Exception as error:
            traceback.print_exc()
            findings.wrong.append(f"The measurements stopped: {type(error).__name__}: {error}")
    save()
    print(f"\n{report.text(findings)}\n")
    log("written", f"{folder}/results.json and results.md")
    return 1 if findings.wrong else 0


def _measure(options: argparse.Namespace, findings: Findings, log: Log, save: Callable[[], None]) -> None:
    # PyTorch takes seconds to import, which a build that fails can do without.
    from benchmarks.gpu.device import CudaDevice, EmulatedDevice
    from benchmarks.gpu.library import Library
    from benchmarks.gpu.measurements import measure_everything

    device = EmulatedDevice() if options.emulated else CudaDevice()
    sizes = TINY if options.emulated else QUICK if options.quick else FULL
    rounds = options.rounds or (FULL_ROUNDS if sizes is FULL else QUICK_ROUNDS)
    measure_everything(findings, device, Library(device_kind(options)), sizes, rounds, log, save)


if __name__ == "__main__":
    sys.exit(main())
