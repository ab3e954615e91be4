"""What measuring a case needs: a device, our kernels, and somebody to tell."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.gpu.device import Device
from benchmarks.gpu.floors import Rates
from benchmarks.gpu.kernels import Kernels


class Attempt(NamedTuple):
    """A run that may end the process, and is announced before it begins.

    Attributes:
        subject, work: of the measurement.
        contender: who runs.
    """

    subject: str
    work: str
    contender: str

    def __str__(self) -> str:
        return ", ".join(self)


@dataclasses.dataclass(frozen=True)
class Bench:
    """Where cases are measured.

    Attributes:
        device, kernels: PyTorch's device and our kernels on it.
        rates: what the device reaches; without them there are no floors.
        rounds: of each measurement.
        send: told every `Attempt` before it begins, and every finding as soon as there is one.
        ruled_out: attempts that ended a process before.
        finished: subjects and works of the case that are measured already.
    """

    device: Device
    kernels: Kernels
    rates: Rates | None
    rounds: int
    send: Callable[[Any], None]
    ruled_out: frozenset[Attempt] = frozenset()
    finished: frozenset[tuple[str, str]] = frozenset()

    def wants(self, subject: str, work: str) -> bool:
        """Whether a work is still to be measured."""
        return (subject, work) not in self.finished
