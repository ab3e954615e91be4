import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.analysis.conftest import set_offsets
from tests.support.detectors import CATEGORY_IDS
from tf_dcnv2.analysis import (
    ConvNode,
    RoINode,
    effective_bin_locations,
    effective_sampling_locations,
    sampling_locations,
)
from tf_dcnv2.layers import (
    DeformableConv2D,
    GroupedConv2D,
    ModulatedDeformableConv2D,
    RoIAlign,
    observe_sampling,
)

TAPS = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1).reshape(9, 2)


def test_a_regular_convolution_samples_its_grid(sequential, rng):
    model = sequential(keras.layers.Conv2D(1, 3, strides=2, dilation_rate=1, padding="valid", name="conv"))
    (samples,) = effective_sampling_locations(model, rng.uniform(size=[9, 9, 1]), ConvNode("conv", 1, 2))
    assert samples.layer == "conv" and samples.locations.shape == (4, 4, 1, 9, 2)
    np.testing.assert_allclose(samples.locations[1, 2, 0], np.array([3, 5]) + TAPS)
    assert (samples.modulation == 1).all()
    # Only the samples of the node act on it.
    assert np.count_nonzero(samples.strengths) == np.count_nonzero(samples.strengths[1, 2]) == 9


@pytest.mark.parametrize("groups", [1, 2])
def test_offsets_are_where_they_were_set_through_stride_and_dilation(sequential, rng, groups):
    model = sequential(
        keras.layers.Conv2D(4, 3, strides=2, padding="same", name="first"),
        DeformableConv2D(1, 3, dilation_rate=2, padding="same", deformable_groups=groups, name="second"),
    )
    offsets = rng.uniform(-1.5, 1.5, [groups, 9, 2])
    set_offsets(model.layers[1], offsets)
    image = rng.uniform(size=[24, 30, 1])
    samples = effective_sampling_locations(model, image, ConvNode("second", 5, 6), layers="second")[0]
    # The first layer's cell (i, j) is centred on pixel (2 i + 1, 2 j + 1): "same" pads an even side at its end only.
    expected = 2 * (np.array([5, 6]) + 2 * TAPS + offsets) + 1
    np.testing.assert_allclose(samples.locations[5, 6], expected, atol=1e-5)


def test_two_layers_multiply_their_locations(sequential, rng):
    first, second = rng.uniform(-0.4, 0.4, [2, 9, 2])
    model = sequential(
        DeformableConv2D(2, 3, padding="same", name="first"), DeformableConv2D(2, 3, padding="same", name="second")
    )
    set_offsets(model.layers[0], first)
    set_offsets(model.layers[1], second)
    found = sampling_locations(model, rng.uniform(size=[12, 12, 1]), ConvNode("second", 6, 6), depth=2)
    last = np.array([6, 6]) + TAPS + second
    expected = np.rint(last)[:, None] + TAPS + first
    np.testing.assert_allclose(found, expected.reshape(81, 2), atol=1e-5)


def test_grouped_and_nested_convolutions_sample_their_grids(rng):
    """ResNeXt's layers are grouped; backbones are often models inside a model."""
    images = keras.Input((None, None, 1))
    inner = keras.Sequential(
        [
            keras.Input((None, None, 4)),
            GroupedConv2D(4, 3, groups=2, strides=2, padding="same", name="grouped"),
            keras.layers.Conv2D(1, 3, padding="same", name="last"),
        ],
        name="inner",
    )
    model = keras.Model(images, inner(keras.layers.Conv2D(4, 3, strides=2, padding="same", name="first")(images)))
    samples = effective_sampling_locations(model, rng.uniform(size=[32, 32, 1]), ConvNode("inner", 3, 4))
    assert [layer.layer for layer in samples] == ["first", "grouped", "last"]
    # Each stride of 2 centres a cell on the second of two of the map before.
    np.testing.assert_allclose(samples[2].locations[3, 4, 0], 4 * (np.array([3, 4]) + TAPS) + 3)
    np.testing.assert_allclose(samples[1].locations[3, 4, 0], 2 * (2 * np.array([3, 4]) + 1 + TAPS) + 1)
    assert all(np.count_nonzero(layer.strengths) for layer in samples)


def test_samples_beyond_the_map_lead_nowhere(sequential, rng):
    model = sequential(*(DeformableConv2D(1, 3, padding="same", name=name) for name in ("first", "second")))
    found = sampling_locations(model, rng.uniform(size=[8, 8, 1]), ConvNode("second", 0, 0), depth=2)
    assert len(found) == 4 * 9
    assert len(sampling_locations(model, rng.uniform(size=[8, 8, 1]), ConvNode("first", 4, 4))) == 9


def test_modulation_of_zero_has_no_strength(sequential, rng):
    model = sequential(ModulatedDeformableConv2D(1, 3, padding="same", name="conv"))
    modulation = np.array([1, 0.5, 0, 1, 1, 1, 0, 1, 0.5])
    set_offsets(model.layers[0], np.full([9, 2], 0.25), np.clip(modulation, 0, 1 - 1e-6))
    (samples,) = effective_sampling_locations(model, rng.uniform(size=[9, 9, 1]), ConvNode("conv", 4, 4))
    np.testing.assert_allclose(samples.modulation[4, 4, 0], modulation, atol=1e-5)
    np.testing.assert_array_equal(samples.strengths[4, 4, 0] == 0, modulation == 0)


def moved(index, step):
    """An observer that moves one sampling location, or bin, of one layer by `step` (dy, dx), in units of its offset."""
    name, position = index

    def observer(layer, inputs, offset, mask):
        if layer.name == name:
            if offset is None:
                offset = tf.zeros([1, *layer.output_size, 2])
            shape = [*offset.shape[:-1], offset.shape[-1] // 2, 2]
            change = np.zeros(shape, np.float32)
            change[(0, *position)] = step
            offset = offset + change.reshape(offset.shape)
        return offset, mask

    return observer


def slope(response, index, unit, step=0.01):
    """The size of the numeric gradient of `response()` by a location that lies between pixels."""
    values = []
    for direction in ((step, 0), (0, step)):
        ends = []
        for sign in (1, -1):
            with observe_sampling(moved(index, sign * np.array(direction))):
                ends.append(float(response()))
        values.append((ends[0] - ends[1]) / (2 * step))
    return np.linalg.norm(np.array(values) / unit)


def test_strengths_are_slopes_of_the_response(sequential, rng):
    model = sequential(
        ModulatedDeformableConv2D(4, 3, strides=2, padding="same", activation="tanh", name="first"),
        ModulatedDeformableConv2D(3, 3, padding="same", deformable_groups=2, activation="tanh", name="second"),
    )
    for layer in model.layers:
        groups = layer.deformable_groups
        set_offsets(layer, rng.uniform(0.2, 0.8, [groups * 9, 2]), rng.uniform(0.2, 0.9, groups * 9))
        layer.offset_kernel.assign(0.002 * rng.standard_normal(layer.offset_kernel.shape))
    image = rng.uniform(size=[16, 16, 1]).astype(np.float32)
    samples = effective_sampling_locations(model, image, ConvNode("second", 4, 4))
    assert [layer.layer for layer in samples] == ["first", "second"]

    def response():
        return np.sum(model(image[None]).numpy()[0, 4, 4], dtype=np.float64)

    for layer, position, pixels in (("first", (4, 4, 4), 1), ("first", (3, 5, 7), 1), ("second", (4, 4, 13), 2)):
        strengths = next(one.strengths for one in samples if one.layer == layer)
        row, column, index = position
        group, tap = divmod(index, 9)
        numeric = slope(response, (layer, position), unit=pixels)
        np.testing.assert_allclose(strengths[row, column, group, tap], numeric, rtol=0.02, atol=1e-5)


@pytest.mark.parametrize("dcn", ["none", "v2"])
def test_bins_of_a_roi_and_their_strengths(detectors, image, dcn):
    detector = detectors[dcn]
    node = RoINode((4.0, 10.0, 43.0, 73.0), CATEGORY_IDS[2])
    bins = effective_bin_locations(detector, image, node)
    size = np.array([39.0, 63.0])
    assert bins.locations.shape == (3, 3, 2) and bins.strengths.shape == bins.modulation.shape == (3, 3)
    np.testing.assert_allclose(bins.bin_size, size / 3)
    fixed = np.array([4.0, 10.0]) + size * (np.stack(np.mgrid[:3, :3], axis=-1) + 0.5) / 3
    if dcn == "none":
        np.testing.assert_allclose(bins.locations, fixed)
        assert (bins.modulation == 1).all()
    else:
        assert np.abs(bins.locations - fixed).max() > 1
        assert 0 < bins.modulation.min() < bins.modulation.max() < 1

    def response():
        levels = detector.neck(detector.backbone(detector.prepare(image[None], np.array([[64.0, 96.0]], "float32"))))
        features = detector.box_head.features(levels["roi"], tf.constant([[node.box]]))
        return detector.box_head.predict(features)[0][0, 0, 3]

    row, column = np.unravel_index(bins.strengths.argmax(), (3, 3))
    numeric = slope(response, ("pooling", (row, column, 0)), unit=0.1 * size, step=0.002)
    np.testing.assert_allclose(bins.strengths[row, column], numeric, rtol=0.1)


@pytest.mark.parametrize("dcn", ["none", "v1", "v2"])
def test_a_detector_has_the_locations_of_all_layers_before_a_node(detectors, image, dcn):
    samples = effective_sampling_locations(detectors[dcn], image, ConvNode("C4", 2, 3))
    spatial = [f"conv{stage}_block1_2_conv" for stage in (2, 3, 4)]
    assert [one.layer for one in samples] == ["conv1_conv", *spatial]
    for one in samples:
        rows, columns, groups, taps, _ = one.locations.shape
        assert one.strengths.shape == (rows, columns, groups, taps)
        assert one.strengths.max() > 0
    roi = effective_sampling_locations(detectors[dcn], image, RoINode((0.0, 0.0, 64.0, 96.0)), layers=re.compile("5_"))
    assert [one.layer for one in roi] == ["conv5_block1_2_conv"]


def test_analysis_leaves_the_model_as_it_was(detectors, image):
    detector = detectors["none"]
    before, config = [value.copy() for value in detector.get_weights()], detector.get_config()
    effective_sampling_locations(detector, image, ConvNode("C5", 0, 0))
    for old, new in zip(before, detector.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert detector.get_config() == config
    assert all(not isinstance(layer, DeformableConv2D) for layer in detector.backbone.layers)
    assert isinstance(detector.box_head.pooling, RoIAlign)


def test_layers_that_are_not_there_are_named(detectors, image):
    with pytest.raises(ValueError, match=r"Received: layers='conv9'. There are: conv1_conv, conv2_block1_2_conv"):
        effective_sampling_locations(detectors["v2"], image, ConvNode("C5", 0, 0), layers="conv9")
    with pytest.raises(ValueError, match="effective_bin_locations has the bins"):
        sampling_locations(detectors["v2"], image, RoINode((0, 0, 9, 9)))
    with pytest.raises(ValueError, match="node must be a RoINode"):
        effective_bin_locations(detectors["v2"], image, ConvNode("C5", 0, 0))


def test_a_model_without_spatial_convolutions_has_none(sequential, rng):
    model = sequential(keras.layers.Conv2D(1, 1, name="conv"))
    with pytest.raises(ValueError, match="There are: none"):
        effective_sampling_locations(model, rng.uniform(size=[4, 4, 1]), ConvNode("conv", 0, 0))
