"""One run of the benchmark, from options to a folder with the results."""

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path

from benchmarks.cpu import report
from benchmarks.cpu.machine import busy_cores, describe_machine
from benchmarks.cpu.options import BenchmarkOptions
from benchmarks.cpu.plot import picture
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import FULL, QUICK
from benchmarks.cpu.threads import use_threads
from benchmarks.report import write_files

Log = Callable[[str, str], None]

_MOST_BUSY_CORES = 0.1


def run_benchmark(options: BenchmarkOptions, log: Log, show: Callable[[Section], None]) -> list[Section]:
    """Measures and writes `results.json`, `results.md` and `benchmark.png`.

    Args:
        options: what to measure, and the folder of the files.
        log: called with a short topic and a line of text, for the user to read.
        show: called with every section when it is done.

    Raises:
        Disagreement: a contender computes something else than the others.
        RuntimeError: TensorFlow runs already, with another number of threads.
    """
    use_threads(options.threads)
    machine = describe_machine(options.torch_python)
    log("machine", report.describe(machine))
    busy_before = busy_cores()
    if busy_before and busy_before > _MOST_BUSY_CORES:
        log("warning", f"other programs keep {busy_before:.1f} cores busy: times will be longer and less certain")
    log("method", report.method(options))
    sizes = QUICK if options.quick else FULL
    if options.image is not None:
        step, detector = (dataclasses.replace(case, image_size=options.image) for case in (sizes.step, sizes.detector))
        sizes = dataclasses.replace(sizes, step=step, detector=detector)
    # What a section takes beside what all of them take.
    particular = {"detector": {"torch_python": options.torch_python}}
    sections = []
    for name in options.sections:
        module = importlib.import_module(f"benchmarks.cpu.{name}")
        settings = {"threads": options.threads, "repetitions": options.repetitions, **particular.get(name, {})}
        section = module.run(sizes, log=log, **settings)
        show(section)
        sections.append(section)
    machine["busy_cores"] = {"before": busy_before, "after": busy_cores()}
    files = {
        "results.json": report.to_json(machine, options, sections),
        "results.md": report.markdown(machine, options, sections),
        "benchmark.png": picture(sections),
    }
    write_files(Path(options.output), files)
    return sections
