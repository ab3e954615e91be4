"""A detector measured in a process of its own, which keeps threads and memory of frameworks apart.

A framework's module gives `serve_detector` a function for each work, which makes the detector and returns a `Run`.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.cases import FORWARD, STEP
from benchmarks.cpu.process import Process, serve
from benchmarks.cpu.process_memory import peak_bytes
from benchmarks.timing import stopwatch

DETECTIONS = "detections"

# Works once, to the end, and tells by what it can be known that it did: in the forward pass the number of `DETECTIONS`,
# in a training step the losses by name.
Run = Callable[[], dict[str, float]]


class DetectorProcess(Process):
    """A process that does one work with one detector.

    Args:
        contender: its name, for error messages.
        work: FORWARD or STEP.
        threads: of its framework.
        module: the framework's module.
        settings: named arguments of the functions in that module.
        python: the interpreter.
        environment: variables to add to those of this process.
    """

    def __init__(
        self,
        contender: str,
        work: str,
        *,
        threads: int,
        module: str,
        settings: Mapping[str, Any],
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ):
        super().__init__(module, threads, work, json.dumps(settings), python=python, environment=environment)
        self._subject = f"{contender}, {work}"

    def outcome(self) -> dict[str, float]:
        """Makes the detector, runs it for the first time and returns what a `Run` does; to be asked first."""
        return self.ask("outcome", self._subject)

    def seconds(self) -> float:
        """Runs it once and returns the seconds this took."""
        return self.ask("seconds", self._subject)

    def peak_bytes(self) -> int | None:
        """The most memory that the process has held so far; None if the system does not tell."""
        return self.ask("peak_bytes", self._subject)


class _Server:
    """The other end."""

    def __init__(self, make: Callable[[], Run]):
        self._make = make
        self._run = None

    def outcome(self) -> dict[str, float]:
        self._run = self._make()
        return self._run()

    def seconds(self) -> float:
        return stopwatch(self._run)()

    def peak_bytes(self) -> int | None:
        with contextlib.suppress(OSError, KeyError):
            return peak_bytes()
        return None


def serve_detector(forward: Callable[..., Run], step: Callable[..., Run], use_threads: Callable[[int], object]) -> None:
    """The main program of a framework's module: serves the `DetectorProcess` that started it.

    Args:
        forward: makes a detector's forward pass from settings.
        step: likewise a training step.
        use_threads: tells the framework how many threads it may use.
    """
    threads, work, settings = sys.argv[1:]
    use_threads(int(threads))
    server = _Server(partial({FORWARD: forward, STEP: step}[work], **json.loads(settings)))
    serve({name: getattr(server, name) for name in ("outcome", "seconds", "peak_bytes")})
