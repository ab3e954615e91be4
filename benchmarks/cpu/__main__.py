"""`python -m benchmarks.cpu`: measures the ops and judges them."""

import os
import sys

from benchmarks.cpu.options import parse
from benchmarks.report import as_text, goals_table


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 if contenders disagree or a process that measures fails, whatever the goals."""
    options = parse(arguments)
    # Before TensorFlow is imported, which then says nothing about its build.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from benchmarks.cpu import report
    from benchmarks.cpu.run import run_benchmark
    from benchmarks.cpu.section import Section

    def show(section: Section) -> None:
        tables = [*section.tables, *([goals_table(section.goals)] if section.goals else [])]
        for table in tables:
            print(f"\n{as_text(table)}", flush=True)
        print()

    try:
        done = run_benchmark(options, log=log, show=show)
    except RuntimeError as error:
        print(f"python -m benchmarks.cpu: error: {error}", file=sys.stderr)
        return 1
    log("verdict", report.verdict(done))
    log("written", f"{options.output}/results.json, results.md and benchmark.png")
    return 0


def log(topic: str, text: str) -> None:
    """Prints a line of the report."""
    print(f"{topic:10} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
