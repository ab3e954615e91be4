"""All measurements, each case in a process of its own, the most important first."""

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from benchmarks.cases import ConvCase
from benchmarks.gpu import conv, roi
from benchmarks.gpu.apart import Send, run_apart
from benchmarks.gpu.bench import Attempt, Bench
from benchmarks.gpu.cases import Sizes
from benchmarks.gpu.device import CudaDevice, Device, EmulatedDevice, measure_rates
from benchmarks.gpu.findings import DeviceFacts, Findings, Measurement
from benchmarks.gpu.library import Library
from benchmarks.gpu.memory import measure_memory
from benchmarks.gpu.variants import measure_variants

# Imported once for all processes; where it cannot be, they say so.
with contextlib.suppress(ImportError, RuntimeError):
    importlib.import_module("torchvision.ops")

Log = Callable[[str, str], None]

# Without a sign: a process takes seconds to start and to work out what is right, and less for every run.
_SILENCE_S = 40.0
# How often a case may begin again without what ended its process.
_MOST_PROCESSES = 4


class Task(NamedTuple):
    """What one process does.

    Attributes:
        name: for people.
        run: does it.
    """

    name: str
    run: Callable[[Bench], None]


@dataclasses.dataclass(frozen=True)
class Setup:
    """What every process begins with.

    Attributes:
        kind: "cuda" or "emulated".
        sizes, rounds: how much is measured.
    """

    kind: str
    sizes: Sizes
    rounds: int

    def bench(self, findings: Findings, send: Send) -> Bench:
        """A bench in this process; from now on it has CUDA."""
        # cuDNN tries its algorithms while contenders warm up, and takes the fastest.
        torch.backends.cudnn.benchmark = True
        device = CudaDevice() if self.kind == "cuda" else EmulatedDevice()
        return Bench(device, Library(self.kind), findings.rates, self.rounds, send)


def planned_tasks(sizes: Sizes) -> list[Task]:
    """The device's rates, the cases in their order, the variants, and the memory."""
    tasks = [Task("rates", lambda bench: _describe(bench.device, sizes, bench.send))]
    for case in sizes.cases:
        module, subject = (conv, "convolution") if isinstance(case, ConvCase) else (roi, "pooling")
        tasks.append(_task(f"{subject}, {case}", module.measure_case, case))
    tasks += [_task(f"variants, {case}", measure_variants, case) for case in sizes.variants]
    return tasks + [_task(f"memory, {case}", measure_memory, case) for case in sizes.memory]


def measure_everything(
    findings: Findings, setup: Setup, tasks: list[Task], deadline: float, log: Log, save: Callable[[], None]
) -> None:
    """Carries out the tasks and adds to the findings what comes of them.

    Args:
        findings: filled in.
        setup: of every process.
        tasks: what is measured, in this order.
        deadline: of `time.monotonic()`, after which no task begins and none goes on.
        log: called with a short topic and a line of text, for the user to read.
        save: called whenever there is more to save.
    """
    for task in tasks:
        start = time.monotonic()
        if start >= deadline:
            findings.wrong.append(f"{task.name}: not measured, there was no time left.")
            continue
        failures = _carry_out(task, findings, setup, deadline, save)
        findings.wrong += failures
        save()
        failed = f": {len(failures)} FAILED" if failures else ""
        log(f"{time.monotonic() - start:.1f} s", f"{task.name}{failed}")


class _Process:
    """A task under way: what it sends, and what it was at when its process ended."""

    def __init__(self, findings: Findings, save: Callable[[], None]):
        self._findings, self._save = findings, save
        self.attempt: Attempt | None = None
        self.finished: set[tuple[str, str]] = set()

    def receive(self, sent: Any) -> None:
        if isinstance(sent, Attempt):
            self.attempt = sent
            return
        if isinstance(sent, Measurement):
            self.finished.add((sent.subject, sent.group.work))
        self._findings.add(sent)
        self._save()


def _carry_out(task: Task, findings: Findings, setup: Setup, deadline: float, save: Callable[[], None]) -> list[str]:
    """Runs a task, again if its process ended, without what it was at when it did; returns what went wrong."""
    process = _Process(findings, save)
    ruled_out: set[Attempt] = set()
    failures = []

    def work(send: Send) -> None:
        bench = setup.bench(findings, send)
        task.run(dataclasses.replace(bench, ruled_out=frozenset(ruled_out), finished=frozenset(process.finished)))

    for _ in range(_MOST_PROCESSES):
        process.attempt = None
        failure = run_apart(work, process.receive, silence_s=_SILENCE_S, limit_s=deadline - time.monotonic())
        if not failure:
            break
        failures.append(f"{task.name}{f': {process.attempt}' if process.attempt else ''}: {failure}.")
        if process.attempt is None or time.monotonic() >= deadline:
            break
        ruled_out.add(process.attempt)
    return failures


def _describe(device: Device, sizes: Sizes, send: Send) -> None:
    send(DeviceFacts(device.describe()))
    send(measure_rates(device, sizes))
    send(DeviceFacts({"state": device.state()}))


def _task(name: str, measure: Callable[[Any, Bench], None], case: Any) -> Task:
    return Task(name, lambda bench: measure(case, bench))
