"""Every preset builds and detects; minutes, not seconds."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.models.presets import load_preset, preset_names

pytestmark = pytest.mark.slow


def networks() -> dict[str, str]:
    """One name of each network: presets that differ in mimicking or image size build the same."""
    names = {}
    for name in preset_names():
        config = load_preset(name).replace(**{"mimic.rois": "none", "short_side": 128, "max_side": 128})
        names.setdefault(config, name)
    return list(names.values())


@pytest.mark.parametrize("name", networks())
def test_a_preset_detects_with_the_documented_shapes(name):
    keras.backend.clear_session()
    config = load_preset(name).replace(**{"rpn.proposals": [20, 20], "box_head.score_threshold": 0.0})
    detector = config.build(category_ids=(1, 2, 3))
    detections = detector(tf.random.uniform([2, 128, 96, 3], 0, 255), tf.constant([[128.0, 96.0], [100.0, 90.0]]))
    expected = {"boxes": (2, 100, 4), "scores": (2, 100), "classes": (2, 100), "num_detections": (2,)}
    if name.startswith("mask_rcnn"):
        expected["masks"] = (2, 100, 28, 28)
    assert {key: tuple(value.shape) for key, value in detections.items()} == expected
    assert all(np.isfinite(value).all() for value in detections.values())
    assert np.all(detections["num_detections"] > 0)
