import csv

import keras
import numpy as np
import pytest
import yaml

from tests.training.conftest import TINY
from tf_dcnv2.training import TrainOptions, train


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
    assert 0 <= result.metrics["AP50"] <= 1
    assert [topic for topic, _ in lines] == ["data", "model"]
    assert "9 modulated" not in lines[1][1] and "mimicking on" in lines[1][1]
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


def test_a_folder_that_holds_a_run_is_not_overwritten(synthetic_records, tmp_path):
    (tmp_path / "config.yaml").write_text("kept")
    with pytest.raises(FileExistsError, match="holds another run"):
        train(options(synthetic_records, tmp_path))
    assert (tmp_path / "config.yaml").read_text() == "kept"


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
        ({"epochs": 0}, "epochs must be positive. Received: 0"),
        ({"max_minutes": float("nan")}, "max_minutes must be positive"),
        ({"ema": 1.0}, r"ema must be in \[0, 1\)"),
        ({"clip_norm": -1}, "clip_norm must not be negative"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainOptions(preset="p", train="t", output="o", **changes)


def test_the_default_learning_rate_scales_with_the_batch():
    assert TrainOptions(preset="p", train="t", output="o", batch_size=16).peak_learning_rate == pytest.approx(0.02)
    assert TrainOptions(preset="p", train="t", output="o", batch_size=2).peak_learning_rate == pytest.approx(0.0025)
