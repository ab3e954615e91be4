"""Results as tables of text and as files."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.results import Goal, Group
from benchmarks.timing import Series, ratio


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text; the first column names the rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def times_table(title: str, groups: Sequence[Group], columns: Sequence[str] = ()) -> Table:
    """Contenders as rows, groups as columns, which are named after their cases unless told otherwise."""
    contenders = list(dict.fromkeys(name for group in groups for name in [*group.series, *group.absent]))
    rows = [[name, *(cell(group, name) for group in groups)] for name in contenders]
    return Table(f"{title}, ms: median (quartiles)", ["", *(columns or [group.case for group in groups])], rows)


def goals_table(goals: Sequence[Goal]) -> Table:
    """Every goal with what was reached."""
    rows = [
        [goal.subject, goal.case, f"{goal.value:.3f}", goal.limit, "met" if goal.met else "missed"] for goal in goals
    ]
    return Table("Goals", ["", "case", "reached", "goal", ""], rows)


def as_text(table: Table) -> str:
    """The table for a terminal, columns aligned."""
    cells = [list(table.header), *map(list, table.rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([table.title, *(f"  {line}" for line in lines)])


def as_markdown(table: Table) -> str:
    """The table for a document, under its title."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join([f"**{table.title}**", "", *(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)])


def spread(series: Series) -> str:
    """`17.2 (16.9-17.6)`, in milliseconds."""
    lower, upper = (1e3 * seconds for seconds in series.quartiles)
    return f"{significant(1e3 * series.median)} ({significant(lower)}-{significant(upper)})"


def significant(value: float) -> str:
    """Three digits or more: `0.123`, `12.3`, `1234`."""
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}"


def cell(group: Group, contender: str, text: Callable[[Series], str] = spread) -> str:
    """A contender's times as `text` shows them, or why it is absent."""
    return text(group.series[contender]) if contender in group.series else group.absent.get(contender, "-")


def ratio_cell(group: Group, numerator: str, denominator: str) -> str:
    """How many times as long the first took as the second, a dash where one of them is absent."""
    if numerator not in group.series or denominator not in group.series:
        return "-"
    return f"{ratio(group.series[numerator], group.series[denominator]):.2f}"


def megabytes(count: int | None) -> str:
    """Bytes in MB, a dash where the number is unknown."""
    return "-" if count is None else f"{count / 1e6:.1f}"


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files by name into a folder, which it makes; each is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, contents in files.items():
        unfinished = folder / f"{name}.unfinished"
        unfinished.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
        os.replace(unfinished, folder / name)
