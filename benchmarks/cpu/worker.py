"""Processes that measure on request.

TensorFlow's number of threads is fixed when it first runs something, so that comparing numbers of threads takes several
processes. They stay alive and take turns. Requests and answers are lines of JSON.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from benchmarks import ROOT
from benchmarks.cases import ConvCase
from benchmarks.cpu.conv_checks import WORKS
from benchmarks.cpu.conv_functions import Run, make_data
from benchmarks.cpu.memory import workspace_bytes
from benchmarks.cpu.threads import use_threads
from benchmarks.timing import stopwatch

_TINY = ConvCase(8, 6, 10)


class Worker:
    """A process with a number of threads of its own, until it is closed.

    Args:
        threads: of TensorFlow in that process.
        environment: variables to add to those of this process.
    """

    def __init__(self, threads: int, environment: Mapping[str, str] | None = None):
        self.threads = threads
        command = [sys.executable, "-m", "benchmarks.cpu.worker", str(threads)]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for this process, whose end is theirs too.
            start_new_session=True,
        )

    def seconds(self, work: str, contender: str, case: ConvCase) -> float:
        """Runs a contender once and returns the seconds it took there."""
        return self._ask("seconds", work, contender, case)

    def workspace_bytes(self, work: str, contender: str, case: ConvCase) -> int | None:
        """Memory that a contender takes on top of its inputs and results; None if the system does not tell.

        To be asked of a worker started with `RETURN_FREED_MEMORY`, and first about who needs least: TensorFlow keeps
        freed memory for later, so that a contender may find what an earlier one left.
        """
        return self._ask("workspace_bytes", work, contender, case)

    def close(self) -> None:
        """Ends the process."""
        # What could not be written to a process that died would be tried once more.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _ask(self, question: str, work: str, contender: str, case: ConvCase) -> Any:
        request = {"question": question, "work": work, "contender": contender, "case": dataclasses.asdict(case)}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(
                f"The process that measures with threads={self.threads} ended with status {self._process.wait()} when "
                f"it was to run {contender} on {case}. Is there enough memory?"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{contender} on {case}, threads={self.threads}: {answer['error']}")
        return answer["result"]


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


def _serve(requests: TextIO, answers: TextIO) -> None:
    """Answers requests until there are no more."""
    server = _Server()
    for line in requests:
        request = json.loads(line)
        method = getattr(server, request["question"])
        try:
            answer = {"result": method(request["work"], request["contender"], ConvCase(**request["case"]))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _main() -> None:
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    use_threads(int(sys.argv[1]))
    _serve(sys.stdin, answers)


if __name__ == "__main__":
    _main()
