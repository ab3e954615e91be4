"""Times of contenders, and the goals that they are judged by."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.timing import Series, ratio


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

    @property
    def limit(self) -> str:
        """The bound in words: `at most 1.15`."""
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the verdict included."""
        return {**dataclasses.asdict(self), "met": self.met}


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


def _milliseconds(series: Series) -> dict[str, float | int]:
    lower, upper = series.quartiles
    times = {"median": series.median, "lower_quartile": lower, "upper_quartile": upper}
    return {**{name: round(1e3 * seconds, 4) for name, seconds in times.items()}, "rounds": len(series.seconds)}
