"""`python -m benchmarks.gpu`: measures the CUDA kernels."""

import sys
import time
from pathlib import Path

from benchmarks.gpu import library, report
from benchmarks.gpu.cases import FULL, QUICK, TINY
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.measurements import Setup, measure_everything, planned_tasks
from benchmarks.gpu.options import FULL_ROUNDS, QUICK_ROUNDS, parse


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if something is wrong, whatever the goals."""
    options = parse(arguments)
    folder = Path(options.output)
    kind = "emulated" if options.emulated else "cuda"
    sizes = TINY if options.emulated else QUICK if options.quick else FULL
    rounds = options.rounds or (FULL_ROUNDS if sizes is FULL else QUICK_ROUNDS)
    findings = Findings()
    start = time.monotonic()

    def log(topic: str, text: str) -> None:
        print(f"{time.monotonic() - start:4.0f} s  {topic:8} {text}", flush=True)

    def save() -> None:
        report.write(findings, folder)

    library.build(kind)
    try:
        measure_everything(findings, Setup(kind, sizes, rounds), planned_tasks(sizes), options.seconds, log, save)
    except KeyboardInterrupt:
        findings.wrong.append("The measurements were interrupted.")
    save()
    print(f"\n{report.text(findings)}\n")
    log("written", f"{folder}/results.json and results.md")
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
