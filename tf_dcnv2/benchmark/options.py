"""What the benchmark is asked to do."""

import dataclasses
import os

SECTIONS = ("conv", "roi", "scaling", "step")


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """Settings of a run.

    Args:
        sections: some of `SECTIONS`.
        threads: of every contender; None for as many as there are cores.
        repetitions: rounds of each measurement; None for 21, or 3 with `quick`.
        quick: tiny sizes, which show that everything works and nothing else.
        step_image: (height, width) in pixels of the training step's image; None for 512 x 800.

    Raises:
        ValueError: one of them makes no sense.
    """

    sections: tuple[str, ...] = SECTIONS
    threads: int | None = None
    repetitions: int | None = None
    quick: bool = False
    step_image: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.sections if name not in SECTIONS]
        if unknown or not self.sections:
            received = ",".join(self.sections)
            raise ValueError(f"sections must be some of {', '.join(SECTIONS)}. Received: {received!r}")
        cores = available_cores()
        if self.threads is None:
            object.__setattr__(self, "threads", cores)
        if not 1 <= self.threads <= cores:
            raise ValueError(
                f"threads must be between 1 and the {cores} cores this process may use: more would only wait for each "
                f"other. Received: {self.threads}"
            )
        if self.repetitions is None:
            object.__setattr__(self, "repetitions", 3 if self.quick else 21)
        if self.repetitions < 1:
            raise ValueError(f"repetitions must be at least 1. Received: {self.repetitions}")
        if self.step_image is not None and min(self.step_image) < 1:
            raise ValueError(f"step_image must be a positive height and width. Received: {self.step_image}")
