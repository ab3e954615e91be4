"""Learning rates as functions of the fraction of a run that is over."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def step_decay(progress: float) -> float:
    """Divided by 10 at epochs 10 and 14 of 16 (paper sec. 5)."""
    return 1.0 if progress < 10 / 16 else 0.1 if progress < 14 / 16 else 0.01


def cosine_decay(progress: float) -> float:
    """Half a cosine from 1 down to 0 (Loshchilov and Hutter, arXiv:1608.03983)."""
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


SCHEDULES: dict[str, Schedule] = {"step": step_decay, "cosine": cosine_decay}


def warm_up(step: int, warmup_steps: int) -> float:
    """Rises linearly from almost 0 to 1 over the first `warmup_steps` steps."""
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
