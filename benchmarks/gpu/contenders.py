"""Contenders of one problem: each is checked before it is timed, and those that pass take turns."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.agreement import largest_error
from benchmarks.cases import BOTH, FLOAT32, FORWARD, TF32, Precision
from benchmarks.gpu.bench import Attempt, Bench
from benchmarks.gpu.device import use_tf32
from benchmarks.gpu.findings import Measurement, contender
from benchmarks.gpu.floors import Floor
from benchmarks.results import Group
from benchmarks.timing import Stopwatch, measure

# Queues all work and returns the tensors that it will be in.
Run = Callable[[], Sequence[Tensor]]

_BUDGET_S = 1.0
# Times the tolerance: what errs less computes the right thing, too inexactly.
_INEXACT = 4.0


@dataclasses.dataclass(frozen=True)
class Contender:
    """One implementation in one precision.

    Attributes:
        who: whose.
        precision: of its numbers.
        runs: by work.
        comparable: turns what a run returns into the reference's layouts; None where there is nothing to compare.
        reset: forgets what earlier runs wrote, where runs write to the same tensors.
        ours: wrong values and failures are ours to answer for; others only lose their place.
    """

    who: str
    precision: Precision
    runs: Mapping[str, Run]
    comparable: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None
    reset: Callable[[], None] = lambda: None
    ours: bool = False

    @property
    def name(self) -> str:
        return contender(self.who, self.precision)


class Contest:
    """One work on one problem, and who takes part in it.

    Attributes:
        admitted: contenders whose values are right, or not to be compared, and ours that are merely inexact.
        absent: by the others' names, why not.
        errors: by contender's name, its largest error as a fraction of the largest value.
        wrong: in words, our wrong values and failures.
    """

    def __init__(self, bench: Bench, subject: str, work: str, case: str):
        self._bench, self._subject, self._work, self._case = bench, subject, work, case
        self.admitted: list[Contender] = []
        self.absent: dict[str, str] = {}
        self.errors: dict[str, float] = {}
        self.wrong: list[str] = []

    def admit(self, candidate: Contender, expected: Sequence[Tensor]) -> None:
        """Runs a candidate once, if it does this work, and compares what it gives with the reference.

        Others compute positions in 16 bits where we use 32, so that their 16-bit results are not held against them.

        Raises:
            RuntimeError: the candidate's failure has left the device unusable.
        """
        if self._work not in candidate.runs:
            return
        attempt = Attempt(self._subject, self._work, candidate.name)
        if attempt in self._bench.ruled_out:
            self.absent[candidate.name] = "ended its process"
            return
        self._bench.send(attempt)
        try:
            candidate.reset()
            outputs = with_precision(candidate, self._work)()
            self._bench.device.synchronize()
        except (ImportError, RuntimeError) as reason:
            self._bench.device.synchronize()
            self.absent[candidate.name] = _in_a_word(reason)
            if candidate.ours:
                self._note_wrong(candidate, f"{type(reason).__name__}: {str(reason).splitlines()[0]}")
            return
        if candidate.comparable is None or self._is_right(candidate, candidate.comparable(outputs), expected):
            self.admitted.append(candidate)

    def measure(self, floors: Mapping[str, Floor], estimates: Mapping[str, float]) -> None:
        """Times those who were admitted, by turns, and sends the measurement."""
        watches = {item.name: self._watch(item) for item in self.admitted}
        group = Group(self._work, self._case, measure(watches, self._bench.rounds, budget_s=_BUDGET_S), self.absent)
        self._bench.send(Measurement(self._subject, group, floors, estimates, self.errors, self.wrong))

    def _watch(self, candidate: Contender) -> Stopwatch:
        attempt = Attempt(self._subject, self._work, candidate.name)
        seconds = self._bench.device.stopwatch(with_precision(candidate, self._work))

        def watch() -> float:
            # Before the device begins to overwrite its cache, and so in nobody's time.
            self._bench.send(attempt)
            return seconds()

        return watch

    def _is_right(self, candidate: Contender, outputs: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
        error = largest_error(outputs, expected)
        self.errors[candidate.name] = error
        tolerance = candidate.precision.tolerance
        # Written so that infinity and NaN fail too.
        if error <= tolerance:
            return True
        if not candidate.ours and candidate.precision not in (FLOAT32, TF32):
            return True
        if candidate.ours:
            self._note_wrong(
                candidate, f"the largest error is {error:.2g} of the largest value, allowed are {tolerance:.2g}."
            )
            # Named as wrong all the same; but what is merely inexact takes the time that it will take when it is right.
            if error <= _INEXACT * tolerance:
                return True
        self.absent[candidate.name] = f"error {error:.1e}"
        return False

    def _note_wrong(self, candidate: Contender, what: str) -> None:
        self.wrong.append(f"{candidate.name}, {self._subject}, {self._work}, {self._case}: {what}")


def with_precision(candidate: Contender, work: str) -> Run:
    """The candidate's run, with PyTorch's switches set to its precision."""

    def run() -> Sequence[Tensor]:
        use_tf32(candidate.precision.allow_tf32)
        return candidate.runs[work]()

    return run


def differentiated(op: Callable[..., Tensor], inputs: Sequence[Tensor], dy: Tensor) -> dict[str, Run]:
    """Both works of an op that PyTorch differentiates: the output, and with it the gradients of all inputs."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def forward() -> list[Tensor]:
        return [op(*inputs)]

    def both() -> list[Tensor]:
        y = op(*leaves)
        return [y.detach(), *torch.autograd.grad(y, leaves, dy)]

    return {FORWARD: forward, BOTH: both}


def _in_a_word(reason: Exception) -> str:
    text = str(reason).lower()
    if isinstance(reason, ImportError):
        return "not installed"
    if "not implemented" in text:
        return "not implemented"
    return "out of memory" if "out of memory" in text else type(reason).__name__
