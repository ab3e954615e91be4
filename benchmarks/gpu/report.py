"""The findings as one table for the terminal, as markdown and as JSON."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu.cases import Precision
from benchmarks.gpu.findings import DENSE, OURS, TORCHVISION, Findings, Measurement, contender
from tf_dcnv2.benchmark.report import as_markdown, as_text, goals_table
from tf_dcnv2.benchmark.results import Goal, Group, Table, significant, spread
from tf_dcnv2.benchmark.timing import Series, ratio

_HEADER = (
    *("", "case", "type", "ours", "error", "torchvision", "theirs/ours", "cuDNN dense", "ours/dense"),
    *("floor", "of", "ours/floor"),
)


def times_table(findings: Findings, cell: Callable[[Series], str] = spread) -> Table:
    """All measurements: a row for each problem and precision, times as `cell` writes them."""
    rows = [_row(item, precision, cell) for item in findings.measurements for precision in item.precisions]
    return Table("Times, medians in ms; ratios are medians of the ratios of each round", _HEADER, rows)


def memory_table(findings: Findings) -> Table:
    """What the passes take beside inputs and results."""
    header = ["case", "type", "all columns would be", "our workspace", "unaccounted for", "torchvision's peak"]
    rows = [
        [
            *(memory.case, memory.precision, _megabytes(memory.columns), _megabytes(memory.workspace)),
            *(_megabytes(memory.unaccounted), "-" if memory.torchvision is None else _megabytes(memory.torchvision)),
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
        bound = f"{'at least' if last.at_least else 'at most'} {last.bound:g}"
        rows.append(
            [subject, bound, f"{last.value:.3f}", last.case, f"{sum(goal.met for goal in kind)} of {len(kind)}"]
        )
    return Table("Goals", ["", "goal", "worst", "case", "met"], rows)


def describe(findings: Findings) -> str:
    """The device and what it was measured to reach, in one line."""
    text = ", ".join(f"{name} {value}" for name, value in findings.device.items())
    if findings.rates is None:
        return text
    matrix = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in findings.rates.matrix.items())
    return f"{text}; measured: copy {findings.rates.bandwidth / 1e9:.4g} GB/s, matrix product in TFLOP/s {matrix}"


def text(findings: Findings) -> str:
    """Everything for a terminal, the verdict last."""
    tables = [times_table(findings, cell=_median)] if findings.measurements else []
    tables += [memory_table(findings)] if findings.memory else []
    goals = findings.goals()
    tables += [goals_summary(goals)] if goals else []
    parts = [describe(findings), *map(as_text, tables), *(f"WRONG: {problem}" for problem in findings.wrong)]
    return "\n\n".join(filter(None, parts))


def markdown(findings: Findings) -> str:
    """Everything for people."""
    steps = "; ".join(f"{step}: {outcome}" for step, outcome in findings.steps.items())
    parts = [f"{describe(findings)}."] + ([f"{steps}."] if steps else [])
    parts += [f"**Wrong:** {text}" for text in findings.wrong]
    if findings.measurements:
        parts.append(as_markdown(times_table(findings)))
    if findings.memory:
        parts.append(as_markdown(memory_table(findings)))
    goals = findings.goals()
    if goals:
        parts += [as_markdown(goals_summary(goals)), as_markdown(goals_table(goals))]
    return "\n\n".join(parts) + "\n"


def write(findings: Findings, folder: Path) -> None:
    """Writes `results.json` and `results.md`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"results.json": json.dumps(findings.to_dict(), indent=1) + "\n", "results.md": markdown(findings)}
    for name, text in files.items():
        unfinished = folder / f"{name}.unfinished"
        unfinished.write_text(text)
        os.replace(unfinished, folder / name)


def _row(item: Measurement, precision: Precision, cell: Callable[[Series], str]) -> list[str]:
    group, floor = item.group, item.floors[precision.name]
    ours, theirs, dense = (contender(who, precision) for who in (OURS, TORCHVISION, DENSE))
    error = item.errors.get(ours)
    to_floor = f"{group.series[ours].median / floor.seconds:.2f}" if ours in group.series else "-"
    return [
        *(f"{item.subject}, {group.work}", group.case, precision.name),
        *(_time(group, ours, cell), "-" if error is None else f"{error:.1e}"),
        *(
            _time(group, theirs, cell),
            _ratio(group, theirs, ours),
            _time(group, dense, cell),
            _ratio(group, ours, dense),
        ),
        *(significant(1e3 * floor.seconds), floor.bound, to_floor),
    ]


def _time(group: Group, name: str, cell: Callable[[Series], str]) -> str:
    return cell(group.series[name]) if name in group.series else group.absent.get(name, "-")


def _ratio(group: Group, numerator: str, denominator: str) -> str:
    if numerator not in group.series or denominator not in group.series:
        return "-"
    return f"{ratio(group.series[numerator], group.series[denominator]):.2f}"


def _median(series: Series) -> str:
    return significant(1e3 * series.median)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f}"
