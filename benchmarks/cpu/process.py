"""Processes that measure on request.

They stay alive and take turns. Requests and answers are lines of JSON. Nothing here needs TensorFlow: what is measured
may be another framework's, under an interpreter that lacks it.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import ROOT


class Process:
    """A module that runs in a Python of its own and serves requests, until it is closed.

    Args:
        module: the name of a module that calls `serve` when it is run.
        threads: of its framework; its first argument.
        arguments: its further arguments.
        python: the interpreter.
        environment: variables to add to those of this process.
    """

    def __init__(
        self,
        module: str,
        threads: int,
        *arguments: str,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ):
        self.threads = threads
        self._process = subprocess.Popen(
            [python, "-m", module, str(threads), *arguments],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is for this process, whose end is theirs too.
            start_new_session=True,
        )

    def ask(self, question: str, subject: str, **arguments: Any) -> Any:
        """The answer to a question.

        Args:
            question: what `serve` is asked there.
            subject: what is to be run, for error messages.
            arguments: of the question, as JSON has them.

        Raises:
            RuntimeError: the process could not answer, or has ended.
        """
        try:
            self._process.stdin.write(json.dumps({"question": question, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(
                f"The process that measures with threads={self.threads} ended with status {self._process.wait()} when "
                f"it was to run {subject}. Is there enough memory?"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{subject}, threads={self.threads}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """Ends the process."""
        # What could not be written to a process that died would be tried once more.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def serve(questions: Mapping[str, Callable[..., Any]]) -> None:
    """Answers the requests of a `Process`, in the process that it started, until there are no more.

    Args:
        questions: functions by name, of named arguments and with results that JSON has.
    """
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": questions[request["question"]](**request["arguments"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
