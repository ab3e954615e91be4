"""How time and memory of the op grow with pixels, channels and threads, beside a dense convolution's."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.cases import BOTH, FLOAT32, FORWARD, ConvCase
from benchmarks.cpu import conv_functions as functions
from benchmarks.cpu.conv_checks import WORKS, check_undeformed
from benchmarks.cpu.conv_functions import COMPOSITE, DENSE, NATIVE
from benchmarks.cpu.memory import RETURN_FREED_MEMORY
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import Sizes
from benchmarks.cpu.worker import Worker
from benchmarks.report import Table, megabytes, significant, spread
from benchmarks.results import Goal, Group
from benchmarks.timing import Series, measure, ratio, stopwatch

LEAST_SPEED_UP_OF_TWO_THREADS = 1.9

_CONTENDERS = (NATIVE, DENSE)
# Matrix products of that size: one forward, two more backward.
_PRODUCTS = {FORWARD: 1, BOTH: 3}
_MEMORY_COLUMNS = ((NATIVE, FORWARD), (NATIVE, BOTH), (DENSE, FORWARD), (DENSE, BOTH), (COMPOSITE, FORWARD))


def run(sizes: Sizes, *, threads: int, repetitions: int, log: Callable[[str, str], None]) -> Section:
    """Checks that native and dense convolution agree, measures them as they grow, and judges the goals.

    Args:
        sizes: `sizes.pixels`, `sizes.channels` and `sizes.threads` are measured.
        threads: of TensorFlow in this process, which has been told already; the most threads of the others.
        repetitions: rounds.
        log: told what is going on.

    Raises:
        Disagreement: a contender computes something else.
        RuntimeError: a process that measures fails.
    """
    log("scaling", f"growing map: {_sizes(sizes.pixels)}")
    pixels = _grow("pixels", sizes.pixels, repetitions)
    log("scaling", f"more channels: {_sizes(sizes.channels)}")
    channels = _grow("channels", sizes.channels, repetitions)
    counts = thread_counts(threads)
    log("scaling", f"threads: {', '.join(map(str, counts))}")
    by_threads = _grow_threads(sizes.threads, counts, repetitions)
    log("scaling", f"memory: {_sizes(sizes.pixels)}")
    memory = _measure_memory(sizes.pixels, threads)
    tables = [
        *(_growth_table("Growing map", work, pixels, sizes.pixels, "ns per pixel", _ns_per_pixel) for work in WORKS),
        *(_growth_table("More channels", work, channels, sizes.channels, "GFLOP/s", _gflops) for work in WORKS),
        _threads_table(sizes.threads, by_threads),
        _memory_table(memory),
    ]
    return Section("scaling", [*pixels, *channels, *by_threads], goals(by_threads), tables, {"memory": memory})


def goals(by_threads: Sequence[Group]) -> list[Goal]:
    """How much faster two threads should be than one."""
    series = {(group.work, group.size): group.series[NATIVE] for group in by_threads}
    return [
        Goal(
            f"{work}: speed of 2 threads relative to 1",
            NATIVE,
            ratio(series[work, 1], series[work, 2]),
            LEAST_SPEED_UP_OF_TWO_THREADS,
            at_least=True,
        )
        for work in WORKS
        if (work, 2) in series
    ]


def thread_counts(most: int) -> list[int]:
    """1, 2, 4 and so on, and `most`."""
    powers = [2**exponent for exponent in range(most.bit_length()) if 2**exponent < most]
    return [*powers, most]


def _sizes(cases: Sequence[ConvCase]) -> str:
    return "; ".join(map(str, cases))


def _grow(topic: str, cases: Sequence[ConvCase], repetitions: int) -> list[Group]:
    """All cases take turns with each other, so that their times can be compared too."""
    runs = {}
    for case in cases:
        data = functions.make_data(case)
        for work, make in WORKS.items():
            check_undeformed(work, case, data)
            runs |= {(work, case, name): make(name, data) for name in _CONTENDERS}
    series = measure({key: stopwatch(run_) for key, run_ in runs.items()}, repetitions)
    return [
        Group(work, str(case), _by_contender(series, work, case), topic=topic, size=getattr(case, topic))
        for work in WORKS
        for case in cases
    ]


def _by_contender(series: Mapping[tuple, Series], work: str, case: object) -> dict[str, Series]:
    return {name: series[work, case, name] for name in _CONTENDERS}


def _grow_threads(case: ConvCase, counts: Sequence[int], repetitions: int) -> list[Group]:
    with ExitStack() as stack:
        workers = {count: stack.enter_context(Worker(count)) for count in counts}
        watches = {
            (work, count, name): partial(workers[count].seconds, work, name, case)
            for work in WORKS
            for count in counts
            for name in _CONTENDERS
        }
        series = measure(watches, repetitions)
    return [
        Group(work, _threads(count), _by_contender(series, work, count), topic="threads", size=count)
        for work in WORKS
        for count in counts
    ]


def _measure_memory(cases: Sequence[ConvCase], threads: int) -> list[dict[str, Any]]:
    """Plain data, in bytes; None where the system does not tell."""
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(threads, RETURN_FREED_MEMORY)) for _ in cases]
        return [
            {
                "case": str(case),
                "pixels": case.pixels,
                "column_bytes": case.column_bytes(FLOAT32),
                "workspace_bytes": {
                    f"{name}, {work}": worker.workspace_bytes(work, name, case) for name, work in _MEMORY_COLUMNS
                },
            }
            for worker, case in zip(workers, cases, strict=True)
        ]


def _growth_table(
    title: str,
    work: str,
    groups: Sequence[Group],
    cases: Sequence[ConvCase],
    unit: str,
    rate: Callable[[ConvCase, str, float], float],
) -> Table:
    """Cases as rows; times and rates of the contenders as columns."""
    rows = []
    for case, group in zip(cases, (group for group in groups if group.work == work), strict=True):
        cells = ((spread(group.series[name]), rate(case, work, group.series[name].median)) for name in _CONTENDERS)
        rows.append([str(case), *(text for time, number in cells for text in (time, significant(number)))])
    header = ["", *(text for name in _CONTENDERS for text in (name, unit))]
    return Table(f"{title}, {work}, ms: median (quartiles)", header, rows)


def _ns_per_pixel(case: ConvCase, work: str, seconds: float) -> float:
    return 1e9 * seconds / case.pixels


def _gflops(case: ConvCase, work: str, seconds: float) -> float:
    return 1e-9 * _PRODUCTS[work] * case.operations / seconds


def _threads_table(case: ConvCase, groups: Sequence[Group]) -> Table:
    columns = [(name, work) for name in _CONTENDERS for work in WORKS]
    by_key = {(group.work, group.size): group for group in groups}
    rows = []
    for count in sorted({group.size for group in groups}):
        cells = []
        for name, work in columns:
            one, here = (by_key[work, number].series[name] for number in (1, count))
            cells.append(f"{spread(here)}, x{ratio(one, here):.2f}")
        rows.append([_threads(count), *cells])
    return Table(f"More threads, {case}, ms: median (quartiles), speed relative to 1 thread", _header(columns), rows)


def _memory_table(memory: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [entry["case"], megabytes(entry["column_bytes"]), *map(megabytes, entry["workspace_bytes"].values())]
        for entry in memory
    ]
    columns = _header(_MEMORY_COLUMNS)
    header = [columns[0], "all columns would be", *columns[1:]]
    return Table("Peak memory on top of inputs and results, MB", header, rows)


def _header(columns: Sequence[tuple[str, str]]) -> list[str]:
    return ["", *(f"{name}, {work}" for name, work in columns)]


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"
