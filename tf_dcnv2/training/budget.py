"""How long a run lasts, and how the learning rate follows."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras

from tf_dcnv2._core.checked_types import PositiveFloat, checked_arguments
from tf_dcnv2.training.schedules import Schedule, warm_up


def wall_clock() -> float:
    """Seconds since some time."""
    return time.monotonic()


@dataclasses.dataclass
class Budget:
    """Steps and minutes that a run may use; the one that is used up first ends it.

    Attributes:
        steps: number of optimizer steps, or None.
        minutes: wall-clock time since it was made (and in earlier runs that are resumed), or None.
        steps_done, seconds_before: where a resumed run continues.
        clock: seconds since some time.
        is_used_up: whether the budget was used up when the last step ended.
    """

    steps: int | None = None
    minutes: float | None = None
    steps_done: int = 0
    seconds_before: float = 0.0
    clock: Callable[[], float] = wall_clock
    is_used_up: bool = dataclasses.field(init=False, default=False)

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._first_step: int | None = None

    @property
    def seconds(self) -> float:
        """Wall-clock time used so far, in seconds."""
        return self.seconds_before + self.clock() - self._started

    def count_step(self) -> None:
        """Counts one optimizer step that has just ended."""
        self.steps_done += 1
        if self._first_step is None:
            self._first_step, self._first_step_ended = self.steps_done, self.clock()
        self.is_used_up = self.progress >= 1.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated time until the budget is used up; None while nothing allows an estimate.

        A step takes as long as those so far, with the evaluations between them, as these recur. The first step is left
        out, since it includes the tracing of the graph.
        """
        estimates = []
        if self.minutes:
            estimates.append(60.0 * self.minutes - self.seconds)
        if self.steps and self._first_step is not None and self.steps_done > self._first_step:
            seconds_per_step = (self.clock() - self._first_step_ended) / (self.steps_done - self._first_step)
            estimates.append(seconds_per_step * (self.steps - self.steps_done))
        return max(0.0, min(estimates)) if estimates else None

    @property
    def progress(self) -> float:
        """Used fraction, from 0 to 1."""
        by_steps = self.steps_done / self.steps if self.steps else 0.0
        by_time = self.seconds / (60.0 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))


class CountSteps(keras.callbacks.Callback):
    """Counts the steps of a budget, and stops after the one that uses it up.

    Args:
        budget: counted up here.
    """

    def __init__(self, budget: Budget):
        super().__init__()
        self._budget = budget

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the step and stops the training when the budget is used up."""
        self._budget.count_step()
        if self._budget.is_used_up:
            self.model.stop_training = True


class SpendBudget(CountSteps):
    """Sets the learning rate of each step by the fraction of the budget that is gone, and stops when all of it is.

    Args:
        budget: counted up here.
        peak_learning_rate: what the schedule's 1 stands for.
        schedule: from progress in [0, 1] to a factor in [0, 1].
        warmup_steps: of linear warm-up.
    """

    def __init__(self, budget: Budget, peak_learning_rate: float, schedule: Schedule, warmup_steps: int = 0):
        super().__init__(budget)
        self._peak = peak_learning_rate
        self._schedule = schedule
        self._warmup_steps = warmup_steps

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the learning rate of the step."""
        factor = self._schedule(self._budget.progress) * warm_up(self._budget.steps_done, self._warmup_steps)
        self.model.optimizer.learning_rate = self._peak * factor


class MaxMinutes(keras.callbacks.Callback):
    """Stops `fit` after `minutes` of wall-clock time, at the end of a step.

    Example:
        >>> model.fit(dataset, epochs=1000, callbacks=[MaxMinutes(30)])
    """

    @checked_arguments
    def __init__(self, minutes: PositiveFloat):
        super().__init__()
        self._budget = Budget(minutes=minutes)
        self._minutes = minutes

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._budget = Budget(minutes=self._minutes)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Stops the training when the time is over."""
        if self._budget.progress >= 1.0:
            self.model.stop_training = True
