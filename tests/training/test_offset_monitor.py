"""The monitor tells how far deformable layers reach, and warns where they reach too far."""

import math

import keras
import numpy as np
import pytest

from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D
from tf_dcnv2.training import OffsetMonitor

IMAGE = np.random.default_rng(0).uniform(size=[16, 16, 3])


@pytest.fixture
def model():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3, strides=2, padding="same"),
            DeformableConv2D(4, 3, padding="same", name="first"),
            ModulatedDeformableConv2D(4, 3, padding="same", name="second"),
        ]
    )
    model.compile("sgd", "mse")
    return model


def shift(layer, dy, dx):
    """Gives all taps of a layer the same offset."""
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    layer.offset_bias.assign(np.concatenate([np.tile([dy, dx], taps), np.zeros(layer.offset_bias.shape[0] - 2 * taps)]))


def look(monitor, epoch=0):
    logs = {}
    monitor.on_epoch_end(epoch, logs)
    return logs


def test_lengths_are_in_pixels_and_modulation_is_its_mean(model):
    shift(model.get_layer("first"), 0.3, 0.4)  # half a cell, which is a pixel
    results = []
    logs = look(OffsetMonitor(model, IMAGE, on_result=results.append))
    assert logs["offset_mean"] == pytest.approx(0.5) and logs["offset_p99"] == pytest.approx(1.0)
    assert logs["modulation"] == pytest.approx(0.5)
    assert [layer.layer for layer in results[0]] == ["first", "second"]
    assert logs["offset_outside"] == max(layer.outside for layer in results[0]) < 0.3


def test_a_layer_that_reaches_across_its_map_is_warned_of_once(model):
    said = []
    monitor = OffsetMonitor(model, IMAGE, on_warning=said.append)
    look(monitor)
    assert not said
    shift(model.get_layer("second"), 5.0, 0.0)
    look(monitor), look(monitor)
    assert len(said) == 1
    assert said[0].startswith("The offsets of second may be diverging: 1 % of them are longer than 5.0 cells, on a map")
    shift(model.get_layer("first"), 0.0, -50.0)
    assert look(monitor)["offset_outside"] == 1.0
    assert len(said) == 2 and "100 % of the samples lie beyond it" in said[1]


def test_by_default_it_is_a_warning_of_python(model):
    shift(model.get_layer("second"), 5.0, 0.0)
    with pytest.warns(UserWarning, match="The offsets of second may be diverging"):
        look(OffsetMonitor(model, IMAGE))


def test_fit_logs_it_and_marks_the_epochs_that_were_left_out(model):
    x, y = np.zeros([4, 16, 16, 3]), np.zeros([4, 8, 8, 4])
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[OffsetMonitor(model, IMAGE, every=2)]).history
    assert [math.isnan(value) for value in history["offset_p99"]] == [True, False, True]


def test_a_model_without_deformable_layers_has_no_offsets():
    model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3)])
    logs = look(OffsetMonitor(model, IMAGE))
    assert (logs["offset_mean"], logs["offset_p99"], logs["offset_outside"]) == (0, 0, 0)
    assert math.isnan(logs["modulation"])


def test_every_is_checked(model):
    with pytest.raises(ValueError, match="every must be at least 1. Received: 0"):
        OffsetMonitor(model, IMAGE, every=0)
