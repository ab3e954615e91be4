"""Training in half precision, with what has to be exact in float32."""

import csv
import io
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.sizes import TINY
from tf_dcnv2.training import TrainOptions, train

MASK_HEAD = {"mask_head.convolutions": 1, "mask_head.channels": 8, "mask_head.pool_size": 7}


@pytest.fixture
def options(synthetic_records, tmp_path, eagerly):
    def make(name, **changes):
        defaults = {
            "preset": "mask_rcnn_small_dcnv2",
            "train": synthetic_records,
            "output": str(tmp_path / name),
            "overrides": {**TINY, **MASK_HEAD},
            "mimic": True,
            "batch_size": 8,
            "short_side": 64,
            "max_side": 96,
            "warmup_steps": 0,
            "optimizer": "adam",
            "learning_rate": 3e-3,
            "ema": 0.5,
            "clip_norm": 10.0,
            "steps": 3,
            "pictures": 0,
            "tensorboard": False,
            "seed": 0,
        }
        return TrainOptions(**{**defaults, **changes})

    return make


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_a_run_in_half_precision_learns_and_is_saved_as_it_was_trained(options, precision):
    result = train(options("run", precision=precision))
    first, *_, last = csv.DictReader(io.StringIO((Path(options("run").output) / "log.csv").read_text()))
    assert float(last["loss"]) < float(first["loss"])
    assert keras.config.dtype_policy().name == "float32"  # of what comes after the run
    loaded = keras.saving.load_model(Path(options("run").output) / "last.keras", compile=False)
    assert loaded.dtype_policy.name == loaded.backbone.dtype_policy.name == precision
    assert all(weight.dtype == "float32" for weight in loaded.weights)
    images = np.zeros([1, 64, 96, 3], "float32")
    for name, value in result.detector(images).items():
        np.testing.assert_allclose(loaded(images)[name], value, rtol=1e-3, atol=1e-3)
