"""How far a training run is, and how much is left of it: whatever counts, shows or saves the run asks here."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import keras

from tf_dcnv2.training.backups import RunState
from tf_dcnv2.training.budget import Budget, wall_clock
from tf_dcnv2.training.options import TrainOptions

# The metric of an epoch by which the best detector is chosen.
AP_OF = {"box": "val_AP", "mask": "val_mask_AP"}


@dataclasses.dataclass
class RunProgress:
    """The progress of a run while it trains.

    Attributes:
        budget: what the run may use, and what it has used at this moment.
        steps_per_epoch: optimizer steps of an epoch that the budget does not cut short.
        state: the run at its last checkpoint, that of an earlier process included.
        best_by: see `TrainOptions`, and so is `patience`.
        patience: evaluations without a better AP that end the run.
        epochs: epochs of the whole run, the last perhaps cut short; None if only time ends it.
    """

    budget: Budget
    steps_per_epoch: int
    state: RunState
    best_by: str = "box"
    patience: int | None = None
    epochs: int | None = dataclasses.field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.budget.steps is not None:
            # A budget that was used up may have ended an epoch before its time.
            ends = -(-self.budget.steps // self.steps_per_epoch) - self.state.steps // self.steps_per_epoch
            self.epochs = self.state.epochs + ends

    @classmethod
    def begin(
        cls, options: TrainOptions, num_images: int, state: RunState, clock: Callable[[], float] = wall_clock
    ) -> "RunProgress":
        """The progress of a run that begins, or goes on, now.

        Args:
            options: of the run.
            num_images: of the training set.
            state: that the run goes on from; `RunState()` for a new one.
            clock: seconds since some time.
        """
        steps_per_epoch = num_images // options.batch_size
        limits = [options.steps, options.epochs and options.epochs * steps_per_epoch]
        steps = min((limit for limit in limits if limit), default=None)
        budget = Budget(steps, options.max_minutes, state.steps, state.seconds, clock)
        return cls(budget, steps_per_epoch, state, options.best_by, options.patience)

    @property
    def step_of_epoch(self) -> int:
        """Steps of the present epoch that are done; 0 when one is about to begin."""
        return self.budget.steps_done % self.steps_per_epoch

    @property
    def is_end_of_epoch(self) -> bool:
        """Whether the last step was the last one of its epoch."""
        return self.step_of_epoch == 0 or self.budget.is_used_up

    def is_checkpoint_due(self, steps: int | None, minutes: float | None) -> bool:
        """Whether so many steps or minutes, whichever are first, have passed since the last checkpoint."""
        budget, state = self.budget, self.state
        return (steps is not None and budget.steps_done - state.steps >= steps) or (
            minutes is not None and budget.seconds - state.seconds >= 60.0 * minutes
        )

    def pause(self) -> None:
        """Brings `state` up to the present, inside an epoch."""
        self.state = dataclasses.replace(
            self.state, steps=self.budget.steps_done, seconds=self.budget.seconds, is_finished=False
        )

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Brings `state` up to the end of an epoch.

        Args:
            epoch: counted from 0.
            logs: its losses and metrics; an AP higher than all before makes it the best.
        """
        steps, ap = self.budget.steps_done, logs.get(AP_OF[self.best_by], math.nan)
        is_best = ap > self.state.best_ap
        history = (*self.state.history, {"epoch": epoch, **logs})
        self.state = RunState(
            steps=steps,
            epochs=epoch + 1,
            seconds=self.budget.seconds,
            best_ap=ap if is_best else self.state.best_ap,
            best_steps=steps if is_best else self.state.best_steps,
            is_finished=self.budget.is_used_up or has_stalled(history, self.patience, self.best_by),
            history=history,
        )


def has_stalled(history: Sequence[Mapping[str, float]], patience: int | None, best_by: str) -> bool:
    """Whether the last `patience` evaluations of a run's epochs have brought no higher AP."""
    if patience is None:
        return False
    aps = [ap for row in history if math.isfinite(ap := row.get(AP_OF[best_by], math.nan))]
    return len(aps) > patience and max(aps[-patience:]) <= max(aps[:-patience])


class ProgressCallback(keras.callbacks.Callback):
    """A callback that sees how far the run is.

    Attributes:
        progress: set by `train` before the run begins. When a step or an epoch ends, it is counted already.
    """

    progress: RunProgress
