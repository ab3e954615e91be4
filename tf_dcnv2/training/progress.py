"""How far a training run is, and how much is left of it: whatever counts, shows or saves the run asks here."""

import dataclasses
import math
from collections.abc import Mapping

import keras

from tf_dcnv2.training.backups import RunState
from tf_dcnv2.training.budget import Budget
from tf_dcnv2.training.options import TrainOptions


@dataclasses.dataclass
class RunProgress:
    """The progress of a run while it trains.

    Attributes:
        budget: what the run may use, and what it has used at this moment.
        steps_per_epoch: optimizer steps of an epoch that the budget does not cut short.
        state: the run at the end of its last epoch, that of an earlier process included.
        epochs: epochs of the whole run, the last perhaps cut short; None if only time ends it.
    """

    budget: Budget
    steps_per_epoch: int
    state: RunState
    epochs: int | None = dataclasses.field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.budget.steps is not None:
            # An earlier process may have ended an epoch before its time.
            self.epochs = self.state.epochs + -(-(self.budget.steps - self.state.steps) // self.steps_per_epoch)

    @classmethod
    def begin(cls, options: TrainOptions, num_images: int, state: RunState) -> "RunProgress":
        """The progress of a run that begins, or goes on, now.

        Args:
            options: of the run.
            num_images: of the training set.
            state: that the run goes on from; `RunState()` for a new one.
        """
        steps_per_epoch = num_images // options.batch_size
        limits = [options.steps, options.epochs and options.epochs * steps_per_epoch]
        steps = min((limit for limit in limits if limit), default=None)
        return cls(Budget(steps, options.max_minutes, state.steps, state.seconds), steps_per_epoch, state)

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Brings `state` up to the end of an epoch.

        Args:
            epoch: counted from 0.
            logs: its losses and metrics; a `val_AP` higher than all before makes it the best.
        """
        steps, ap = self.budget.steps_done, logs.get("val_AP", math.nan)
        is_best = ap > self.state.best_ap
        self.state = RunState(
            steps=steps,
            epochs=epoch + 1,
            seconds=self.budget.seconds,
            best_ap=ap if is_best else self.state.best_ap,
            best_steps=steps if is_best else self.state.best_steps,
            is_finished=self.budget.progress >= 1.0,
            history=(*self.state.history, {"epoch": epoch, **logs}),
        )


class ProgressCallback(keras.callbacks.Callback):
    """A callback that sees how far the run is.

    Attributes:
        progress: set by `train` before the run begins. When a step or an epoch ends, it is counted already.
    """

    progress: RunProgress
