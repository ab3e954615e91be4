"""Contenders of one problem: each is checked before it is timed, and those that pass take turns."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from benchmarks.gpu.agreement import largest_error
from benchmarks.gpu.cases import BOTH, FLOAT32, FORWARD, TF32, Precision
from benchmarks.gpu.device import Device, use_tf32
from benchmarks.gpu.findings import contender
from tf_dcnv2.benchmark.results import Group
from tf_dcnv2.benchmark.timing import measure

# Queues all work and returns the tensors that it will be in.
Run = Callable[[], Sequence[Tensor]]

_BUDGET_S = 1.0


@dataclasses.dataclass(frozen=True)
class Contender:
    """One implementation in one precision.

    Attributes:
        who: whose.
        precision: of its numbers.
        runs: by work.
        comparable: turns what a run returns into the reference's layouts; None where there is nothing to compare.
        ours: wrong values are ours to answer for; others only lose their place.
    """

    who: str
    precision: Precision
    runs: Mapping[str, Run]
    comparable: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None
    ours: bool = False

    @property
    def name(self) -> str:
        return contender(self.who, self.precision)


@dataclasses.dataclass
class Contest:
    """Who takes part in one work on one problem.

    Attributes:
        work, case: their names.
        admitted: contenders whose values are right, or not to be compared.
        absent: by the others' names, why not.
        errors: by contender's name, its largest error as a fraction of the largest value.
        wrong: in words, our wrong values.
    """

    work: str
    case: str
    admitted: list[Contender] = dataclasses.field(default_factory=list)
    absent: dict[str, str] = dataclasses.field(default_factory=dict)
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def admit(self, candidate: Contender, expected: Sequence[Tensor]) -> None:
        """Runs a candidate once and compares what it gives with the reference's output and gradients.

        Others compute positions in 16 bits where we use 32, so that their 16-bit results are not held against them.
        """
        try:
            outputs = with_precision(candidate, self.work)()
        except (ImportError, RuntimeError) as reason:
            if candidate.ours:
                raise
            self.absent[candidate.name] = _in_a_word(reason)
            return
        if candidate.comparable is not None:
            error = largest_error(candidate.comparable(outputs), expected)
            self.errors[candidate.name] = error
            tolerance = candidate.precision.tolerance
            binding = candidate.ours or candidate.precision in (FLOAT32, TF32)
            # Written so that infinity and NaN fail too.
            if binding and not error <= tolerance:
                self.absent[candidate.name] = f"error {error:.1e}"
                if candidate.ours:
                    self.wrong.append(
                        f"{candidate.name}, {self.work}, {self.case}: the largest error is {error:.2g} of the largest "
                        f"value, allowed are {tolerance:.2g}."
                    )
                return
        self.admitted.append(candidate)

    def measure(self, device: Device, rounds: int) -> Group:
        """Times those who were admitted, by turns."""
        watches = {item.name: device.stopwatch(with_precision(item, self.work)) for item in self.admitted}
        return Group(self.work, self.case, measure(watches, rounds, budget_s=_BUDGET_S), self.absent)


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
