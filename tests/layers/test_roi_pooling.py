"""The RoI pooling layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.layers import DeformableRoIPooling, ModulatedDeformableRoIPooling, RoIAlign
from tf_dcnv2.ops import deform_roi_pool

BOXES = np.array([[[0, 0, 60, 50], [10, 20, 300, 200]], [[5, 5, 9, 9], [-8, 3, 41, 77]]], np.float32)
FLAT, BOX_INDICES = BOXES.reshape(4, 4), np.array([0, 0, 1, 1], np.int32)
DEFORMABLE = [DeformableRoIPooling, ModulatedDeformableRoIPooling]
ALL = pytest.mark.parametrize("layer_class", [RoIAlign, *DEFORMABLE])
OPTIONS = {"output_size": (3, 2), "spatial_scale": [1 / 4, 1 / 8]}


def options_of(layer_class, **options):
    return {**OPTIONS, **({} if layer_class is RoIAlign else {"hidden_units": 8}), **options}


@pytest.fixture
def features(rng):
    return [rng.standard_normal((2, size, size + 2, 4)).astype(np.float32) for size in (20, 10)]


@ALL
def test_layer_does_what_keras_layers_do_with_boxes_by_image(layer_class, features, check_layer):
    unknown = [[keras.Input((None, None, 4)) for _ in features], keras.Input((None, 4))]
    layer = check_layer(layer_class, options_of(layer_class), [features, BOXES], unknown, (2, 2, 3, 2, 4))
    assert not any(hasattr(variable, "learning_rate_multiplier") for variable in layer.variables)


@ALL
def test_layer_does_what_keras_layers_do_with_box_indices(layer_class, features, check_layer):
    extra = {"sampling_ratio": 0, "implementation": "composite", "name": "configured"}
    if layer_class in DEFORMABLE:
        extra.update(gamma=1.0)
    if layer_class is ModulatedDeformableRoIPooling:
        extra.update(mask_scale=2.0)
    check_layer(
        layer_class,
        options_of(layer_class, spatial_scale=0.25, **extra),
        [features[0], FLAT, BOX_INDICES],
        [
            keras.Input((None, None, 4)),
            keras.Input(batch_shape=(None, 4)),
            keras.Input(batch_shape=(None,), dtype="int32"),
        ],
        (4, 3, 2, 4),
    )


@ALL
def test_both_forms_of_boxes_give_the_same(layer_class, features):
    layer = layer_class(**options_of(layer_class))
    by_image = layer(features, BOXES)
    np.testing.assert_array_equal(by_image.numpy().reshape(4, 3, 2, 4), layer(features, FLAT, BOX_INDICES))
    levels = np.array([[1, 0], [0, 1]])
    np.testing.assert_array_equal(
        layer(features, BOXES, levels=levels).numpy().reshape(4, 3, 2, 4),
        layer(features, FLAT, BOX_INDICES, levels.reshape(4)),
    )


def test_roi_align_is_the_plain_operator(features, implementation):
    layer = RoIAlign(**OPTIONS, implementation=implementation)
    expected = deform_roi_pool(features, FLAT, BOX_INDICES, **OPTIONS, implementation=implementation)
    np.testing.assert_array_equal(layer(features, FLAT, BOX_INDICES), expected)


@pytest.mark.parametrize(
    "layer_class, extra, factor",
    [
        (DeformableRoIPooling, {}, 1.0),
        (ModulatedDeformableRoIPooling, {}, 0.5),
        (ModulatedDeformableRoIPooling, {"mask_scale": 2.0}, 1.0),
    ],
)
def test_deformable_pooling_starts_as_roi_align_times_the_initial_modulation(layer_class, extra, factor, features):
    plain = RoIAlign(**OPTIONS)(features, BOXES)
    np.testing.assert_allclose(layer_class(**OPTIONS, **extra)(features, BOXES), factor * plain, rtol=1e-6)


def test_branch_has_the_paper_s_layers_and_start():
    layer = ModulatedDeformableRoIPooling(7, spatial_scale=1 / 16)
    layer.build((None, None, None, 64), (None, 4))
    first, second, last = (dense.kernel.numpy() for dense in layer.branches[0].layers)
    assert (first.shape, second.shape, last.shape) == ((7 * 7 * 64, 1024), (1024, 1024), (1024, 3 * 49))
    assert first.std() == pytest.approx(0.01, rel=0.01) and second.std() == pytest.approx(0.01, rel=0.01)
    assert not last.any()
    assert all(not dense.bias.numpy().any() for dense in layer.branches[0].layers)


def test_predicted_offsets_move_bins_and_modulation_weights_them(features):
    layer = ModulatedDeformableRoIPooling(**options_of(ModulatedDeformableRoIPooling, gamma=0.3))
    layer(features, BOXES)
    values = np.arange(18) / 10
    layer.branches[0].predictor.bias.assign(values)

    offset, mask = layer.sampling(features, BOXES)
    pooled = layer(features, BOXES)

    expected_mask = keras.ops.sigmoid(values[12:].reshape(3, 2).astype(np.float32))
    np.testing.assert_allclose(offset, np.broadcast_to(values[:12].reshape(3, 2, 2), (2, 2, 3, 2, 2)), rtol=1e-6)
    np.testing.assert_allclose(mask, np.broadcast_to(expected_mask, (2, 2, 3, 2)), rtol=1e-6)
    expected = deform_roi_pool(
        features, FLAT, BOX_INDICES, tf.reshape(offset, (4, 3, 2, 2)), tf.reshape(mask, (4, 3, 2)), gamma=0.3, **OPTIONS
    )
    np.testing.assert_array_equal(pooled.numpy().reshape(4, 3, 2, 4), expected)


def test_unmodulated_pooling_has_no_mask(features):
    offset, mask = DeformableRoIPooling(**OPTIONS).sampling(features, FLAT, BOX_INDICES)
    assert offset.shape == (4, 3, 2, 2) and mask is None


@ALL
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_boxes_and_offsets_are_never_half_precision(layer_class, precision):
    # A ramp along the columns: the pooled value is the position, and 777.3 has no half-precision neighbour within 0.1.
    ramp = np.broadcast_to(np.arange(2000.0, dtype=np.float32)[None, None, :, None] - 777, (1, 4, 2000, 1))
    layer = layer_class(1, spatial_scale=1.0, dtype=precision)
    box = np.array([[1.0, 777.3, 3.0, 778.3]], np.float32)
    pooled = tf.cast(layer(np.clip(ramp, -4, 4), box, np.array([0])), tf.float32).numpy().item()
    factor = 0.5 if layer_class is ModulatedDeformableRoIPooling else 1.0
    assert pooled == pytest.approx(factor * 0.3, abs=2e-3)
    if layer_class is not RoIAlign:
        assert layer.sampling(ramp, box, np.array([0]))[0].dtype == tf.float32


@ALL
def test_no_rois_train(layer_class, features, value_and_gradients):
    layer = layer_class(**options_of(layer_class))
    pooled, gradients = value_and_gradients(
        lambda *levels: layer(list(levels), np.zeros((2, 0, 4), np.float32)), features
    )
    assert pooled.shape == (2, 0, 3, 2, 4)
    assert not any(gradient.any() for gradient in gradients)


@ALL
@pytest.mark.parametrize(
    "options, message",
    [
        ({"output_size": 0}, "output_size must be an integer from 1 to 1024"),
        ({"spatial_scale": -0.5}, "spatial_scale must be a positive number"),
        ({"spatial_scale": []}, "spatial_scale must be a positive number"),
        ({"sampling_ratio": -1}, "sampling_ratio must be an integer from 0 to 128"),
        ({"implementation": "cuda"}, "implementation must be one of"),
    ],
)
def test_bad_arguments_are_refused_by_name(layer_class, options, message):
    with pytest.raises(ValueError, match=message):
        layer_class(**{**OPTIONS, **options})


def test_bad_arguments_of_the_branch_are_refused_by_name():
    with pytest.raises(ValueError, match="hidden_units must be an integer of at least 1"):
        DeformableRoIPooling(**OPTIONS, hidden_units=0)
    with pytest.raises(ValueError, match="A variable of the layer would have .* hidden_units=2147483647"):
        DeformableRoIPooling(**OPTIONS, hidden_units=2**31 - 1).build((None, 8, 8, 4))
    with pytest.raises(ValueError, match="features must be a tensor .* or a list of them"):
        DeformableRoIPooling(**OPTIONS).build(None)
    with pytest.raises(ValueError, match="gamma must be a finite number"):
        DeformableRoIPooling(**OPTIONS, gamma="small")
    with pytest.raises(ValueError, match="mask_scale must be a positive number"):
        ModulatedDeformableRoIPooling(**OPTIONS, mask_scale=-1.0)
    with pytest.raises(ValueError, match="features must have a known number of channels"):
        DeformableRoIPooling(7, spatial_scale=0.5).build((None, None, None, None), (None, 4))


@ALL
def test_inputs_that_do_not_fit_are_refused_by_name(layer_class, features):
    layer = layer_class(**options_of(layer_class))
    layer(features, BOXES)
    with pytest.raises(ValueError, match="boxes must be .* with box_indices"):
        layer(features, FLAT)
    with pytest.raises(ValueError, match="boxes must be .* without box_indices"):
        layer(features, BOXES, BOX_INDICES)
    with pytest.raises(ValueError, match="spatial_scale must have one number for each of the 1 levels"):
        layer(features[:1], BOXES)
    with pytest.raises(ValueError, match=r"levels must have the shape of boxes .* levels.shape=\(4,\)"):
        layer(features, BOXES, levels=np.zeros(4, int))
    # The kernels for GPUs do not look.
    with tf.device("/CPU:0"), pytest.raises(tf.errors.InvalidArgumentError, match="box_indices"):
        layer(features, FLAT, BOX_INDICES + 1)


@ALL
@pytest.mark.parametrize("images", [1, 3])
def test_boxes_of_another_number_of_images_are_refused(layer_class, images, features):
    layer = layer_class(**options_of(layer_class, implementation="composite"))
    boxes = np.repeat(BOXES[:1], images, axis=0)
    with pytest.raises(ValueError, match=r"boxes must be \(B, N, 4\) for the B=2 images of features"):
        layer(features, boxes)

    specs = [[tf.TensorSpec([None, None, None, 4])] * 2, tf.TensorSpec([None, None, 4])]
    graph = tf.function(lambda levels, boxes: layer(levels, boxes), input_signature=specs)
    with pytest.raises(tf.errors.InvalidArgumentError, match="for the B images of features"):
        graph(features, boxes)


@pytest.mark.parametrize(
    ("layer_class", "extra"),
    [
        *((one, {}) for one in DEFORMABLE),
        (ModulatedDeformableRoIPooling, {"branch_per_level": True, "mask_branch": True}),
    ],
)
def test_quantised_layers_load_again(layer_class, extra, features, tmp_path):
    inputs = [[keras.Input((None, None, 4)) for _ in features], keras.Input((None, 4))]
    layer = layer_class(**options_of(layer_class, **extra))
    model = keras.Model(inputs, layer(*inputs))
    layer.branches[0].predictor.kernel.assign(keras.random.normal(layer.branches[0].predictor.kernel.shape))
    model.quantize("int8")
    expected = model([features, BOXES])
    model.save(tmp_path / "model.keras")

    loaded = keras.models.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded([features, BOXES]), expected)
    assert loaded.layers[-1].branches[0].hidden[0].kernel.dtype == "int8"


def own_branches(rng, **options):
    """A layer with all branches of mmdetection's, whose offsets are a part of a RoI and modulation is about a half."""
    layer = ModulatedDeformableRoIPooling(
        **options_of(ModulatedDeformableRoIPooling, branch_per_level=True, mask_branch=True, **options)
    )
    layer.build([(None, None, None, 4)] * 2, (None, 4))
    for variable in layer.variables:
        variable.assign(0.3 * rng.standard_normal(variable.shape))
    return layer


def test_layers_with_more_branches_do_what_keras_layers_do(features, check_layer):
    options = options_of(ModulatedDeformableRoIPooling, branch_per_level=True, mask_branch=True)
    unknown = [[keras.Input((None, None, 4)) for _ in features], keras.Input((None, 4))]
    check_layer(ModulatedDeformableRoIPooling, options, [features, BOXES], unknown, (2, 2, 3, 2, 4))


def test_each_level_has_its_own_branch(features, rng):
    layer = own_branches(rng)
    levels = np.array([1, 0, 0, 1], np.int32)
    offset, mask = layer.sampling(features, FLAT, BOX_INDICES, levels)
    plain = tf.reshape(RoIAlign(**OPTIONS)(features, FLAT, BOX_INDICES, levels), [4, -1])
    for roi, level in enumerate(levels):
        expected = layer.branches[level](plain[roi : roi + 1])
        np.testing.assert_allclose(tf.reshape(offset[roi], [1, -1]), expected, rtol=1e-5, atol=1e-6)
        expected = tf.sigmoid(layer.mask_branches[level](plain[roi : roi + 1]))
        np.testing.assert_allclose(tf.reshape(mask[roi], [1, -1]), expected, rtol=1e-5, atol=1e-6)


def test_without_levels_branches_follow_the_pyramid_rule(features, rng):
    layer = own_branches(rng)
    boxes = np.array([[0, 0, 60, 50], [0, 0, 79, 87], [-200, -200, 200, 200]], np.float32)
    indices = np.array([0, 1, 1])
    by_rule = layer(features, boxes, indices)
    np.testing.assert_array_equal(by_rule, layer(features, boxes, indices, np.array([0, 0, 1])))
    assert layer(features, boxes[:0], indices[:0]).shape == (0, 3, 2, 4)


@pytest.mark.parametrize("layer_class", DEFORMABLE)
def test_the_mxnet_convention_is_that_of_the_operator(layer_class, features, rng):
    layer = layer_class(**options_of(layer_class, convention="mxnet", sampling_ratio=4))
    layer(features, BOXES)
    for variable in layer.variables:
        variable.assign(0.3 * rng.standard_normal(variable.shape))
    offset, mask = layer.sampling(features, FLAT, BOX_INDICES)
    options = {**OPTIONS, "sampling_ratio": 4, "convention": "mxnet"}
    expected = deform_roi_pool(features, FLAT, BOX_INDICES, offset, mask, **options)
    np.testing.assert_array_equal(layer(features, FLAT, BOX_INDICES), expected)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"convention": "caffe"}, "convention must be one of"),
        ({"convention": "mxnet", "aligned": False}, "aligned must be True with convention='mxnet'"),
        ({"convention": "mxnet", "sampling_ratio": 0}, "sampling_ratio must be an integer from 1"),
    ],
)
def test_conventions_that_there_are_not_are_refused(extra, message):
    with pytest.raises(ValueError, match=message):
        DeformableRoIPooling(spatial_scale=0.25, **extra)


@pytest.mark.parametrize("level", [0, 1])
def test_without_alignment_pixels_are_sampled_at_their_corners_and_rois_are_a_pixel_at_least(level):
    """As `torchvision.ops.roi_align(aligned=False)`: on a ramp every bin has the place of its centre."""
    ramp = np.stack(np.meshgrid(np.arange(20), np.arange(22), indexing="ij"), axis=-1)[None].astype(np.float32)
    boxes = np.array([[8, 16, 40, 24], [10, 12, 11, 13]], np.float32)  # the second is smaller than a feature pixel
    layer = RoIAlign(output_size=(1, 1), spatial_scale=[1 / 4, 1 / 8], sampling_ratio=2, aligned=False)
    pooled = layer([ramp, ramp], boxes, np.zeros(2, np.int32), np.full(2, level, np.int32))
    scale = (1 / 4, 1 / 8)[level]
    centres = boxes[:, :2] * scale + np.maximum((boxes[:, 2:] - boxes[:, :2]) * scale, 1) / 2
    np.testing.assert_allclose(pooled[:, 0, 0], centres, atol=1e-5)
