"""The callbacks of a training run, in the order in which they see a step or an epoch end."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.models import FasterRCNN
from tf_dcnv2.models.parts import deformable_convolutions
from tf_dcnv2.training.agreement import Agreement
from tf_dcnv2.training.averages import AveragedWeights
from tf_dcnv2.training.budget import SpendBudget
from tf_dcnv2.training.checkpoints import CocoEvaluation, KeepRun
from tf_dcnv2.training.nan_guard import NaNGuard
from tf_dcnv2.training.offset_monitor import OffsetMonitor
from tf_dcnv2.training.options import TrainOptions
from tf_dcnv2.training.pictures import DetectionPictures
from tf_dcnv2.training.progress import ProgressCallback, RunProgress
from tf_dcnv2.training.run_data import first_image
from tf_dcnv2.training.run_folder import RunFolder
from tf_dcnv2.training.schedules import SCHEDULES
from tf_dcnv2.training.strategies import Devices, SharedDetector
from tf_dcnv2.training.summaries import TensorBoardSummaries


@dataclasses.dataclass(frozen=True)
class RunParts:
    """What the callbacks of a run watch, change and write.

    Attributes:
        run: its folder.
        options: what it was asked for.
        config: what the folder says of it, see `RunFolder.write_config`.
        names: category id -> name.
        devices: that compute it.
        agreement: of its processes.
        progress: how far it is.
        detector: that is trained.
        averages: of the detector's weights.
        training_data: batches from a `start_step` on.
        validation_data: batches to evaluate on; None if there are none.
    """

    run: RunFolder
    options: TrainOptions
    config: dict[str, Any]
    names: Mapping[int, str]
    devices: Devices
    agreement: Agreement
    progress: RunProgress
    detector: FasterRCNN
    averages: AveragedWeights
    training_data: Callable[..., tf.data.Dataset]
    validation_data: tf.data.Dataset | None


def run_callbacks(
    parts: RunParts,
    more: Sequence[keras.callbacks.Callback],
    *,
    on_metrics: Callable[[dict[str, Any]], None],
    on_warning: Callable[[str], None],
) -> list[keras.callbacks.Callback]:
    """Makes the callbacks of a run.

    Args:
        parts: of the run.
        more: the user's callbacks, which come last and see whatever the others have put into the logs.
        on_metrics: called with what `evaluate_coco` returns after each evaluation.
        on_warning: called with a sentence for the user about offsets that seem to diverge.
    """
    options, progress, averages = parts.options, parts.progress, parts.averages
    for callback in more:
        if isinstance(callback, ProgressCallback):
            callback.progress = progress
    steps_before = progress.budget.steps_done
    return [
        parts.agreement,
        NaNGuard(batch_at=lambda step: next(iter(parts.training_data(start_step=steps_before + step)))),
        SpendBudget(progress.budget, options.peak_learning_rate, SCHEDULES[options.schedule], options.warmup_steps),
        *averages.around(_evaluation(parts, on_metrics, on_warning)),
        KeepRun(
            parts.run,
            parts.detector,
            progress,
            parts.config,
            averages,
            steps=options.checkpoint_steps,
            minutes=options.checkpoint_minutes,
            stop=parts.agreement.stop,
        ),
        *averages.around(list(more)),
    ]


def _evaluation(
    parts: RunParts, on_metrics: Callable[[dict[str, Any]], None], on_warning: Callable[[str], None]
) -> list[keras.callbacks.Callback]:
    """What looks at the detector when an epoch has ended: scores, offsets, pictures, and TensorBoard of them all."""
    options, devices = parts.options, parts.devices
    detector = parts.detector if devices.replicas == 1 else SharedDetector(parts.detector, devices)
    summaries = TensorBoardSummaries(parts.run.summaries) if options.tensorboard and devices.is_chief else None
    callbacks: list[keras.callbacks.Callback] = []
    if parts.validation_data is not None:
        callbacks.append(CocoEvaluation(detector, parts.validation_data, options.evaluate_every, on_metrics))
    if deformable_convolutions(parts.detector.backbone):
        callbacks.append(OffsetMonitor(parts.detector, first_image(options, parts.detector), on_warning=on_warning))
    if parts.validation_data is not None and options.pictures:
        callbacks.append(
            DetectionPictures(
                detector,
                parts.validation_data,
                parts.run.pictures if devices.is_chief else None,
                count=options.pictures,
                every=options.evaluate_every,
                names=parts.names,
                on_pictures=summaries and summaries.add_pictures,
            )
        )
    if summaries is not None:
        callbacks.append(summaries)
    return callbacks
