import numpy as np
import pytest

from tf_dcnv2.data.inspection.anchors import (
    AnchorShapes,
    fit_of_anchors,
    level_shares,
    suggest_anchors,
    suggest_canonical_size,
)

# As dense as can be: a box lies on the centre of an anchor.
DENSE = AnchorShapes(sizes=((16.0,), (64.0,)), aspect_ratios=(0.5, 1.0, 2.0), strides=(0, 0))


def test_boxes_of_an_anchor_s_shape_overlap_it_entirely_and_count_for_its_level():
    fit = fit_of_anchors(np.array([[16.0, 16.0], [64.0, 64.0], [64.0, 64.0], [64 * 2**0.5, 64 / 2**0.5]]), DENSE)
    assert fit.mean_iou == pytest.approx(1.0)
    assert fit.levels == (0.25, 0.75)


@pytest.mark.parametrize(
    ("box", "iou"),
    [
        ((32.0, 32.0), 1024 / 4096),  # a quarter of the large square, and four of the small one
        ((64.0, 32.0), 2048 / (32 * 64 + 4096 - 2048)),
    ],
)
def test_the_overlap_is_that_of_the_best_anchor(box, iou):
    squares = AnchorShapes(sizes=((16.0,), (64.0,)), aspect_ratios=(1.0,), strides=(0, 0))
    assert fit_of_anchors(np.array([box]), squares).mean_iou == pytest.approx(iou)


def test_anchors_that_are_far_apart_overlap_less():
    """A quarter of 32 pixels to the right and below leaves 8 of 16 pixels on either axis: 64 of 2 * 256 - 64."""
    sparse = AnchorShapes(sizes=((16.0,),), aspect_ratios=(1.0,), strides=(32,))
    assert fit_of_anchors(np.array([[16.0, 16.0]]), sparse).mean_iou == pytest.approx(64 / (512 - 64))


def test_a_box_inside_an_anchor_loses_nothing_by_a_small_distance():
    sparse = AnchorShapes(sizes=((64.0,),), aspect_ratios=(1.0,), strides=(16,))
    assert fit_of_anchors(np.array([[32.0, 32.0]]), sparse).mean_iou == pytest.approx(0.25)


def test_suggestions_find_the_sizes_and_ratios_of_the_data(rng):
    sides = np.concatenate([np.full(50, 20.0), np.full(50, 90.0)]) * rng.uniform(0.97, 1.03, 100)
    roots = np.sqrt(np.tile([0.25, 1.0, 4.0, 1.0], 25))
    boxes = np.stack([sides / roots, sides * roots], axis=-1)
    suggested = suggest_anchors(boxes, DENSE)
    np.testing.assert_allclose(np.ravel(suggested.sizes), [20, 90], rtol=0.05)
    np.testing.assert_allclose(suggested.aspect_ratios, [0.25, 1.0, 4.0], rtol=0.05)
    assert fit_of_anchors(boxes, suggested).mean_iou > 0.9 > fit_of_anchors(boxes, DENSE).mean_iou


def test_no_suggested_size_is_smaller_than_the_stride_of_its_level():
    pyramid = AnchorShapes(sizes=((32.0,), (64.0,)), aspect_ratios=(1.0,), strides=(8, 32))
    assert suggest_anchors(np.full([10, 2], 5.0), pyramid).sizes == ((8.0,), (32.0,))


def test_boxes_are_pooled_from_the_level_of_the_fpn_rule():
    boxes = np.array([[224.0, 224.0], [112.0, 448.0], [111.0, 111.0], [10.0, 10.0], [2000.0, 2000.0]])
    assert level_shares(boxes, [2, 3, 4, 5], 224.0) == {2: 0.4, 3: 0.0, 4: 0.4, 5: 0.2}


def test_the_suggested_canonical_size_puts_the_median_box_in_the_middle_of_the_pyramid():
    boxes = np.array([[20.0, 20.0], [40.0, 40.0], [300.0, 300.0]])
    size = suggest_canonical_size(boxes, [3, 4, 5])
    assert level_shares(boxes[1:2], [3, 4, 5], size)[4] == 1.0
