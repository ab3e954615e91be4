"""Convolutions measured in processes of their own.

TensorFlow's number of threads is fixed when it first runs something, so that comparing numbers of threads takes several
processes.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.cases import ConvCase
from benchmarks.cpu.conv_checks import WORKS
from benchmarks.cpu.conv_functions import Run, make_data
from benchmarks.cpu.memory import workspace_bytes
from benchmarks.cpu.process import Process, serve
from benchmarks.cpu.threads import use_threads
from benchmarks.timing import stopwatch

_TINY = ConvCase(8, 6, 10)


class Worker(Process):
    """A process with a number of threads of its own, until it is closed.

    Args:
        threads: of TensorFlow in that process.
        environment: variables to add to those of this process.
    """

    def __init__(self, threads: int, environment: Mapping[str, str] | None = None):
        super().__init__("benchmarks.cpu.worker", threads, environment=environment)

    def seconds(self, work: str, contender: str, case: ConvCase) -> float:
        """Runs a contender once and returns the seconds it took there."""
        return self._ask("seconds", work, contender, case)

    def workspace_bytes(self, work: str, contender: str, case: ConvCase) -> int | None:
        """Memory that a contender takes on top of its inputs and results; None if the system does not tell.

        To be asked of a worker started with `RETURN_FREED_MEMORY`, and first about who needs least: TensorFlow keeps
        freed memory for later, so that a contender may find what an earlier one left.
        """
        return self._ask("workspace_bytes", work, contender, case)

    def _ask(self, question: str, work: str, contender: str, case: ConvCase) -> Any:
        fields = dataclasses.asdict(case)
        return self.ask(question, f"{contender} on {case}", work=work, contender=contender, case=fields)


class _Server:
    """The other end: makes contenders and runs them on request."""

    def __init__(self):
        self._data = {}
        self._stopwatches = {}
        self._results = []

    def seconds(self, work: str, contender: str, case: ConvCase) -> float:
        key = (work, contender, case)
        if key not in self._stopwatches:
            self._stopwatches[key] = stopwatch(self._make(*key))
        return self._stopwatches[key]()

    def workspace_bytes(self, work: str, contender: str, case: ConvCase) -> int | None:
        # What is loaded and set up once, whatever the size.
        self._make(work, contender, _TINY)()
        used, results = workspace_bytes(self._make(work, contender, case))
        self._results.append(results)
        return used

    def _make(self, work: str, contender: str, case: ConvCase) -> Run:
        if case not in self._data:
            self._data[case] = make_data(case)
        return WORKS[work](contender, self._data[case])


def _about_case(method: Callable[[str, str, ConvCase], Any]) -> Callable[..., Any]:
    """The method for a case of which JSON has the fields."""
    return lambda work, contender, case: method(work, contender, ConvCase(**case))


def _main() -> None:
    use_threads(int(sys.argv[1]))
    server = _Server()
    serve({name: _about_case(getattr(server, name)) for name in ("seconds", "workspace_bytes")})


if __name__ == "__main__":
    _main()
