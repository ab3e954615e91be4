import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

from tests.support.eagerly import run_eagerly
from tests.support.sizes import TINY
from tf_dcnv2.data import convert_coco, make_synthetic_coco
from tf_dcnv2.models import FasterRCNN, MaskRCNN
from tf_dcnv2.training import RunFolder, RunState, TrainingDiverged, TrainOptions, resumed_options, train
from tf_dcnv2.training.checkpoints import run_variables
from tf_dcnv2.training.run import _detector_config, _make_optimizer
from tf_dcnv2.training.schedules import SCHEDULES, cosine_decay, step_decay


def options(records, folder, **changes) -> TrainOptions:
    defaults = {
        "preset": "faster_rcnn_small_dcnv2",
        "train": records,
        "val": records,
        "output": str(folder),
        "overrides": TINY,
        "optimizer": "sgd",
        "batch_size": 2,
        "short_side": 96,
        "max_side": 128,
        "warmup_steps": 0,
        "steps": 6,
        "evaluate_every": 0,
        "pictures": 0,
        "tensorboard": False,
        "seed": 0,
    }
    return TrainOptions(**{**defaults, **changes})


def test_a_run_leaves_detectors_configuration_and_log(synthetic_records, tmp_path):
    lines = []
    settings = options(synthetic_records, tmp_path / "run", pictures=2, tensorboard=True)
    result = train(settings, log=lambda topic, text: lines.append((topic, text)))
    assert result.steps == 6
    assert 0 <= result.metrics["bbox"]["AP50"] <= 1
    assert [topic for topic, _ in lines] == ["data", "model"]
    assert "9 modulated" not in lines[1][1] and "mimicking positive RoIs" in lines[1][1]
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} >= {"config.yaml", "best.keras", "last.keras", "log.csv"}
    assert len(list((folder / "pictures" / "epoch-0002").iterdir())) == 2
    assert len(list((folder / "tensorboard").iterdir())) == 1
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert tuple(category["id"] for category in config["categories"]) == result.detector.category_ids
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert {"loss", "mimic_loss", "val_AP"} <= set(rows[-1])
    loaded = keras.saving.load_model(folder / "last.keras")
    images = np.zeros([1, 96, 128, 3], "float32")
    np.testing.assert_allclose(loaded(images)["scores"], result.detector(images)["scores"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resume", [False, True])
def test_files_that_no_run_has_made_are_not_replaced(synthetic_records, tmp_path, resume):
    downloaded = tmp_path / "last.keras"
    downloaded.write_bytes(b"weights to start from")
    with pytest.raises(FileExistsError, match=r"holds no run, but last\.keras, which a run would replace"):
        train(options(synthetic_records, tmp_path, weights=str(downloaded), resume=resume))
    assert [path.name for path in tmp_path.iterdir()] == ["last.keras"]
    assert downloaded.read_bytes() == b"weights to start from"


@pytest.mark.parametrize(
    ("preset", "changes", "rois"),
    [
        ("faster_rcnn_small_dcnv1", {}, "none"),
        ("faster_rcnn_small_dcnv1", {"mimic": True}, "positive"),
        ("faster_rcnn_small_dcnv2", {"mimic": False}, "none"),
        ("faster_rcnn_small_dcnv2", {"mimic": True, "overrides": {**TINY, "mimic.rois": "all"}}, "all"),
    ],
)
def test_mimicking_follows_the_preset_unless_told_otherwise(preset, changes, rois):
    assert _detector_config(options("records", "run", preset=preset, **changes)).mimic.rois == rois


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("mimic", "rois"), [(True, "positive"), (False, "none")])
def test_a_run_trains_and_keeps_the_mimicking_that_it_is_told(synthetic_records, tmp_path, mimic, rois):
    train(options(synthetic_records, tmp_path / "run", val=None, steps=1, mimic=mimic))
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["detector"]["mimic"]["rois"] == rois
    with open(tmp_path / "run" / "log.csv") as file:
        assert ("mimic_loss" in next(csv.DictReader(file))) == mimic


@pytest.mark.usefixtures("eagerly")
def test_a_mask_rcnn_trains_with_a_falling_loss_and_is_scored_by_its_masks(synthetic_records, tmp_path):
    small_head = {"mask_head.convolutions": 1, "mask_head.channels": 8, "mask_head.pool_branch_units": 16}
    overrides = {**TINY, **small_head, "mask_head.pool_size": 7}
    settings = options(synthetic_records, tmp_path / "run", preset="mask_rcnn_small_dcnv2", overrides=overrides)
    result = train(dataclasses.replace(settings, optimizer="adam", learning_rate=3e-3, batch_size=4, steps=6))
    assert isinstance(result.detector, MaskRCNN)
    assert set(result.metrics) == {"bbox", "segm"}
    with open(tmp_path / "run" / "log.csv") as file:
        first, *_, last = csv.DictReader(file)
    assert 0 < float(last["mask_loss"]) < 0.7  # that of masks that say nothing is 0.693
    assert float(last["loss"]) < float(first["loss"])
    assert first["val_mask_AP"] == "nan"
    assert 0 <= float(last["val_mask_AP"]) <= 1


def test_a_folder_that_holds_a_run_is_not_overwritten(synthetic_records, tmp_path):
    (tmp_path / "config.yaml").write_text("kept")
    with pytest.raises(FileExistsError, match="holds another run"):
        train(options(synthetic_records, tmp_path))
    assert (tmp_path / "config.yaml").read_text() == "kept"


@pytest.mark.usefixtures("eagerly")
def test_a_run_lists_the_weights_that_it_starts_from(synthetic_records, tmp_path):
    keras.utils.set_random_seed(0)
    FasterRCNN.from_preset("faster_rcnn_small_regular", 2, **TINY).save(tmp_path / "start.keras")
    lines = {}
    start = str(tmp_path / "start.keras")
    train(
        options(synthetic_records, tmp_path / "run", val=None, steps=1, weights=start),
        log=lambda topic, text: lines.update({topic: text}),
    )
    assert re.fullmatch(
        rf"{re.escape(start)}: \d+ weights loaded, \d+ new, 4 skipped; weights.txt lists them", lines["weights"]
    )
    listed = (tmp_path / "run" / "weights.txt").read_text().splitlines()
    assert "loaded   conv1_conv/kernel" in listed
    assert "skipped  box_head/classifier/bias: shape (3,), the model has (5,)" in listed


def test_a_mistake_in_the_arguments_leaves_no_run_behind(synthetic_records, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        train(options(synthetic_records, tmp_path / "run", val=str(tmp_path / "nothing-here")))
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def finished_run(synthetic_records, tmp_path_factory):
    """A folder with a run of three steps, in epochs of two, and what `train` returned; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    with run_eagerly():
        return folder, train(options(synthetic_records, folder, optimizer="adam", batch_size=4, steps=3, ema=0.5))


@pytest.fixture
def finished_folder(finished_run, tmp_path):
    return Path(shutil.copytree(finished_run[0], tmp_path / "copy"))


def resumed(folder, **given) -> TrainOptions:
    return resumed_options(str(folder), given)


def content_of(folder) -> dict[str, tuple[bytes, int]]:
    """Content and time of writing of every file."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def weights_of(path) -> list[np.ndarray]:
    return keras.saving.load_model(path, compile=False).get_weights()


def assert_equal(weights, expected):
    for one, other in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_last_detector_is_the_one_that_was_evaluated(finished_run):
    folder, result = finished_run
    assert_equal(weights_of(folder / "last.keras"), result.detector.get_weights())


def test_resuming_a_finished_run_changes_nothing(finished_folder, finished_run):
    before, lines = content_of(finished_folder), {}
    result = train(resumed(finished_folder), log=lambda topic, text: lines.update({topic: text}))
    assert content_of(finished_folder) == before
    assert result.steps == 3
    assert_equal(result.detector.get_weights(), finished_run[1].detector.get_weights())
    assert "had used up its budget already: 3 steps" in lines["finished"]


class AtTheStart(keras.callbacks.Callback):
    """Notes with what a run begins."""

    def on_train_begin(self, logs=None):
        self.variables = [variable.numpy() for variable in run_variables(self.model)]

    def on_train_batch_begin(self, batch, logs=None):
        if not hasattr(self, "learning_rate"):
            self.learning_rate = float(self.model.optimizer.learning_rate)


@pytest.mark.usefixtures("eagerly")
def test_a_finished_run_with_more_steps_goes_on_from_its_weights_and_its_optimizers_state(finished_folder):
    saved, start, lines = RunFolder(finished_folder).backups.load(), AtTheStart(), []
    settings = resumed(finished_folder, steps=5, schedule="cosine")
    result = train(settings, callbacks=[start], log=lambda topic, text: lines.append((topic, text)))
    assert_equal(start.variables, saved.values)
    # The learning rate is that of 3 steps of 5 instead of the end.
    assert start.learning_rate == pytest.approx(1e-3 * cosine_decay(3 / 5), rel=1e-5)
    assert result.steps == 5
    assert ("changed", "steps is 5, was 3") in lines and ("changed", "schedule is cosine, was step") in lines
    state = RunFolder(finished_folder).backups.load_state()
    # The epoch that was cut short after step 3 ends where it would have ended, after step 4.
    assert (state.steps, state.epochs, state.is_finished) == (5, 4, True)
    assert state.best_ap >= saved.state.best_ap
    with open(finished_folder / "log.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]
    assert RunFolder(finished_folder).read_config()["options"]["steps"] == 5
    assert_equal(weights_of(finished_folder / "last.keras"), result.detector.get_weights())


def test_a_kill_before_the_last_file_of_a_run_is_made_good_without_training(finished_folder):
    (finished_folder / "state.json").unlink()
    before = weights_of(finished_folder / "last.keras")
    (finished_folder / "last.keras").unlink()
    result = train(resumed(finished_folder), callbacks=[FailingAtOnce()])
    assert result.steps == 3
    assert_equal(weights_of(finished_folder / "last.keras"), before)


class FailingAtOnce(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        raise RuntimeError("nothing works")


class ResumingAtTheSameTime(keras.callbacks.Callback):
    """Does what a second process would do that resumes the run while this one trains it."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.message = folder, None

    def on_train_batch_end(self, batch, logs=None):
        being_written = self.folder / "backup" / ".step-000000004.npz.a1b2c3_4.tmp"
        being_written.touch()
        with pytest.raises(RuntimeError) as error:
            train(resumed(self.folder, steps=4))
        self.message = str(error.value)
        being_written.unlink()


@pytest.mark.usefixtures("eagerly")
def test_a_run_that_is_alive_is_not_resumed_by_another_process(finished_folder):
    other = ResumingAtTheSameTime(finished_folder)
    assert train(resumed(finished_folder, steps=4), callbacks=[other]).steps == 4
    assert other.message.startswith(f"{finished_folder} is being trained by another process")


def test_a_resumed_run_that_fails_leaves_the_run_as_it_was(finished_folder, synthetic_records):
    before = (finished_folder / "config.yaml").read_bytes()
    with pytest.raises(FileNotFoundError, match="nothing-here"):
        train(resumed(finished_folder, steps=12, train="nothing-here"))
    with pytest.raises(ValueError, match="batch_size=4, not 2"):
        train(resumed(finished_folder, steps=12, batch_size=2))
    with pytest.raises(RuntimeError, match="nothing works"):
        train(resumed(finished_folder, steps=12), callbacks=[FailingAtOnce()])
    assert (finished_folder / "config.yaml").read_bytes() == before
    assert RunFolder(finished_folder).backups.load_state().steps == 3


def test_a_run_goes_on_with_its_own_images_only(finished_folder, tmp_path):
    images, annotations = make_synthetic_coco(tmp_path / "more", num_images=12, image_size=(96, 128), seed=0)
    convert_coco(images, annotations, tmp_path / "more" / "records")
    with pytest.raises(ValueError, match="`train` had 8 images with 28 boxes, now it has 12 images"):
        train(resumed(finished_folder, steps=12, train=str(tmp_path / "more" / "records")))


def swap_the_names_of_two(content):
    first, second, *_ = content["categories"]
    first["name"], second["name"] = second["name"], first["name"]


def correct_a_name(content):
    content["categories"][2]["name"] = "crescent"


def add_a_category(content):
    content["categories"].append({"id": 20, "name": "ring"})


def relabel_all_boxes(content):
    for annotation in content["annotations"]:
        annotation["category_id"] = 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_the_names_of_two, "category 2 was 'star', now it is 'cross'; category 5 was 'cross', now it is 'star'"),
        (correct_a_name, "category 11 was 'moon', now it is 'crescent'"),
        (add_a_category, "category 20 was missing, now it is 'ring'"),
        (relabel_all_boxes, "`train` had 8 images with 28 boxes, now it has other categories for its boxes"),
    ],
)
def test_a_run_goes_on_with_its_own_categories_only(finished_folder, tmp_path, change, message):
    images, annotations = make_synthetic_coco(tmp_path / "again", num_images=8, image_size=(96, 128), seed=0)
    prefix = str(tmp_path / "again" / "records")
    content = json.loads(Path(annotations).read_text())
    change(content)
    Path(annotations).write_text(json.dumps(content))
    convert_coco(images, annotations, prefix)
    before = content_of(finished_folder)
    with pytest.raises(ValueError, match=message):
        train(resumed(finished_folder, steps=12, train=prefix))
    assert content_of(finished_folder) == before


def test_a_run_without_a_backup_that_can_be_read_does_not_begin_again(finished_folder):
    (backup,) = (finished_folder / "backup").iterdir()
    for damage in (lambda: backup.write_bytes(b"damaged"), backup.unlink):
        damage()
        before = content_of(finished_folder)
        with pytest.raises(ValueError, match=r"cannot be resumed: .*backup holds no backup that can be read"):
            train(resumed(finished_folder))
        assert content_of(finished_folder) == before


@pytest.mark.usefixtures("eagerly")
def test_a_run_that_diverges_stops_with_the_last_weights_that_were_finite(synthetic_records, tmp_path):
    diverging = {"optimizer": "sgd", "learning_rate": 1e20, "steps": 40}
    with pytest.raises(TrainingDiverged, match=r"_loss is (nan|inf).* at step \d+ \(epoch \d\).*last.keras") as error:
        train(options(synthetic_records, tmp_path / "run", val=None, **diverging))
    assert re.search(r"rate of 1e\+20\. Its images are \d+, \d+\. The first .* not finite is the ", str(error.value))
    assert all(np.isfinite(weight).all() for weight in weights_of(tmp_path / "run" / "last.keras"))
    assert not (RunFolder(tmp_path / "run").backups.load_state() or RunState()).is_finished


class DivergingAfter(keras.callbacks.Callback):
    """Makes a weight NaN before the step after so many, as that step's gradient would have; notes what was before."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == self.steps:
            trained, optimizer = self.model.trainable_variables, self.model.optimizer
            averages = optimizer._model_variables_moving_average if self.steps else trained
            self.expected = {weight.path: average.numpy() for weight, average in zip(trained, averages, strict=True)}
            trained[0].assign(np.full(trained[0].shape, np.nan))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("steps", [0, 2])
def test_a_run_that_diverges_leaves_the_averages_of_its_weights_where_it_keeps_them(synthetic_records, tmp_path, steps):
    diverging = DivergingAfter(steps)
    with pytest.raises(TrainingDiverged, match=f"those of step {steps}, which were finite"):
        train(options(synthetic_records, tmp_path / "run", val=None, ema=0.5), callbacks=[diverging])
    saved = keras.saving.load_model(tmp_path / "run" / "last.keras", compile=False)
    for weight in saved.trainable_variables:
        np.testing.assert_array_equal(weight, diverging.expected[weight.path])


@pytest.mark.usefixtures("eagerly")
def test_records_with_fewer_images_than_described_are_no_success(synthetic_records, tmp_path):
    for path in Path(synthetic_records).parent.glob("records*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    sidecar = tmp_path / "records.json"
    description = json.loads(sidecar.read_text())
    description["shards"][0]["image_ids"] += range(1000, 1008)
    sidecar.write_text(json.dumps(description))
    with pytest.raises(tf.errors.OpError, match="expected to contain 16 elements but contained only 8"):
        train(options(str(tmp_path / "records"), tmp_path / "run", val=None, steps=12))


def test_weights_to_start_from_have_to_be_finite(synthetic_records, tmp_path):
    detector = FasterRCNN.from_preset("faster_rcnn_small_dcnv2", 4, **TINY)
    detector.box_head.fc1.bias.assign(np.full(detector.box_head.fc1.bias.shape, np.inf))
    detector.save(tmp_path / "start.keras")
    with pytest.raises(ValueError, match="start.keras: .*bias hold NaN or infinity"):
        train(options(synthetic_records, tmp_path / "run", weights=str(tmp_path / "start.keras")))
    assert not (tmp_path / "run").exists()


class Interrupt(keras.callbacks.Callback):
    """Stops the process' run as a kill would: without any of fit's closing steps."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("eagerly")
def test_a_run_that_was_killed_goes_on_where_it_stopped(synthetic_records, tmp_path):
    changes = {"preset": "faster_rcnn_small_regular", "batch_size": 4, "steps": None, "epochs": 3, "val": None}
    with pytest.raises(KeyboardInterrupt):
        train(options(synthetic_records, tmp_path / "run", **changes), callbacks=[Interrupt()])
    saved, start = RunFolder(tmp_path / "run").backups.load(), AtTheStart()
    result = train(options(synthetic_records, tmp_path / "run", **changes, resume=True), callbacks=[start])
    assert saved.state.steps == 2
    assert_equal(start.variables, saved.values)
    assert result.steps == 6
    with open(tmp_path / "run" / "log.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adagrad"}, "optimizer must be one of"),
        ({"batch_size": "many"}, "TrainOptions.batch_size must be a whole number. Received: 'many'"),
        ({"epochs": 0}, "epochs must be at least 1. Received: 0"),
        ({"max_minutes": float("nan")}, "max_minutes must be a finite number"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\)"),
        ({"seed": -1}, r"seed must be in \[0, 4294967295\]"),
        ({"canvas": (500, 640)}, r"canvas must be \(height, width\), multiples of 32. Received: \(500, 640\)"),
        ({"scale_range": (1.2, 0.8)}, r"scale_range must be \(low, high\) with low <= high. Received: \(1.2, 0.8\)"),
        ({"clip_norm": -1}, "clip_norm must be non-negative"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainOptions(preset="p", train="t", output="o", **changes)


def test_the_default_learning_rate_scales_with_the_batch():
    assert TrainOptions(preset="p", train="t", output="o", batch_size=16).peak_learning_rate == pytest.approx(0.02)
    assert TrainOptions(preset="p", train="t", output="o", batch_size=2).peak_learning_rate == pytest.approx(0.0025)


def test_the_default_recipe_is_the_papers():
    recipe = TrainOptions(preset="p", train="t", output="o", batch_size=16)
    assert (recipe.epochs, recipe.optimizer, recipe.schedule) == (16, "sgd", "step")
    optimizer = _make_optimizer(recipe)
    assert optimizer.momentum == pytest.approx(0.9)
    assert float(optimizer.learning_rate) == pytest.approx(0.02)
    assert not optimizer.nesterov
    assert SCHEDULES[recipe.schedule] is step_decay


def test_weight_decay_is_half_the_squared_norm_of_every_trained_kernel_times_1e_4():
    detector = FasterRCNN.from_preset("faster_rcnn_small_regular", 2, **TINY)
    kernels = [variable for variable in detector.trainable_variables if variable.name == "kernel"]
    expected = 1e-4 * sum(float(np.sum(np.square(kernel))) for kernel in kernels) / 2
    assert float(sum(detector.losses)) == pytest.approx(expected, rel=1e-4)
