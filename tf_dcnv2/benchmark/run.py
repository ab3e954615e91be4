"""One run of the benchmark, from options to a folder with the results."""

import dataclasses
import importlib
import os
from collections.abc import Callable
from pathlib import Path

from tf_dcnv2._core.atomic_files import write_atomically
from tf_dcnv2.benchmark import report
from tf_dcnv2.benchmark.machine import busy_cores, describe_machine
from tf_dcnv2.benchmark.options import BenchmarkOptions
from tf_dcnv2.benchmark.plot import save_plot
from tf_dcnv2.benchmark.results import Section
from tf_dcnv2.benchmark.sizes import FULL, QUICK
from tf_dcnv2.benchmark.threads import use_threads

Log = Callable[[str, str], None]

_MOST_BUSY_CORES = 0.1


def run_benchmark(
    options: BenchmarkOptions, output: str | os.PathLike, log: Log, show: Callable[[Section], None]
) -> list[Section]:
    """Measures and writes `results.json`, `results.md` and `benchmark.png`.

    Args:
        options: what to measure.
        output: folder of the files.
        log: called with a short topic and a line of text, for the user to read.
        show: called with every section when it is done.

    Raises:
        Disagreement: a contender computes something else than the others.
        RuntimeError: TensorFlow runs already, with another number of threads.
    """
    use_threads(options.threads)
    machine = describe_machine()
    log("machine", report.describe(machine))
    busy_before = busy_cores()
    if busy_before and busy_before > _MOST_BUSY_CORES:
        log("warning", f"other programs keep {busy_before:.1f} cores busy: times will be longer and less certain")
    log("method", report.method(options))
    sizes = QUICK if options.quick else FULL
    if options.step_image is not None:
        sizes = dataclasses.replace(sizes, step=dataclasses.replace(sizes.step, image_size=options.step_image))
    sections = []
    for name in options.sections:
        module = importlib.import_module(f"tf_dcnv2.benchmark.{name}")
        section = module.run(sizes, threads=options.threads, repetitions=options.repetitions, log=log)
        show(section)
        sections.append(section)
    machine["busy_cores"] = {"before": busy_before, "after": busy_cores()}
    folder = Path(output)
    write_atomically(folder / "results.json", report.to_json(machine, options, sections))
    write_atomically(folder / "results.md", report.markdown(machine, options, sections))
    save_plot(sections, folder / "benchmark.png")
    return sections
