"""One training run, from records to a folder with the trained detector."""

import dataclasses
import functools
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.data import DatasetInfo, read_dataset_info
from tf_dcnv2.data.records.dataset_info import require_objects
from tf_dcnv2.models import DetectorConfig, FasterRCNN, FeatureMimicking, load_preset, load_weights
from tf_dcnv2.models.parts import deformable_convolutions
from tf_dcnv2.models.presets import preset_model_name
from tf_dcnv2.models.weights import require_finite_weights
from tf_dcnv2.training.agreement import Agreement, require_same_state
from tf_dcnv2.training.averages import AveragedWeights
from tf_dcnv2.training.backups import Backup, RunState
from tf_dcnv2.training.checkpoints import run_variables
from tf_dcnv2.training.epochs import EpochsOfRun
from tf_dcnv2.training.followed_run import FollowedRun
from tf_dcnv2.training.nan_guard import TrainingDiverged
from tf_dcnv2.training.options import BUDGETS, TrainOptions
from tf_dcnv2.training.precision import made_in
from tf_dcnv2.training.progress import RunProgress, has_stalled
from tf_dcnv2.training.resuming import changes, describe_data, finished_state, require_same_classes, require_same_data
from tf_dcnv2.training.run_callbacks import RunParts, run_callbacks
from tf_dcnv2.training.run_data import load_data
from tf_dcnv2.training.run_folder import RunFolder
from tf_dcnv2.training.stop_requests import StopRequests, TrainingStopped, stop_requests
from tf_dcnv2.training.strategies import Devices, make_devices

Log = Callable[[str, str], None]


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """The result of a run in memory.

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

    The folder then holds `config.yaml` (options, detector configuration, categories), `best.keras` (highest AP on
    `val`) and `last.keras`, `log.csv` (losses and metrics by epoch), `pictures` of detections in `val`, `tensorboard`
    (the same for TensorBoard), `weights.txt` (what was loaded from `options.weights`), and what `resume` needs. A kill
    at any moment leaves a run that can be resumed from its last checkpoint, and sees the images in the order in which
    it would have seen them; SIGINT and SIGTERM write one and end the run. Resuming a finished run changes nothing,
    unless it is given a larger budget.

    Args:
        options: see `TrainOptions`.
        log: called with a short topic and a line of text, for the user to read.
        callbacks: more Keras callbacks, such as a progress bar. A `ProgressCallback` sees how far the run is. Of
            several processes that train together, the first one has them.

    Raises:
        FileExistsError: the folder holds another run, and `options.resume` is not set; or it holds files of other
            origin that a run would replace.
        FileNotFoundError, ValueError: records or settings are wrong, or are not those of the run that is resumed; the
            message says which.
        TrainingStopped: SIGINT or SIGTERM ended the run, which is saved.
        TrainingDiverged: a loss or weight became NaN or infinite; `last.keras` has the weights before that step.
        RuntimeError: another process is training in the folder.
        WorkerLost: a process that trained together with this one has ended.
        OSError: the folder cannot be written, such as on a full disk.
    """
    log = log or (lambda topic, text: None)
    run = RunFolder(options.output)
    if (finished := finished_state(options)) is not None:
        log("finished", describe_finished(options, finished))
        detector = keras.saving.load_model(run.last, compile=False)
        return TrainResult(detector, None, finished.steps, finished.seconds)
    devices = make_devices(options)
    if not devices.is_chief:
        run, callbacks = FollowedRun(options.output), ()
        log("worker", f"number {devices.worker + 1} of {devices.workers}; the first one writes and tells more")
        log = _only("stopping", log)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()

    def announce(signal_name: str) -> None:
        log("stopping", f"{signal_name}: the run is saved after this step. Once more ends it at once.")

    with run.in_use(), stop_requests(announce) as stop, devices.in_use():
        return _train(run, _with_seed(options, run, devices), devices, log, callbacks, stop)


def _train(
    run: RunFolder,
    options: TrainOptions,
    devices: Devices,
    log: Log,
    callbacks: Sequence[keras.callbacks.Callback],
    stop: StopRequests,
) -> TrainResult:
    """Does the work of `train` while nobody else writes to the folder."""
    info = read_dataset_info(options.train)
    require_objects(info, options.train)
    data = {"train": describe_data(options.train), "val": describe_data(options.val)}
    backup, changed = _where_it_stopped(run, options, info, data)
    state = backup.state if backup else RunState()
    require_same_state(run, state, devices)
    keras.utils.set_random_seed(options.seed)
    settings = _detector_config(options)
    _require_evaluations(options, settings)
    with made_in(options.precision):
        detector = _make_detector(options, settings, info, weights=None if backup else options.weights)
        model = detector if settings.mimic.rois == "none" else FeatureMimicking(detector, settings.mimic)
    model.compile(optimizer=_make_optimizer(options), accumulate=options.accumulate)
    devices.synchronize(model)
    averages = AveragedWeights(model)
    training_data, validation_data = load_data(options, detector, info)
    config = _configuration(options, settings, info, data)
    _announce(log, options, settings, detector, info, devices)
    run.remove_leftovers()
    if backup:
        backup.restore(run_variables(model))
        with averages.in_use():
            run.complete(state, detector)
        log("resume", f"after {state.steps} steps, {state.epochs} epochs and {state.seconds / 60:.1f} minutes")
        for change in changed:
            log("changed", change)
    elif not run.holds_a_run():
        run.write_config(config)  # from here on the folder holds a run
    if detector.weight_report:
        run.write_weight_report(detector.weight_report.details())
        log("weights", f"{options.weights}: {detector.weight_report}; weights.txt lists them")

    agreement = Agreement(devices, stop)
    progress = RunProgress.begin(options, info.num_images, state, agreement.clock)
    parts = RunParts(
        run=run,
        options=options,
        config=config,
        names=info.categories,
        devices=devices,
        agreement=agreement,
        progress=progress,
        detector=detector,
        averages=averages,
        training_data=training_data,
        validation_data=validation_data,
    )
    results: list[dict[str, Any]] = []
    watching = run_callbacks(parts, callbacks, on_metrics=results.append, on_warning=functools.partial(log, "warning"))
    budget = progress.budget
    try:
        if budget.progress < 1.0:
            # One endless epoch: the budget ends the run.
            own_share = training_data(start_step=state.steps, share=(devices.worker, devices.workers))
            model.fit(
                devices.distribute(own_share),
                callbacks=[EpochsOfRun(progress, watching)],
                verbose=0,
                shuffle=False,
            )
    except TrainingDiverged as error:
        with averages.in_use():
            run.save_last(detector)
        raise TrainingDiverged(f"{error} They are in {run.last}.") from error
    if agreement.stop.received and not progress.state.is_finished:
        raise TrainingStopped(agreement.stop.received, budget.steps_done)
    return TrainResult(detector, results[-1] if results else None, budget.steps_done, budget.seconds)


def describe_finished(options: TrainOptions, state: RunState) -> str:
    """Says that the run of `options` has nothing left to do, and what would give it more."""
    if has_stalled(state.history, options.patience, options.best_by):
        return (
            f"{options.output} had ended after {state.steps} steps: the last {options.patience} evaluations brought no "
            "higher AP. Nothing was changed. It goes on with --resume and a larger --patience."
        )
    given = " or ".join(f"--{name.replace('_', '-')}" for name in BUDGETS if getattr(options, name) is not None)
    return (
        f"{options.output} had used up its budget already: {state.steps} steps in {state.seconds / 60:.1f} minutes. "
        f"Nothing was changed. It goes on with --resume and a larger {given}."
    )


def _require_evaluations(options: TrainOptions, settings: DetectorConfig) -> None:
    """Checks that there will be the evaluations that the options ask about."""
    if options.best_by == "mask" and settings.mask_head is None:
        raise ValueError(f"best_by='mask' needs a Mask R-CNN. Received: preset={options.preset!r}")
    if options.patience is not None and (options.val is None or not options.evaluate_every):
        raise ValueError(
            "patience counts evaluations: give val, and evaluate_every of at least 1. Received: "
            f"patience={options.patience}, val={options.val!r}, evaluate_every={options.evaluate_every}"
        )


def _only(wanted: str, log: Log) -> Log:
    """A log of the lines of one topic."""
    return lambda topic, text: log(topic, text) if topic == wanted else None


def _with_seed(options: TrainOptions, run: RunFolder, devices: Devices) -> TrainOptions:
    """The options with a seed: that of the run that is resumed, or one by chance, which the run will keep."""
    if options.seed is not None:
        return options
    saved = run.read_config()["options"].get("seed") if options.resume and run.holds_a_run() else None
    (seed,) = devices.from_chief([secrets.randbits(32) if saved is None else saved])
    return dataclasses.replace(options, seed=int(seed))


def _where_it_stopped(
    run: RunFolder, options: TrainOptions, info: DatasetInfo, data: dict[str, Any]
) -> tuple[Backup | None, list[str]]:
    """The backup to go on from, None for a new run, and what is different from now on."""
    if not run.holds_a_run():
        run.refuse_foreign_files()
        return None, []
    if not options.resume:
        raise FileExistsError(f"{run} holds another run. Choose another output folder, or resume that run.")
    config = run.read_config()
    backup = run.backups.load()
    if backup is None and run.lacks_its_backup():
        raise ValueError(
            f"{run} cannot be resumed: {run.path / 'backup'} holds no backup that can be read. Another run can start "
            f"from its weights: weights={run.last}."
        )
    if backup is None:
        return None, []  # it was stopped before its first epoch had ended
    require_same_classes(config, info)
    require_same_data(config, data)
    return backup, changes(options, config)


def _make_detector(
    options: TrainOptions, settings: DetectorConfig, info: DatasetInfo, weights: str | None
) -> FasterRCNN:
    detector = settings.build(info.category_ids, name=preset_model_name(options.preset))
    if weights is not None:
        detector.weight_report = load_weights(detector, weights)
    require_finite_weights(detector, f"weights={weights}")
    return detector


def _detector_config(options: TrainOptions) -> DetectorConfig:
    """The preset with the changes that the options make."""
    sides = {"short_side": options.short_side, "max_side": options.max_side}
    given = {name: side for name, side in sides.items() if side is not None}
    config = load_preset(options.preset).replace(**options.overrides, **given)
    if options.mimic is False:
        return config.replace(**{"mimic.rois": "none"})
    if options.mimic and config.mimic.rois == "none":
        return config.replace(**{"mimic.rois": "positive"})
    return config


def _configuration(
    options: TrainOptions, settings: DetectorConfig, info: DatasetInfo, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "options": {name: value for name, value in options.to_dict().items() if name != "resume"},
        "detector": settings.to_dict(),
        "categories": [{"id": key, "name": name} for key, name in info.categories.items()],
        "orientation": info.orientation,
        "data": data,
    }


def _make_optimizer(options: TrainOptions) -> keras.optimizers.Optimizer:
    arguments: dict[str, Any] = {"learning_rate": options.peak_learning_rate}
    if options.clip_norm:
        arguments["global_clipnorm"] = options.clip_norm
    if options.ema:
        arguments.update(use_ema=True, ema_momentum=options.ema)
    if options.optimizer == "sgd":
        return keras.optimizers.SGD(momentum=0.9, **arguments)
    return {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[options.optimizer](**arguments)


def _announce(
    log: Log,
    options: TrainOptions,
    settings: DetectorConfig,
    detector: FasterRCNN,
    info: DatasetInfo,
    devices: Devices,
) -> None:
    """Tells what is about to be trained, on what."""
    log("data", str(info))
    for note in info.notes():
        log("note", note)
    log("model", _describe(options, settings, detector))
    if devices.replicas > 1:
        log("devices", str(devices))


def _describe(options: TrainOptions, settings: DetectorConfig, detector: FasterRCNN) -> str:
    layers = len(deformable_convolutions(detector.backbone))
    kind = "modulated deformable" if settings.backbone.dcn == "v2" else "deformable"
    parameters = detector.count_params() / 1e6
    rois = settings.mimic.rois
    mimicking = "no mimicking" if rois == "none" else f"mimicking {rois} RoIs"
    return f"{options.preset}: {parameters:.1f} M parameters, {layers} {kind} layers, {mimicking}"
