"""One training run, from records to a folder with the trained detector."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import yaml

from tf_dcnv2.data import DatasetInfo, load_records, read_dataset_info
from tf_dcnv2.data.atomic_files import write_atomically
from tf_dcnv2.data.dataset_info import require_objects
from tf_dcnv2.models import FasterRCNN, FeatureMimicking, detector_class
from tf_dcnv2.models.presets import load_preset
from tf_dcnv2.training.budget import Budget, SpendBudget
from tf_dcnv2.training.checkpoints import CocoEvaluation, KeepDetectors
from tf_dcnv2.training.options import TrainOptions
from tf_dcnv2.training.schedules import SCHEDULES

Log = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a run leaves in memory.

    Attributes:
        detector: the trained one.
        metrics: of the last evaluation, as `evaluate_coco` returns them; None without one.
        steps, seconds: of the whole run.
    """

    detector: FasterRCNN
    metrics: dict[str, Any] | None
    steps: int
    seconds: float


def train(
    options: TrainOptions, *, log: Log | None = None, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> TrainResult:
    """Trains a preset on records and keeps everything in `options.output`.

    The folder then holds `config.yaml` (options, detector configuration, categories), `best.keras` (highest box AP on
    `val`) and `last.keras`, `log.csv` (losses and metrics by epoch), `weights.txt` (what was loaded from
    `options.weights`), and what `resume` needs.

    Args:
        options: see `TrainOptions`.
        log: called with a short topic and a line of text, for the user to read.
        callbacks: more Keras callbacks, such as a progress bar.

    Raises:
        FileExistsError: the folder holds another run, and `options.resume` is not set.
        FileNotFoundError, ValueError: records or settings are wrong; the message says which.
    """
    log = log or (lambda topic, text: None)
    state = _starting_point(options)
    info = read_dataset_info(options.train)
    require_objects(info, options.train)
    if options.seed is not None:
        keras.utils.set_random_seed(options.seed)
    overrides = _overrides(options)
    detector = detector_class(load_preset(options.preset).replace(**overrides)).from_preset(
        options.preset, category_ids=info.category_ids, weights=options.weights, **overrides
    )
    model = detector if detector.config.mimic.rois == "none" else FeatureMimicking(detector)
    training_data, validation_data = _datasets(options, detector, info)
    _write_config(options, detector, info)  # from here on the folder holds a run
    if detector.weight_report:
        write_atomically(
            os.path.join(options.output, "weights.txt"), "\n".join(detector.weight_report.details()) + "\n"
        )
    steps_per_epoch = info.num_images // options.batch_size
    log("data", str(info))
    for note in info.notes():
        log("note", note)
    log("model", _describe(options, detector))
    if detector.weight_report:
        log("weights", f"{options.weights}: {detector.weight_report}; weights.txt lists them")

    budget = Budget(_total_steps(options, steps_per_epoch), options.max_minutes, state["steps"], state["seconds"])
    model.compile(optimizer=_make_optimizer(options))
    results: list[dict[str, Any]] = []
    run_callbacks: list[keras.callbacks.Callback] = [
        keras.callbacks.BackupAndRestore(os.path.join(options.output, "backup")),
        SpendBudget(budget, options.peak_learning_rate, SCHEDULES[options.schedule], options.warmup_steps),
    ]
    if options.ema:
        run_callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if validation_data is not None:
        run_callbacks.append(CocoEvaluation(detector, validation_data, options.evaluate_every, results.append))
    run_callbacks += [
        KeepDetectors(detector, options.output, budget, state["best_ap"]),
        keras.callbacks.CSVLogger(os.path.join(options.output, "log.csv"), append=options.resume),
        *callbacks,
    ]
    model.fit(
        training_data, epochs=_most_epochs(budget, steps_per_epoch), callbacks=run_callbacks, verbose=0, shuffle=False
    )
    return TrainResult(detector, results[-1] if results else None, budget.steps_done, budget.seconds)


def _starting_point(options: TrainOptions) -> dict[str, Any]:
    """Zero, or where the run in the folder stopped if it is to be resumed."""
    start = {"steps": 0, "seconds": 0.0, "best_ap": -1.0}
    if os.path.exists(os.path.join(options.output, "config.yaml")):
        if not options.resume:
            raise FileExistsError(
                f"{options.output} holds another run. Choose another output folder, or resume that run."
            )
        path = os.path.join(options.output, "state.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return json.load(file)
    return start


def _overrides(options: TrainOptions) -> dict[str, Any]:
    sides = {"short_side": options.short_side, "max_side": options.max_side}
    overrides = {**options.overrides, **{name: side for name, side in sides.items() if side is not None}}
    if options.mimic is False:
        overrides["mimic.rois"] = "none"
    elif options.mimic and load_preset(options.preset).replace(**overrides).mimic.rois == "none":
        overrides["mimic.rois"] = "positive"
    return overrides


def _write_config(options: TrainOptions, detector: FasterRCNN, info: DatasetInfo) -> None:
    config = {
        "options": options.to_dict(),
        "detector": detector.config.to_dict(),
        "categories": [{"id": key, "name": name} for key, name in info.categories.items()],
        "orientation": info.orientation,
    }
    write_atomically(os.path.join(options.output, "config.yaml"), yaml.safe_dump(config, sort_keys=False))


def _datasets(
    options: TrainOptions, detector: FasterRCNN, info: DatasetInfo
) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
    common = {
        "batch_size": options.batch_size,
        "short_side": detector.config.short_side,
        "max_side": detector.config.max_side,
        "masks": detector.has_mask_head,
        "cache": options.cache,
    }
    training_data = load_records(
        options.train,
        training=True,
        vertical_flip=options.vertical_flip,
        scale_range=options.scale_range,
        color_jitter=options.color_jitter,
        seed=options.seed,
        **common,
    )
    return training_data, load_records(options.val, categories=info.categories, **common) if options.val else None


def _total_steps(options: TrainOptions, steps_per_epoch: int) -> int | None:
    budgets = [options.steps, options.epochs and options.epochs * steps_per_epoch]
    return min((steps for steps in budgets if steps), default=None)


def _most_epochs(budget: Budget, steps_per_epoch: int) -> int:
    """Enough epochs for the budget; `SpendBudget` ends the run inside the last one."""
    return -(-budget.steps // steps_per_epoch) if budget.steps else 1_000_000


def _make_optimizer(options: TrainOptions) -> keras.optimizers.Optimizer:
    arguments: dict[str, Any] = {"learning_rate": options.peak_learning_rate}
    if options.clip_norm:
        arguments["global_clipnorm"] = options.clip_norm
    if options.ema:
        arguments.update(use_ema=True, ema_momentum=options.ema)
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=0.9, **arguments)
    return {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[options.optimizer](**arguments)


def _describe(options: TrainOptions, detector: FasterRCNN) -> str:
    layers = len(detector.backbone.deformable_layers())
    kind = {"none": "deformable", "v1": "deformable", "v2": "modulated deformable"}[detector.config.backbone.dcn]
    parameters = detector.count_params() / 1e6
    rois = detector.config.mimic.rois
    mimicking = "no mimicking" if rois == "none" else f"mimicking {rois} RoIs"
    return f"{options.preset}: {parameters:.1f} M parameters, {layers} {kind} layers, {mimicking}"
