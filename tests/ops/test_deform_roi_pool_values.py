"""Values of RoI pooling: RoIAlign's definition, hand-worked border cases, MXNet's vectors, several levels."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_roi_pool

# Inside, across every border, wholly outside, tiny, and of no area, in pixels of a 96 x 128 image.
BOXES = np.array(
    [
        [8.0, 16.0, 70.0, 100.0],
        [-20.0, -31.0, 50.0, 40.0],
        [60.0, 90.0, 130.0, 170.0],
        [300.0, 400.0, 350.0, 420.0],
        [33.3, 44.4, 34.4, 45.5],
        [50.0, 60.0, 50.0, 60.0],
    ]
)
BOX_INDICES = np.array([0, 1, 1, 0, 1, 0])


@pytest.fixture
def feature(rng):
    return rng.standard_normal((2, 12, 16, 3))


@pytest.fixture
def deformation(rng):
    """Offsets of some feature pixels, and modulations, for 6 RoIs of 3 x 2 bins."""
    return rng.standard_normal((6, 3, 2, 2)), rng.uniform(size=(6, 3, 2))


@pytest.mark.parametrize("samples", [1, 2, 3, 0])
def test_pooling_without_deformation_is_roi_align(feature, implementation, traced, roi_pool_reference, samples):
    pool = traced(
        lambda *inputs: deform_roi_pool(
            *inputs, output_size=(3, 2), spatial_scale=1 / 8, sampling_ratio=samples, implementation=implementation
        )
    )
    boxes = BOXES[:5] if samples == 0 else BOXES
    pooled = pool(feature, boxes, BOX_INDICES[: len(boxes)])

    for box, image, received in zip(boxes, BOX_INDICES, pooled, strict=False):
        expected = roi_pool_reference(feature[image], box, 1 / 8, (3, 2), samples)
        np.testing.assert_allclose(received, expected, atol=1e-12)


@pytest.mark.parametrize("samples", [2, 0])
@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_bins_move_by_gamma_roi_sizes_and_are_weighted(
    feature, deformation, implementation, roi_pool_reference, samples, gamma
):
    offset, mask = deformation
    pooled = deform_roi_pool(
        feature,
        BOXES[:5],
        BOX_INDICES[:5],
        offset[:5],
        mask[:5],
        output_size=(3, 2),
        spatial_scale=1 / 8,
        sampling_ratio=samples,
        gamma=gamma,
        implementation=implementation,
    )
    for roi, received in enumerate(pooled):
        expected = roi_pool_reference(
            feature[BOX_INDICES[roi]], BOXES[roi], 1 / 8, (3, 2), samples, offset[roi], mask[roi], gamma
        )
        np.testing.assert_allclose(received, expected, atol=1e-12)


@pytest.mark.parametrize(
    "position, expected",
    [(0.0, 1.0), (1.25, 2.5), (2.0, 4.0), (-0.5, 1.0), (-1.0, 1.0), (-1.01, 0.0), (3.0, 4.0), (2.5, 4.0), (3.01, 0.0)],
)
def test_samples_near_the_map_move_onto_it_and_others_are_zero(implementation, position, expected):
    feature = np.array([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
    # A box of no area has its one sample at its own corner, half a pixel up and left of the image coordinate.
    box = [[position + 0.5, 0.5, position + 0.5, 0.5]]
    pooled = deform_roi_pool(
        feature, box, [0], output_size=1, spatial_scale=1.0, sampling_ratio=1, implementation=implementation
    )
    assert pooled.numpy().item() == pytest.approx(expected, abs=1e-12)


def test_each_roi_is_pooled_from_its_own_level(rng, deformation, implementation, traced):
    features = [rng.standard_normal((2, 96 // stride, 128 // stride, 3)) for stride in (4, 8, 16)]
    levels = np.array([0, 2, 1, 1, 0, 2])
    scales = [1 / 4, 1 / 8, 1 / 16]
    offset, mask = deformation
    options = {"output_size": (3, 2), "implementation": implementation}

    pooled = traced(lambda *inputs: deform_roi_pool(*inputs, levels=levels, spatial_scale=scales, **options))(
        features, BOXES, BOX_INDICES, offset, mask
    )

    for roi, level in enumerate(levels):
        one = slice(roi, roi + 1)
        alone = deform_roi_pool(
            features[level],
            BOXES[one],
            BOX_INDICES[one],
            offset[one],
            mask[one],
            spatial_scale=scales[level],
            **options,
        )
        np.testing.assert_allclose(pooled[roi], alone[0], atol=1e-12)


@pytest.mark.parametrize(
    "side, level", [(10, 0), (111.9, 0), (112, 1), (223.9, 1), (224, 2), (447.9, 2), (448, 3), (896, 3), (5000, 3)]
)
def test_levels_follow_the_fpn_rule_by_default(implementation, side, level):
    # P(4 + log2(side / 224)), of which the list has P2 to P5; each level here holds its own index.
    features = [np.full((1, 4, 4, 1), float(k), np.float32) for k in range(4)]
    pooled = deform_roi_pool(
        features, [[0.0, 0.0, side, side]], [0], spatial_scale=[1e-4] * 4, output_size=1, implementation=implementation
    )
    assert pooled.numpy().item() == level


def test_mxnet_convention_equals_mxnet(psroi_vectors, implementation, value_and_gradients):
    vectors = psroi_vectors
    bins, parts = int(vectors["pooled_size"]), int(vectors["part_size"]) or int(vectors["pooled_size"])
    part_of_bin = np.arange(bins) * parts // bins
    rois = vectors["rois"]

    def pool(data, trans=None):
        if trans is not None:
            # (N, (x, y), part, part) -> (N, bin, bin, (y, x)), each bin with the offset of its part.
            trans = tf.gather(tf.gather(trans, part_of_bin, axis=2), part_of_bin, axis=3)
            trans = tf.transpose(trans[:, ::-1], [0, 2, 3, 1])
        pooled = deform_roi_pool(
            tf.transpose(data, [0, 2, 3, 1]),
            rois[:, [2, 1, 4, 3]],
            rois[:, 0].astype(int),
            trans,
            output_size=bins,
            spatial_scale=float(vectors["spatial_scale"]),
            sampling_ratio=int(vectors["sample_per_part"]),
            gamma=float(vectors["trans_std"]),
            convention="mxnet",
            implementation=implementation,
        )
        return tf.transpose(pooled, [0, 3, 1, 2])

    names = ["data"] if vectors["no_trans"] else ["data", "trans"]
    y, gradients = value_and_gradients(pool, [vectors[name] for name in names], vectors["dy"])

    # Both sides are float32. Gradients by offsets reach 30, and scale with it.
    np.testing.assert_allclose(y, vectors["y"], rtol=1e-5, atol=1e-4)
    for name, gradient in zip(names, gradients, strict=True):
        np.testing.assert_allclose(gradient, vectors[f"d{name}"], rtol=1e-5, atol=1e-4, err_msg=f"d{name}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("channels", [3, 40], ids=["a part of a vector", "vectors and a rest"])
def test_half_precision_is_rounded_only_at_the_ends(
    implementation, value_and_gradients, check_rounded_once, rng, dtype, channels
):
    # 90 RoIs on two small maps: gradients that were summed in 16 bits would be off by more than one rounding.
    rois = 15 * len(BOXES)
    features = [tf.cast(rng.standard_normal((2, *size, channels)), dtype) for size in ((12, 16), (6, 8))]
    offset = rng.standard_normal((rois, 3, 2, 2)).astype(np.float32)
    mask = rng.uniform(size=(rois, 3, 2)).astype(np.float32)
    dy = tf.cast(rng.standard_normal((rois, 3, 2, channels)), dtype)

    def pool(p2, p3, offset, mask):
        return deform_roi_pool(
            [p2, p3],
            np.tile(BOXES.astype(np.float32), (15, 1)),
            np.tile(BOX_INDICES, 15),
            offset,
            mask,
            output_size=(3, 2),
            spatial_scale=[1 / 8, 1 / 16],
            levels=np.arange(rois) % 2,
            implementation=implementation,
        )

    y, gradients = value_and_gradients(pool, [*features, offset, mask], dy)

    wide = [tf.cast(level, tf.float32) for level in features]
    exact_y, exact_gradients = value_and_gradients(pool, [*wide, offset, mask], dy)
    check_rounded_once(dtype, [y, *gradients[:2]], [exact_y, *exact_gradients[:2]], gradients[2:], exact_gradients[2:])


def test_nan_boxes_and_offsets_give_nan_where_they_are_used(feature, deformation, implementation):
    boxes, (offset, mask) = BOXES.copy(), (part.copy() for part in deformation)
    boxes[0, 2] = np.nan
    offset[1, 0, 0, 1] = np.nan
    for samples in (2, 0):
        pooled = deform_roi_pool(
            feature,
            boxes,
            BOX_INDICES,
            offset,
            mask,
            output_size=(3, 2),
            spatial_scale=1 / 8,
            sampling_ratio=samples,
            implementation=implementation,
        )
        is_nan = np.isnan(pooled)
        assert is_nan[0].all() and is_nan[1, 0, 0].all()
        is_nan[0], is_nan[1, 0, 0] = False, False
        assert not is_nan.any()


def test_infinite_boxes_of_no_width_give_nan_where_infinity_meets_zero(feature, implementation):
    pooled = deform_roi_pool(
        feature,
        [[0.0, 8.0, np.inf, 8.0]],
        [0],
        output_size=2,
        spatial_scale=1 / 8,
        sampling_ratio=0,
        implementation=implementation,
    )
    assert np.isnan(pooled[0, 0]).all()
    assert not pooled[0, 1].numpy().any()


def test_boxes_of_no_area_have_no_samples_when_samples_follow_the_size(feature, implementation):
    pooled = deform_roi_pool(
        feature, BOXES[5:], [0], spatial_scale=1 / 8, sampling_ratio=0, implementation=implementation
    )
    assert not pooled.numpy().any()


@pytest.mark.parametrize("moved", [False, True], ids=["plain", "moved bins"])
def test_bins_larger_than_the_map_have_a_sample_for_each_of_their_pixels(
    feature, implementation, roi_pool_reference, rng, moved
):
    """Those off the map count as zeros: no limit makes the others weigh more."""
    boxes = [[-300, -100, 700, 900], [-1000, -1000, 30, 20], [10, -5000, 30, 7000], [-2000, 4, 64, 50]]
    offset = rng.standard_normal((4, 3, 2, 2)) if moved else None
    pooled = deform_roi_pool(
        feature,
        boxes,
        [0, 1, 0, 1],
        offset,
        output_size=(3, 2),
        spatial_scale=1 / 8,
        sampling_ratio=0,
        implementation=implementation,
    )
    assert pooled.numpy().any(axis=(1, 2, 3)).sum() > 1
    for roi, received in enumerate(pooled):
        shift = None if offset is None else offset[roi]
        expected = roi_pool_reference(feature[roi % 2], np.array(boxes[roi], float), 1 / 8, (3, 2), 0, shift)
        np.testing.assert_allclose(received, expected, atol=1e-12)


@pytest.mark.parametrize("far", [1e9, 1e30, np.inf])
def test_wild_boxes_cost_no_more_than_the_map_has_pixels(feature, implementation, far):
    boxes = [[-far, -far, far, far], [0, 0, far, 8]]
    pooled = deform_roi_pool(feature, boxes, [0, 1], spatial_scale=1.0, sampling_ratio=0, implementation=implementation)
    assert pooled.shape == (2, 7, 7, 3)


def test_infinite_offsets_are_outside(feature, deformation, implementation):
    offset = np.full_like(deformation[0], np.inf)
    offset[..., 1] = -np.inf
    # The box without area times an infinite offset is NaN, as IEEE arithmetic has it.
    pooled = deform_roi_pool(
        feature,
        BOXES[:5],
        BOX_INDICES[:5],
        offset[:5],
        output_size=(3, 2),
        spatial_scale=1 / 8,
        implementation=implementation,
    )
    assert not pooled.numpy().any()
