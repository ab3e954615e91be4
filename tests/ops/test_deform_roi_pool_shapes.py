"""Shapes and indices of RoI pooling: empty, unknown, and ones that do not fit."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_roi_pool

FEATURES, OFFSET, MASK = (2, 6, 8, 3), (4, 7, 7, 2), (4, 7, 7)
BOXES = np.array([[0, 0, 40, 30], [10, 5, 30, 60], [0, 0, 48, 64], [1, 2, 3, 4]], np.float32)
BOX_INDICES = np.array([0, 1, 1, 0], np.int32)


@pytest.mark.parametrize("samples", [2, 0])
@pytest.mark.parametrize("features", [FEATURES, (0, 6, 8, 3), (2, 6, 8, 0)])
def test_no_rois_give_no_rows_and_zero_gradients(features, samples, implementation, traced, value_and_gradients):
    pool = traced(
        lambda feature, offset, mask: deform_roi_pool(
            feature,
            np.zeros((0, 4), np.float32),
            np.zeros([0], np.int32),
            offset,
            mask,
            spatial_scale=1 / 8,
            sampling_ratio=samples,
            implementation=implementation,
        )
    )
    tensors = [np.ones(features, np.float32), np.ones((0, 7, 7, 2), np.float32), np.ones((0, 7, 7), np.float32)]

    y, gradients = value_and_gradients(pool, tensors)

    assert y.shape == (0, 7, 7, features[3])
    assert [gradient.shape for gradient in gradients] == [tensor.shape for tensor in tensors]
    assert not gradients[0].any()


def test_maps_without_pixels_give_zeros(implementation):
    pooled = deform_roi_pool(
        np.zeros((2, 0, 8, 3)), BOXES, BOX_INDICES, spatial_scale=1 / 8, implementation=implementation
    )
    assert pooled.shape == (4, 7, 7, 3) and not pooled.numpy().any()


@pytest.mark.parametrize("samples", [2, 0])
@pytest.mark.parametrize("rank_known", [True, False])
def test_shapes_may_be_known_only_at_run_time(samples, rank_known, implementation, rng):
    inputs = [
        [rng.standard_normal(FEATURES), rng.standard_normal((2, 3, 4, 3))],
        BOXES,
        BOX_INDICES,
        rng.standard_normal(OFFSET),
        rng.uniform(size=MASK),
    ]

    def pool(*inputs):
        return deform_roi_pool(
            *inputs, spatial_scale=[1 / 8, 1 / 16], sampling_ratio=samples, implementation=implementation
        )

    specs = tf.nest.map_structure(
        lambda array: tf.TensorSpec([None] * array.ndim if rank_known else None, array.dtype), inputs
    )
    received = tf.function(pool, input_signature=specs)(*inputs)
    np.testing.assert_allclose(received, pool(*inputs), rtol=0, atol=1e-12)


def test_static_shape_is_inferred_as_far_as_it_is_known(implementation):
    @tf.function
    def trace(features, boxes, box_indices):
        pooled = deform_roi_pool(
            features, boxes, box_indices, output_size=(3, 4), spatial_scale=0.5, implementation=implementation
        )
        assert pooled.shape.as_list() == [None, 3, 4, 5]
        return pooled

    trace.get_concrete_function(
        tf.TensorSpec([None, None, None, 5]), tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int64)
    )


def test_any_number_of_boxes_is_taken_where_it_is_not_known_beforehand(implementation):
    @tf.function(input_signature=[tf.TensorSpec(FEATURES), tf.TensorSpec([None, 4]), tf.TensorSpec([None], tf.int32)])
    def pool(features, boxes, box_indices):
        return deform_roi_pool(features, boxes, box_indices, spatial_scale=1 / 8, implementation=implementation)

    for count in (0, 1, 3):
        assert pool(tf.ones(FEATURES), BOXES[:count], BOX_INDICES[:count]).shape == (count, 7, 7, FEATURES[-1])


@pytest.mark.cpu_only
@pytest.mark.parametrize("indices", [[0, 1, 2, 0], [0, -1, 1, 0]])
@pytest.mark.parametrize("name", ["box_indices", "levels"])
def test_indices_out_of_range_are_refused_by_name(name, indices, implementation, traced):
    arguments = {"box_indices": BOX_INDICES, "levels": np.zeros(4, np.int32), name: np.array(indices, np.int32)}
    pool = traced(
        lambda arguments: deform_roi_pool(
            [tf.ones(FEATURES), tf.ones(FEATURES)],
            BOXES,
            spatial_scale=[1 / 8, 1 / 8],
            implementation=implementation,
            **arguments,
        )
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=name):
        pool(arguments)


@pytest.mark.cpu_only
def test_any_box_of_an_empty_batch_is_out_of_range(implementation):
    with pytest.raises(tf.errors.InvalidArgumentError, match="box_indices"):
        deform_roi_pool(tf.ones([0, 6, 8, 3]), BOXES, BOX_INDICES, spatial_scale=1.0, implementation=implementation)


BAD_SHAPES = {
    "features must have 4 dimensions": {"features": tf.ones([6, 8, 3])},
    "boxes must have 2 dimensions": {"boxes": tf.ones([1, 4, 4])},
    r"boxes must have the shape \(N, 4\)": {"boxes": tf.ones([4, 5])},
    r"box_indices must have the shape \(4\)": {"box_indices": tf.zeros([3], tf.int32)},
    "box_indices must have 1 dimension": {"box_indices": tf.zeros([4, 1], tf.int32)},
    r"levels must have the shape \(4\)": {"levels": tf.zeros([5], tf.int32)},
    r"offset must have the shape \(4, 7, 7, 2\)": {"offset": tf.ones([4, 7, 6, 2])},
    r"mask must have the shape \(4, 7, 7\)": {"mask": tf.ones([3, 7, 7])},
}


@pytest.mark.parametrize("message, bad", BAD_SHAPES.items())
def test_static_shapes_that_do_not_fit_are_refused_by_name(message, bad, implementation, traced):
    inputs = {"features": tf.ones(FEATURES), "boxes": BOXES, "box_indices": BOX_INDICES, **bad}
    pool = traced(lambda inputs: deform_roi_pool(**inputs, spatial_scale=1 / 8, implementation=implementation))
    with pytest.raises(ValueError, match=message):
        pool(inputs)


@pytest.mark.parametrize("bad", BAD_SHAPES.values(), ids=BAD_SHAPES.keys())
def test_shapes_that_turn_out_not_to_fit_are_refused_at_run_time(bad, implementation):
    inputs = {"features": tf.ones(FEATURES), "boxes": BOXES, "box_indices": BOX_INDICES, **bad}
    specs = {name: tf.TensorSpec(None, tf.as_dtype(value.dtype)) for name, value in inputs.items()}
    pool = tf.function(
        lambda inputs: deform_roi_pool(**inputs, spatial_scale=1 / 8, implementation=implementation),
        input_signature=[specs],
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{next(iter(bad))}|as in boxes"):
        pool(inputs)


def test_known_shapes_that_do_not_fit_the_boxes_are_refused_at_run_time(implementation):
    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def pool(boxes):
        return deform_roi_pool(tf.ones(FEATURES), boxes, [0], spatial_scale=1 / 8, implementation=implementation)

    with pytest.raises(tf.errors.InvalidArgumentError, match="box_indices"):
        pool(BOXES)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"output_size": 0}, "output_size must be an integer from 1 to 1024"),
        ({"output_size": (7, 2000)}, "output_size must be"),
        ({"sampling_ratio": -1}, "sampling_ratio must be an integer from 0 to 128"),
        ({"sampling_ratio": 0, "convention": "mxnet"}, "sampling_ratio must be an integer from 1"),
        ({"gamma": float("nan")}, "gamma must be a finite number"),
        ({"convention": "caffe"}, "convention must be one of"),
        ({"spatial_scale": 0.0}, "spatial_scale must be a positive number"),
        ({"spatial_scale": [0.5, 0.25]}, "spatial_scale must have one number for each of the 1 levels"),
        ({"implementation": "fast"}, "implementation must be one of"),
        ({"features": []}, "features must hold at least one level"),
        (
            {"features": [np.ones(FEATURES), np.ones((2, 3, 4, 5))]},
            r"features must agree .* features\[1\] is a float64",
        ),
        ({"features": np.ones(FEATURES, int)}, "features must be a floating-point tensor"),
        ({"box_indices": np.ones(4, np.float32)}, "box_indices must hold integers"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    inputs = {"features": np.ones(FEATURES), "boxes": BOXES, "box_indices": BOX_INDICES, "spatial_scale": 0.125}
    with pytest.raises(ValueError, match=message):
        deform_roi_pool(**{**inputs, **options})


def test_samples_that_follow_the_size_are_refused_under_xla():
    pool = tf.function(
        lambda feature: deform_roi_pool(feature, BOXES, BOX_INDICES, spatial_scale=1 / 8, sampling_ratio=0),
        jit_compile=True,
    )
    with pytest.raises(ValueError, match="sampling_ratio=0 .* XLA cannot compile"):
        pool(tf.ones(FEATURES))


def test_arrays_may_be_given_inside_a_graph(implementation):
    features = [np.ones(FEATURES, np.float32)] * 2
    pool = tf.function(
        lambda: deform_roi_pool(features, BOXES, BOX_INDICES, spatial_scale=[0.125] * 2, implementation=implementation)
    )
    assert pool().shape == (4, 7, 7, 3)
