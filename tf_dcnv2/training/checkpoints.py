"""Evaluation during a run, and what the run keeps."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.evaluation import METRIC_NAMES, evaluate_coco
from tf_dcnv2.models import FasterRCNN
from tf_dcnv2.training.averages import AveragedWeights
from tf_dcnv2.training.backups import Backups
from tf_dcnv2.training.epochs import is_due_after
from tf_dcnv2.training.progress import RunProgress
from tf_dcnv2.training.run_folder import RunFolder
from tf_dcnv2.training.stop_requests import StopRequests
from tf_dcnv2.training.strategies import SharedDetector


class CocoEvaluation(keras.callbacks.Callback):
    """Scores the detector after every `every` epochs and after the last one.

    The numbers join the logs of `fit` as `val_AP`, `val_AP50` and so on for boxes, and as `val_mask_AP` and so on for
    masks where the detector has them; they are NaN for epochs without evaluation, so that a log file has the same
    columns from its first row on.

    Args:
        detector: what is evaluated; `model` of `fit` may be its `FeatureMimicking`. Or a function of its batches which
            says by `has_mask_head` whether it gives masks.
        dataset: batches of `load_records(..., training=False)`.
        every: epochs; 0 evaluates only once, at the end.
        on_result: called with the result of `evaluate_coco` after each evaluation.
    """

    def __init__(
        self,
        detector: FasterRCNN | SharedDetector,
        dataset: tf.data.Dataset,
        every: int = 1,
        on_result: Callable[[dict[str, Any]], None] | None = None,
    ):
        super().__init__()
        self._detector = detector
        self._dataset = dataset
        self._every = every
        self._on_result = on_result

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates if it is time for that, and adds the metrics to `logs`."""
        is_due = is_due_after(epoch, self._every, self)
        metrics = evaluate_coco(self._detector, self._dataset) if is_due else {}
        if logs is not None:
            for kind, prefix in {"bbox": "val_", "segm": "val_mask_"}.items():
                if kind == "bbox" or self._detector.has_mask_head:
                    numbers = metrics.get(kind, {})
                    logs.update({prefix + name: numbers.get(name, math.nan) for name in METRIC_NAMES})
        if is_due and self._on_result is not None:
            self._on_result(metrics)


class Checkpoints(keras.callbacks.Callback):
    """Writes a backup at the end of every epoch, and inside it whenever it is time for one.

    Args:
        backups: where they are written.
        progress: of the training; the end of an epoch is counted here.
        steps: after which a backup is written inside an epoch, or None.
        minutes: likewise.
        stop: asks to save what there is and to stop.
    """

    def __init__(
        self,
        backups: Backups,
        progress: RunProgress,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        stop: StopRequests | None = None,
    ):
        super().__init__()
        self._backups = backups
        self._progress = progress
        self._steps, self._minutes = steps, minutes
        self._stop = stop or StopRequests()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes a backup if it is time for one."""
        # What ends an epoch is kept once it has been evaluated.
        is_due = self._stop.received or self._progress.is_checkpoint_due(self._steps, self._minutes)
        if is_due and not self._progress.is_end_of_epoch:
            self._progress.pause()
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the epoch and writes a backup."""
        self._progress.end_epoch(epoch, {name: float(value) for name, value in (logs or {}).items()})
        self._save()

    def _save(self) -> None:
        # Every process reads them, since those of metrics are summed over all; the chief writes.
        values = [keras.ops.convert_to_numpy(variable) for variable in run_variables(self.model)]
        self._backups.save(self._progress.state, values)
        if self._stop.received or self._progress.state.is_finished:
            self.model.stop_training = True


class KeepRun(Checkpoints):
    """Keeps a run's progress in its folder: checkpoints, and at the end of an epoch what follows from them.

    `best.keras` is replaced only by a detector with a higher AP; without evaluation there is none.

    Args:
        run: the folder.
        detector: what is saved; `model` of `fit` may be its `FeatureMimicking`.
        progress: of the run.
        config: written after the first step, when training has really begun.
        averages: what the detector is saved with.
        **checkpoints: when to write a backup inside an epoch, see `Checkpoints`.
    """

    def __init__(
        self,
        run: RunFolder,
        detector: keras.Model,
        progress: RunProgress,
        config: dict[str, Any],
        averages: AveragedWeights,
        **checkpoints: Any,
    ):
        super().__init__(run.backups, progress, **checkpoints)
        self._run = run
        self._detector = detector
        self._config: dict[str, Any] | None = config
        self._averages = averages

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the configuration after the first step, and a backup if it is time for one."""
        if self._config is not None:
            self._run.write_config(self._config)
            self._config = None
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the backup and what follows from it."""
        super().on_epoch_end(epoch, logs)
        with self._averages.in_use():
            self._run.complete(self._progress.state, self._detector)


def training_variables(model: keras.Model) -> list[keras.Variable]:
    """Lists what a training step changes: weights and the optimizer's state."""
    if not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
    return [*model.weights, *model.optimizer.variables]


def run_variables(model: keras.Model) -> list[keras.Variable]:
    """Lists what a run inside an epoch goes on with: the same, and the means of the losses since the epoch began."""
    return [*training_variables(model), *model.metrics_variables]
