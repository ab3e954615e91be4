"""Evaluation during a run, and what the run keeps."""

import json
import math
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.data.atomic_files import write_atomically
from tf_dcnv2.evaluation import METRIC_NAMES, evaluate_coco
from tf_dcnv2.models import FasterRCNN
from tf_dcnv2.training.budget import Budget


def save_detector(detector: keras.Model, path: str) -> None:
    """Saves to `path` by way of a temporary name: an interrupted save leaves the previous file."""
    temporary = f"{path.removesuffix('.keras')}.partial.keras"
    detector.save(temporary)
    os.replace(temporary, path)


class CocoEvaluation(keras.callbacks.Callback):
    """Scores the detector after every `every` epochs and after the last one.

    The numbers join the logs of `fit` as `val_AP`, `val_AP50` and so on for boxes, and as `val_mask_AP` and so on for
    masks where the detector has them; they are NaN for epochs without evaluation, so that a log file has the same
    columns from its first row on.

    Args:
        detector: what is evaluated; `model` of `fit` may be its `FeatureMimicking`.
        dataset: batches of `load_records(..., training=False)`.
        every: epochs; 0 evaluates only once, at the end.
        on_result: called with the result of `evaluate_coco` after each evaluation.
    """

    def __init__(
        self,
        detector: FasterRCNN,
        dataset: tf.data.Dataset,
        every: int = 1,
        on_result: Callable[[dict[str, Any]], None] | None = None,
    ):
        super().__init__()
        self._detector = detector
        self._dataset = dataset
        self._every = every
        self._on_result = on_result

    def on_epoch_end(self, epoch, logs=None) -> None:
        is_last = self.model.stop_training or epoch + 1 == self.params.get("epochs")
        is_due = is_last or (self._every > 0 and (epoch + 1) % self._every == 0)
        metrics = evaluate_coco(self._detector, self._dataset) if is_due else {}
        if logs is not None:
            for kind, prefix in {"bbox": "val_", "segm": "val_mask_"}.items():
                if kind == "bbox" or self._detector.has_mask_head:
                    numbers = metrics.get(kind, {})
                    logs.update({prefix + name: numbers.get(name, math.nan) for name in METRIC_NAMES})
        if is_due and self._on_result is not None:
            self._on_result(metrics)


class KeepDetectors(keras.callbacks.Callback):
    """Keeps `last.keras` after every epoch, and `best.keras` whenever `val_AP` has improved.

    Without evaluation the last detector is the best. `state.json` records how far the run is, for resuming it.
    """

    def __init__(self, detector: keras.Model, folder: str, budget: Budget, best_ap: float = -1.0):
        super().__init__()
        self._detector = detector
        self._folder = folder
        self._budget = budget
        self.best_ap = best_ap

    def on_epoch_end(self, epoch, logs=None) -> None:
        save_detector(self._detector, os.path.join(self._folder, "last.keras"))
        ap = (logs or {}).get("val_AP")
        if ap is not None and ap > self.best_ap:
            self.best_ap = ap
            save_detector(self._detector, os.path.join(self._folder, "best.keras"))
        state = {"steps": self._budget.steps_done, "seconds": self._budget.seconds, "best_ap": self.best_ap}
        write_atomically(os.path.join(self._folder, "state.json"), json.dumps(state))
