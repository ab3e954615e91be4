import csv
import dataclasses
import re

import keras
import numpy as np
import pytest
import yaml

from tests.training.conftest import TINY
from tf_dcnv2.models import FasterRCNN, MaskRCNN
from tf_dcnv2.training import TrainOptions, train
from tf_dcnv2.training.run import _make_optimizer
from tf_dcnv2.training.schedules import SCHEDULES, step_decay


def options(records, folder, **changes) -> TrainOptions:
    defaults = {
        "preset": "faster_rcnn_small_dcnv2",
        "train": records,
        "val": records,
        "output": str(folder),
        "overrides": TINY,
        "optimizer": "adam",
        "batch_size": 2,
        "short_side": 96,
        "max_side": 128,
        "warmup_steps": 0,
        "steps": 6,
        "evaluate_every": 0,
        "seed": 0,
    }
    return TrainOptions(**{**defaults, **changes})


def test_a_run_leaves_detectors_configuration_and_log(synthetic_records, tmp_path):
    lines = []
    result = train(options(synthetic_records, tmp_path / "run"), log=lambda topic, text: lines.append((topic, text)))
    assert result.steps == 6
    assert 0 <= result.metrics["bbox"]["AP50"] <= 1
    assert [topic for topic, _ in lines] == ["data", "model"]
    assert "9 modulated" not in lines[1][1] and "mimicking positive RoIs" in lines[1][1]
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} >= {"config.yaml", "best.keras", "last.keras", "log.csv"}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert tuple(category["id"] for category in config["categories"]) == result.detector.category_ids
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert {"loss", "mimic_loss", "val_AP"} <= set(rows[-1])
    loaded = keras.saving.load_model(folder / "last.keras")
    images = np.zeros([1, 96, 128, 3], "float32")
    np.testing.assert_allclose(loaded(images)["scores"], result.detector(images)["scores"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("preset", "changes", "rois"),
    [
        ("faster_rcnn_small_dcnv1", {}, "none"),
        ("faster_rcnn_small_dcnv1", {"mimic": True}, "positive"),
        ("faster_rcnn_small_dcnv2", {"mimic": False}, "none"),
        ("faster_rcnn_small_dcnv2", {"mimic": True, "overrides": {**TINY, "mimic.rois": "all"}}, "all"),
    ],
)
def test_mimicking_follows_the_preset_unless_told_otherwise(synthetic_records, tmp_path, preset, changes, rois):
    settings = options(synthetic_records, tmp_path / "run", preset=preset, val=None, steps=1, **changes)
    result = train(settings)
    assert result.detector.config.mimic.rois == rois
    with open(tmp_path / "run" / "log.csv") as file:
        assert ("mimic_loss" in next(csv.DictReader(file))) == (rois != "none")


def test_a_mask_rcnn_trains_with_a_falling_loss_and_is_scored_by_its_masks(synthetic_records, tmp_path):
    small_head = {"mask_head.convolutions": 1, "mask_head.channels": 8, "mask_head.pool_branch_units": 16}
    overrides = {**TINY, **small_head, "mask_head.pool_size": 7}
    settings = options(synthetic_records, tmp_path / "run", preset="mask_rcnn_small_dcnv2", overrides=overrides)
    result = train(dataclasses.replace(settings, steps=8))
    assert isinstance(result.detector, MaskRCNN)
    assert set(result.metrics) == {"bbox", "segm"}
    with open(tmp_path / "run" / "log.csv") as file:
        first, last = csv.DictReader(file)
    assert 0 < float(last["mask_loss"]) < 0.7  # that of masks that say nothing is 0.693
    assert float(last["loss"]) < float(first["loss"])
    assert first["val_mask_AP"] == "nan"
    assert 0 <= float(last["val_mask_AP"]) <= 1


def test_a_folder_that_holds_a_run_is_not_overwritten(synthetic_records, tmp_path):
    (tmp_path / "config.yaml").write_text("kept")
    with pytest.raises(FileExistsError, match="holds another run"):
        train(options(synthetic_records, tmp_path))
    assert (tmp_path / "config.yaml").read_text() == "kept"


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


class Interrupt(keras.callbacks.Callback):
    """Stops the process' run as a kill would: without any of fit's closing steps."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def test_a_run_that_was_killed_goes_on_where_it_stopped(synthetic_records, tmp_path):
    settings = options(synthetic_records, tmp_path / "run", steps=None, epochs=3, val=None)
    with pytest.raises(KeyboardInterrupt):
        train(settings, callbacks=[Interrupt()])
    resumed = train(options(synthetic_records, tmp_path / "run", steps=None, epochs=3, val=None, resume=True))
    assert resumed.steps == 12
    with open(tmp_path / "run" / "log.csv") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adagrad"}, "optimizer must be one of"),
        ({"batch_size": "many"}, "TrainOptions.batch_size must be a whole number. Received: 'many'"),
        ({"epochs": 0}, "epochs must be positive. Received: 0"),
        ({"max_minutes": float("nan")}, "max_minutes must be a finite number"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\)"),
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
