"""What a section of the benchmark hands back."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import Table
from benchmarks.results import Goal, Group


@dataclasses.dataclass(frozen=True)
class Section:
    """All that a section of the benchmark found out.

    Attributes:
        name: "conv", "groups", "roi", "scaling", "step" or "detector".
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
