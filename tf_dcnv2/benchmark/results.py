"""What the sections of the benchmark hand back: times, goals and tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tf_dcnv2.benchmark.timing import Series, ratio


@dataclasses.dataclass(frozen=True)
class Group:
    """Contenders that took turns on the same work.

    Attributes:
        work: what was done, such as "forward".
        case: on what, such as "128 channels, 100 x 168".
        series: times by contender.
        absent: by contender that could not take part, why not.
        topic, size: what grows from group to group, if something does, and how large it is here.
    """

    work: str
    case: str
    series: Mapping[str, Series]
    absent: Mapping[str, str] = dataclasses.field(default_factory=dict)
    topic: str = ""
    size: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data in milliseconds."""
        return {
            "work": self.work,
            "case": self.case,
            "milliseconds": {name: _milliseconds(series) for name, series in self.series.items()},
            "absent": dict(self.absent),
            **({self.topic: self.size} if self.topic else {}),
        }


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound that a ratio of times should keep.

    Attributes:
        subject: what is compared, such as "forward, time relative to onnxruntime".
        case: on what.
        value: the ratio.
        bound: the most it should be, or with `at_least` the least.
    """

    subject: str
    case: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the verdict included."""
        return {**dataclasses.asdict(self), "met": self.met}


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of text; the first column names the rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Section:
    """All that a section of the benchmark found out.

    Attributes:
        name: "conv", "roi", "scaling" or "step".
        groups: its measurements.
        goals: its bounds and whether they are kept.
        tables: for people.
        extra: other findings, as plain data for the JSON file.
    """

    name: str
    groups: Sequence[Group]
    goals: Sequence[Goal]
    tables: Sequence[Table]
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the tables."""
        return {
            "groups": [group.to_dict() for group in self.groups],
            "goals": [goal.to_dict() for goal in self.goals],
            **self.extra,
        }


def time_goal(subject: str, case: str, group: Group, ours: str, theirs: str, at_most: float) -> list[Goal]:
    """Our time should be at most a multiple of theirs; no goal where one of them is absent."""
    if ours not in group.series or theirs not in group.series:
        return []
    return [Goal(subject, case, ratio(group.series[ours], group.series[theirs]), at_most)]


def speed_goal(subject: str, case: str, group: Group, ours: str, theirs: str, at_least: float) -> list[Goal]:
    """Their time should be at least a multiple of ours; no goal where one of them is absent."""
    if ours not in group.series or theirs not in group.series:
        return []
    return [Goal(subject, case, ratio(group.series[theirs], group.series[ours]), at_least, at_least=True)]


def times_table(title: str, groups: Sequence[Group], columns: Sequence[str] = ()) -> Table:
    """Contenders as rows, groups as columns, which are named after their cases unless told otherwise."""
    contenders = list(dict.fromkeys(name for group in groups for name in [*group.series, *group.absent]))
    rows = [[name, *(_cell(group, name) for group in groups)] for name in contenders]
    return Table(f"{title}, ms: median (quartiles)", ["", *(columns or [group.case for group in groups])], rows)


def spread(series: Series) -> str:
    """`17.2 (16.9-17.6)`, in milliseconds."""
    lower, upper = (1e3 * seconds for seconds in series.quartiles)
    return f"{significant(1e3 * series.median)} ({significant(lower)}-{significant(upper)})"


def significant(value: float) -> str:
    """Three digits or more: `0.123`, `12.3`, `1234`."""
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{decimals}f}"


def _cell(group: Group, contender: str) -> str:
    if contender in group.series:
        return spread(group.series[contender])
    return group.absent.get(contender, "-")


def _milliseconds(series: Series) -> dict[str, float | int]:
    lower, upper = series.quartiles
    times = {"median": series.median, "lower_quartile": lower, "upper_quartile": upper}
    return {**{name: round(1e3 * seconds, 4) for name, seconds in times.items()}, "rounds": len(series.seconds)}
