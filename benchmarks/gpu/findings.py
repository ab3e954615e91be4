"""What the benchmark found out, as plain data, and how it is judged."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cases import BOTH, FLOAT32, FORWARD, TF32, Precision
from benchmarks.gpu.cases import CONV_PRECISIONS, ROI_PRECISIONS, VARIANT_PRECISIONS
from benchmarks.gpu.floors import Floor, Rates
from benchmarks.results import Goal, Group, speed_goal, time_goal

CONV = "convolution"
POOLING = "RoIAlign"
MODULATED_POOLING = "modulated pooling"
# Convolutions with options that the library would have chosen by itself.
VARIANTS = "variants"
DEFAULT = "default"

OURS = "tf-dcnv2"
TORCHVISION = "torchvision"
DENSE = "cuDNN dense"

LEAST_SPEED_UP = {FORWARD: 3.0, BOTH: 5.0}
LEAST_16_BIT_SPEED_UP = 2.0
MOST_FORWARD_TO_DENSE = 1.5
LEAST_POOLING_SPEED_UP = 1.0
# In float32 copies of x. 16-bit tensors need one, to sum their gradient in; the columns of all taps would be more.
MOST_WORKSPACE_PER_IMAGE = 1.0


def contender(who: str, precision: Precision) -> str:
    """The name of a contender's series: `torchvision, float16`."""
    return f"{who}, {precision}"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Contenders of all precisions that took turns on one problem.

    Attributes:
        subject: `CONV`, `POOLING`, `MODULATED_POOLING` or `VARIANTS`.
        group: their times.
        floors: by precision's name.
        estimates: by contender, the seconds that were expected of it on an H100.
        errors: by contender, its largest error as a fraction of the largest value.
        wrong: in words, wrong values and failures of ours.
    """

    subject: str
    group: Group
    floors: Mapping[str, Floor]
    estimates: Mapping[str, float]
    errors: Mapping[str, float]
    wrong: Sequence[str] = ()

    @property
    def precisions(self) -> Sequence[Precision]:
        return {CONV: CONV_PRECISIONS, VARIANTS: VARIANT_PRECISIONS}.get(self.subject, ROI_PRECISIONS)

    def to_dict(self) -> dict[str, Any]:
        """Plain data in milliseconds."""
        floors = {
            name: {"bytes": 1e3 * floor.bytes_s, "operations": 1e3 * floor.operations_s}
            for name, floor in self.floors.items()
        }
        return {
            "subject": self.subject,
            **self.group.to_dict(),
            "floor_milliseconds": floors,
            "estimate_milliseconds": {name: 1e3 * seconds for name, seconds in self.estimates.items()},
            "errors": dict(self.errors),
        }


@dataclasses.dataclass(frozen=True)
class Memory:
    """What the backward pass of one case takes beside inputs and results, in bytes.

    Attributes:
        case, precision: their names.
        workspace: ours.
        per_image: what a further image adds to our workspace, for large batches.
        map_per_image: a float32 copy of one image's x.
        columns: of all taps, which other implementations keep.
        unaccounted: what the device had less of after our forward and backward passes than PyTorch knows of.
        torchvision: the most that torchvision's passes took beside inputs and results; None where it is absent.
    """

    case: str
    precision: str
    workspace: int
    per_image: float
    map_per_image: int
    columns: int
    unaccounted: int
    torchvision: int | None


@dataclasses.dataclass(frozen=True)
class DeviceFacts:
    """Name, versions, clocks."""

    facts: Mapping[str, Any]


@dataclasses.dataclass
class Findings:
    """Everything, filled in as it becomes known.

    Attributes:
        device: name, driver, versions, clocks.
        rates: of the device.
        measurements, memory: see there.
        wrong: in words, every wrong value and failure of ours, and whatever could not be measured.
    """

    device: dict[str, Any] = dataclasses.field(default_factory=dict)
    rates: Rates | None = None
    measurements: list[Measurement] = dataclasses.field(default_factory=list)
    memory: list[Memory] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def add(self, finding: DeviceFacts | Rates | Measurement | Memory) -> None:
        """Puts a finding where it belongs."""
        match finding:
            case DeviceFacts():
                self.device.update(finding.facts)
            case Rates():
                self.rates = finding
            case Measurement():
                self.measurements.append(finding)
                self.wrong += finding.wrong
            case Memory():
                self.memory.append(finding)

    def goals(self) -> list[Goal]:
        """All that can be judged of what was measured."""
        return [
            *(goal for measurement in self.measurements for goal in _goals(measurement)),
            *(_memory_goal(memory) for memory in self.memory),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "device": self.device,
            "rates": dataclasses.asdict(self.rates) if self.rates else None,
            "measurements": [measurement.to_dict() for measurement in self.measurements],
            "memory": [dataclasses.asdict(memory) for memory in self.memory],
            "goals": [goal.to_dict() for goal in self.goals()],
            "wrong": self.wrong,
        }


def _goals(measurement: Measurement) -> list[Goal]:
    if measurement.subject == VARIANTS or measurement.group.work not in LEAST_SPEED_UP:
        return []
    return _conv_goals(measurement) if measurement.subject == CONV else _roi_goals(measurement)


def _conv_goals(measurement: Measurement) -> list[Goal]:
    group, goals = measurement.group, []
    ours = contender(OURS, FLOAT32)
    goals += speed_goal(
        f"{group.work}, float32: speed relative to torchvision",
        *(group.case, group, ours, contender(TORCHVISION, FLOAT32), LEAST_SPEED_UP[group.work]),
    )
    for precision in CONV_PRECISIONS:
        mine = contender(OURS, precision)
        if precision not in (FLOAT32, TF32):
            subject = f"{group.work}, {precision}: speed relative to our float32"
            goals += speed_goal(subject, group.case, group, mine, ours, LEAST_16_BIT_SPEED_UP)
        if group.work == FORWARD:
            subject = f"{group.work}, {precision}: time relative to cuDNN's dense convolution"
            goals += time_goal(subject, group.case, group, mine, contender(DENSE, precision), MOST_FORWARD_TO_DENSE)
    return goals


def _roi_goals(measurement: Measurement) -> list[Goal]:
    group = measurement.group
    return [
        goal
        for precision in ROI_PRECISIONS
        for goal in speed_goal(
            f"{measurement.subject} {group.work}, {precision}: speed relative to roi_align",
            *(group.case, group, contender(OURS, precision), contender(TORCHVISION, precision)),
            LEAST_POOLING_SPEED_UP,
        )
    ]


def _memory_goal(memory: Memory) -> Goal:
    subject = f"backward, {memory.precision}: workspace of a further image in float32 copies of its map"
    return Goal(subject, memory.case, memory.per_image / memory.map_per_image, MOST_WORKSPACE_PER_IMAGE)
