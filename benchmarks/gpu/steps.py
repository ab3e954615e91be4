"""Programs that run before anything is measured: the build, the tests, NVIDIA's checkers of memory accesses."""

import argparse
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from benchmarks.gpu import ROOT
from benchmarks.gpu.findings import Findings

Log = Callable[[str, str], None]

_SANITIZERS = ("memcheck", "racecheck")
_FOUND = 9  # what a checker that found something is to exit with

# A machine with few cores compiles for long.
_BUILD_LIMIT_S = 3600
_LIMIT_S = 900


@dataclasses.dataclass(frozen=True)
class Step:
    """A program that has to end with status 0.

    Attributes:
        name: for people.
        command: run in the repository's root.
        limit_s: after which it is ended.
        environment: what it has beside this process' own.
        needed: nothing can follow where it fails.
    """

    name: str
    command: Sequence[str]
    limit_s: float
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needed: bool = False


def planned_steps(options: argparse.Namespace) -> list[Step]:
    """What the options ask for, the build first."""
    kind = device_kind(options)
    steps = [Step("build", [sys.executable, "cc/tools/gpu_library.py", kind], _BUILD_LIMIT_S, needed=True)]
    if not options.no_tests:
        # On that device alone: where there is a GPU, the tests would run on the emulated one too.
        steps.append(
            Step("tests", [sys.executable, "-m", "pytest", "-q", "tests/gpu"], _LIMIT_S, {"DCNV2_TEST_DEVICES": kind})
        )
    if options.sanitize:
        program = [sys.executable, "-m", "benchmarks.gpu.small_run"]
        for tool in _SANITIZERS:
            command = ["compute-sanitizer", "--tool", tool, f"--error-exitcode={_FOUND}", *program]
            # Otherwise tensors lie side by side in one block of memory, and what is past one is in another.
            steps.append(Step(tool, command, _LIMIT_S, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}))
    return steps


def device_kind(options: argparse.Namespace) -> str:
    """Which library is built, as cc/tools/gpu_library.py calls it."""
    return "emulated" if options.emulated else "cuda"


def take_steps(steps: Sequence[Step], findings: Findings, log: Log) -> bool:
    """Takes all steps, unless one fails that the rest needs, and notes what came of them.

    Returns:
        Whether to go on.
    """
    for step in steps:
        log("step", step.name)
        failure, seconds = _take(step)
        findings.steps[step.name] = f"{failure or 'passed'} in {seconds:.0f} s"
        log("step", f"{step.name}: {findings.steps[step.name]}")
        if failure:
            findings.wrong.append(f"{step.name}: {failure}.")
            if step.needed:
                return False
    return True


def _take(step: Step) -> tuple[str, float]:
    """What went wrong, if anything did, and the seconds it took; what the program prints goes where we print."""
    sys.stdout.flush()
    start = time.monotonic()
    try:
        environment = {**os.environ, **step.environment}
        done = subprocess.run(step.command, cwd=ROOT, env=environment, timeout=step.limit_s)
        failure = f"failed with status {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        failure = "ended without a result"
    except OSError as error:
        failure = f"not run ({error.strerror}: {step.command[0]})"
    return failure, time.monotonic() - start
