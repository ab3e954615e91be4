"""The findings as one table for the terminal, as markdown and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases import BFLOAT16, FLOAT32, TF32, Precision
from benchmarks.gpu.cases import CONV_PRECISIONS
from benchmarks.gpu.findings import DEFAULT, DENSE, OURS, TORCHVISION, VARIANTS, Findings, Measurement, contender
from benchmarks.report import (
    Table,
    as_markdown,
    as_text,
    cell,
    goals_table,
    megabytes,
    ratio_cell,
    significant,
    spread,
    write_files,
)
from benchmarks.results import Goal
from benchmarks.timing import Series

_HEADER = (
    *("", "case", "type", "ours", "expected", "error", "torchvision", "theirs/ours", "cuDNN dense", "ours/dense"),
    *("floor", "of", "ours/floor"),
)

# In the terminal, where float16 would take too much room.
_SHOWN = (FLOAT32, TF32, BFLOAT16)


def times_table(findings: Findings) -> Table:
    """Every kernel in every precision with all that is known of it, with quartiles."""
    rows = [
        _row(item, precision)
        for item in findings.measurements
        if item.subject != VARIANTS
        for precision in item.precisions
    ]
    return Table("Times, medians in ms; ratios are medians of the ratios of each round", _HEADER, rows)


def overview_table(findings: Findings) -> Table:
    """A row for each case below each kernel, short enough for a terminal."""
    header = ["B x H x W x C", *map(str, _SHOWN), "torchvision float32"]
    kernels: dict[str, list[list[str]]] = {}
    for item in findings.measurements:
        if item.subject != VARIANTS:
            cells = [_overview(item, OURS, precision, with_floor=True) for precision in _SHOWN]
            row = [f"  {item.group.case}", *cells, _overview(item, TORCHVISION, FLOAT32)]
            kernels.setdefault(_title(item), []).append(row)
    rows = [row for kernel, of_kernel in kernels.items() for row in ([kernel, *[""] * len(_SHOWN), ""], *of_kernel)]
    return Table("Times in ms: measured / expected of an H100 / floor", header, rows)


def comparisons_table(findings: Findings) -> Table:
    """How many times as fast as torchvision: as users of both get it, and with the same arithmetic."""
    header = ["", "case", "framework defaults", *map(str, CONV_PRECISIONS)]
    rows = []
    for item in findings.measurements:
        if item.subject == VARIANTS or not any(name.startswith(TORCHVISION) for name in item.group.series):
            continue
        # TensorFlow rounds factors of float32 products to TF32 unless told otherwise, and PyTorch does not.
        default = TF32 if TF32 in item.precisions else FLOAT32
        pairs = [(default, FLOAT32), *((precision, precision) for precision in CONV_PRECISIONS)]
        ratios = [ratio_cell(item.group, contender(TORCHVISION, b), contender(OURS, a)) for a, b in pairs]
        rows.append([_title(item), item.group.case, *ratios])
    defaults = "framework defaults (ours in TF32 where there is such, theirs in float32)"
    return Table(f"Speed relative to torchvision: {defaults}, and the same arithmetic", header, rows)


def variants_table(findings: Findings) -> Table:
    """Times of the library's options relative to its own choice; below 1 the choice was not the best."""
    items = [item for item in findings.measurements if item.subject == VARIANTS]
    contenders = [name for item in items for name in [*item.group.series, *item.group.absent]]
    names = dict.fromkeys(name.rpartition(", ")[0] for name in contenders)
    columns = [name for name in names if name != DEFAULT]
    rows = []
    for item in items:
        for precision in item.precisions:
            default = contender(DEFAULT, precision)
            ratios = [ratio_cell(item.group, contender(name, precision), default) for name in columns]
            rows.append([item.group.work, item.group.case, precision.name, cell(item.group, default, _median), *ratios])
    header = ["", "case", "type", "default, ms", *columns]
    return Table("Time with an option relative to the library's own choice", header, rows)


def memory_table(findings: Findings) -> Table:
    """What the passes take beside inputs and results."""
    header = ["case", "type", "all columns would be", "our workspace", "unaccounted for", "torchvision's peak"]
    rows = [
        [
            *(memory.case, memory.precision, megabytes(memory.columns), megabytes(memory.workspace)),
            *(megabytes(memory.unaccounted), megabytes(memory.torchvision)),
        ]
        for memory in findings.memory
    ]
    return Table("Memory of forward + backward beside inputs and results, MB", header, rows)


def goals_summary(goals: Sequence[Goal]) -> Table:
    """A row for each kind of goal: how many cases reach it, and the one that comes last."""
    rows = []
    for subject in dict.fromkeys(goal.subject for goal in goals):
        kind = [goal for goal in goals if goal.subject == subject]
        last = (min if kind[0].at_least else max)(kind, key=lambda goal: goal.value)
        met = f"{sum(goal.met for goal in kind)} of {len(kind)}"
        rows.append([subject, last.limit, f"{last.value:.3f}", last.case, met])
    return Table("Goals", ["", "goal", "worst", "case", "met"], rows)


def describe(findings: Findings) -> str:
    """The device and what it was measured to reach, in one line."""
    text = ", ".join(f"{name} {value}" for name, value in findings.device.items())
    if findings.rates is None:
        return text
    matrix = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in findings.rates.matrix.items())
    return f"{text}; measured: copy {findings.rates.bandwidth / 1e9:.4g} GB/s, matrix product in TFLOP/s {matrix}"


def text(findings: Findings) -> str:
    """What fits a terminal, where the end is what is seen."""
    tables = [memory_table(findings), goals_summary(findings.goals()), variants_table(findings)]
    tables += [comparisons_table(findings), overview_table(findings)]
    parts = [*(as_text(table) for table in tables if table.rows), describe(findings)]
    parts.append("\n".join(f"WRONG: {problem}" for problem in findings.wrong))
    return "\n\n".join(filter(None, parts))


def markdown(findings: Findings) -> str:
    """Everything for people."""
    goals = findings.goals()
    tables = [comparisons_table(findings), times_table(findings), variants_table(findings), memory_table(findings)]
    tables += [goals_summary(goals), goals_table(goals)]
    parts = [f"{describe(findings)}.", *(f"**Wrong:** {problem}" for problem in findings.wrong)]
    return "\n\n".join([*parts, *(as_markdown(table) for table in tables if table.rows)]) + "\n"


def write(findings: Findings, folder: Path) -> None:
    """Writes `results.json` and `results.md`, each whole or not at all."""
    results = json.dumps(findings.to_dict(), indent=1) + "\n"
    write_files(folder, {"results.json": results, "results.md": markdown(findings)})


def _title(item: Measurement) -> str:
    return f"{item.subject}, {item.group.work}"


def _overview(item: Measurement, who: str, precision: Precision, with_floor: bool = False) -> str:
    """`0.271 / 0.270 / 0.160`, and less where less is known."""
    name = contender(who, precision)
    if precision not in item.precisions:
        return ""
    estimate, floor = item.estimates.get(name), item.floors.get(precision.name)
    parts = [cell(item.group, name, _median)]
    if estimate is None and parts == ["-"]:
        return "-"
    if estimate is not None or floor is not None:
        parts.append(_milliseconds(estimate))
    if with_floor and floor is not None:
        parts.append(_milliseconds(floor.seconds))
    return " / ".join(parts)


def _row(item: Measurement, precision: Precision) -> list[str]:
    group, floor = item.group, item.floors.get(precision.name)
    ours, theirs, dense = (contender(who, precision) for who in (OURS, TORCHVISION, DENSE))
    error = item.errors.get(ours)
    to_floor = f"{group.series[ours].median / floor.seconds:.2f}" if floor and ours in group.series else "-"
    return [
        *(_title(item), group.case, precision.name),
        *(
            cell(group, ours, spread),
            _milliseconds(item.estimates.get(ours)),
            "-" if error is None else f"{error:.1e}",
        ),
        *(
            cell(group, theirs, spread),
            ratio_cell(group, theirs, ours),
            cell(group, dense, spread),
            ratio_cell(group, ours, dense),
        ),
        *([_milliseconds(floor.seconds), floor.bound] if floor else ["-", "-"]),
        to_floor,
    ]


def _median(series: Series) -> str:
    return _milliseconds(series.median)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else significant(1e3 * seconds)
