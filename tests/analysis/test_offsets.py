import keras
import numpy as np
import pytest

from tests.analysis.conftest import set_offsets
from tf_dcnv2.analysis import offset_statistics, predicted_offsets
from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D


def test_offsets_and_modulation_come_as_they_were_predicted(sequential, rng):
    model = sequential(
        DeformableConv2D(2, 3, padding="same", name="first"),
        ModulatedDeformableConv2D(2, 1, deformable_groups=2, name="second"),
    )
    moves, weights = rng.uniform(-2, 2, [9, 2]), np.array([0.25, 0.75])
    set_offsets(model.layers[0], moves)
    set_offsets(model.layers[1], np.array([[0.0, 3.0], [4.0, 0.0]]), weights)
    first, second = predicted_offsets(model, rng.uniform(size=[6, 7, 1]))
    assert first.layer == "first" and first.offsets.shape == (6, 7, 1, 9, 2) and first.modulation is None
    np.testing.assert_allclose(first.offsets[3, 4, 0], moves, rtol=1e-5)
    assert second.layer == "second" and second.offsets.shape == (6, 7, 2, 1, 2)
    np.testing.assert_allclose(second.modulation[2, 2, :, 0], weights, rtol=1e-5)
    # 3 of 7 columns are moved off the right side, 4 of 6 rows off the lower one.
    np.testing.assert_array_equal(second.outside.mean(axis=(0, 1))[:, 0], [3 / 7, 4 / 6])


def test_offsets_tell_how_many_pixels_a_cell_has(sequential, detectors, image, rng):
    model = sequential(
        keras.layers.Conv2D(2, 3, strides=(2, 4), padding="same"),
        DeformableConv2D(2, 3, strides=2, padding="same", name="deformable"),
    )
    (layer,) = predicted_offsets(model, rng.uniform(size=[16, 32, 1]))
    assert layer.pixels == (2, 4)  # of its input, not of its output
    assert predicted_offsets(detectors["v2"], image)[-1].pixels == (1, 1)  # RoI pooling


def test_statistics_of_known_offsets(sequential, rng):
    model = sequential(ModulatedDeformableConv2D(2, 1, deformable_groups=2, name="conv"), channels=2)
    set_offsets(model.layers[0], np.array([[0.0, 3.0], [-4.0, 0.0]]), np.array([0.25, 0.75]))
    (numbers,) = offset_statistics(model, rng.uniform(size=[6, 7, 2]))
    assert numbers.layer == "conv"
    np.testing.assert_allclose([numbers.mean, numbers.p99, numbers.largest], [3.5, 4, 4], rtol=1e-5)
    np.testing.assert_allclose(numbers.outside, (3 / 7 + 4 / 6) / 2)
    np.testing.assert_allclose(numbers.modulation, 0.5, rtol=1e-5)
    np.testing.assert_allclose(numbers.modulation_range, [0.25, 0.75], rtol=1e-5)


def test_offsets_of_roi_pooling_are_in_pixels(detectors, image):
    layers = predicted_offsets(detectors["v2"], image)
    assert [one.layer for one in layers] == ["conv4_block1_2_conv", "conv5_block1_2_conv", "box_head/pooling"]
    pooling = layers[-1]
    rois = len(pooling.offsets)
    assert pooling.offsets.shape == (rois, 3, 3, 2) and pooling.modulation.shape == (rois, 3, 3)
    # All RoIs have offsets near the same bias: in pixels, larger ones move their bins farther.
    lengths = np.linalg.norm(pooling.offsets, axis=-1).mean(axis=(1, 2))
    assert 0 < lengths[lengths > 0].min() < lengths.max() < 96
    numbers = offset_statistics(detectors["v2"], image)[-1]
    assert numbers.outside is None and numbers.largest == pytest.approx(np.linalg.norm(pooling.offsets, axis=-1).max())


def test_a_model_without_deformable_layers_has_no_offsets(detectors, image, sequential):
    assert predicted_offsets(detectors["none"], image) == offset_statistics(detectors["none"], image) == []
    assert offset_statistics(sequential(keras.layers.Conv2D(1, 3), channels=3), image) == []
