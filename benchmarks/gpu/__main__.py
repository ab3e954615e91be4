"""`python -m benchmarks.gpu`: measures the CUDA kernels."""

import sys
import time
from pathlib import Path

from benchmarks.gpu.cases import FULL, QUICK, TINY
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.options import FULL_ROUNDS, QUICK_ROUNDS, TINY_ROUNDS, parse


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if something is wrong, whatever the goals."""
    start = time.monotonic()
    options = parse(arguments)
    # PyTorch takes seconds to import, which count.
    from benchmarks.gpu import library, report
    from benchmarks.gpu.measurements import Setup, measure_everything, planned_tasks

    folder = Path(options.output)
    kind = "emulated" if options.emulated else "cuda"
    if options.emulated:
        sizes, rounds = TINY, TINY_ROUNDS
    else:
        sizes, rounds = (QUICK, QUICK_ROUNDS) if options.quick else (FULL, FULL_ROUNDS)
    findings = Findings()

    def log(topic: str, text: str) -> None:
        print(f"{time.monotonic() - start:4.0f} s  {topic:8} {text}", flush=True)

    def save() -> None:
        report.write(findings, folder)

    library.build(kind)
    setup, tasks = Setup(kind, sizes, options.rounds or rounds), planned_tasks(sizes)
    try:
        measure_everything(findings, setup, tasks, start + options.seconds, log, save)
    except KeyboardInterrupt:
        findings.wrong.append("The measurements were interrupted.")
    save()
    print(f"\n{report.text(findings)}\n")
    log("written", f"{folder}/results.json and results.md")
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
