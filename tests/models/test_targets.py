"""Anchors, matching, sampling and losses, on cases small enough to work out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.models.config import BoxHeadConfig, RPNConfig
from tf_dcnv2.models.losses import box_head_losses, mask_loss, rpn_losses, smooth_l1
from tf_dcnv2.models.rpn import RPN
from tf_dcnv2.models.rpn.anchors import Anchors
from tf_dcnv2.models.suppression import suppress
from tf_dcnv2.models.targets import SampledAnchors, SampledRoIs, mask_targets, sample_anchors, sample_rois

SEEDS = tf.constant([[1, 2]], tf.int64)
OBJECTS = tf.constant([[[0.0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 0, 0]]])
LABELS = tf.constant([[1, 2, 0]])


def test_anchors_are_centred_on_their_cells_in_reading_order():
    anchors = Anchors([(8.0, 16.0)], (1.0,), (4,))([tf.zeros([1, 2, 3, 1])])[0].numpy()
    assert anchors.shape == (2 * 3 * 2, 4)
    np.testing.assert_allclose(anchors[0], [-2, -2, 6, 6])  # first cell, first size: centre (2, 2)
    np.testing.assert_allclose(anchors[3], [-6, -2, 10, 14])  # second cell, second size: centre (2, 6)
    np.testing.assert_allclose(anchors[6], [2, -2, 10, 6])  # second row: centre (6, 2)


def test_an_aspect_ratio_is_width_over_height():
    y1, x1, y2, x2 = Anchors([(8.0,)], (4.0,), (4,))([tf.zeros([1, 1, 1, 1])])[0][0].numpy()
    assert (x2 - x1) / (y2 - y1) == pytest.approx(4.0)
    assert (x2 - x1) * (y2 - y1) == pytest.approx(64.0)


def test_every_object_gets_an_anchor_and_unused_slots_get_none():
    anchors = tf.constant([[0.0, 0, 10, 12], [22, 22, 60, 60], [70, 70, 80, 80]])
    sample = sample_anchors(anchors, OBJECTS, LABELS, RPNConfig(samples=10), SEEDS)
    np.testing.assert_array_equal(sample.anchor_indices, [0, 1, 2])
    np.testing.assert_array_equal(sample.positive, [True, True, False])


def test_a_sampled_anchor_is_to_become_the_box_of_the_object_that_it_overlaps_most():
    anchors = tf.constant([[0.0, 0, 10, 12], [70, 70, 80, 80], [20, 24, 44, 40]])
    others = tf.constant([[[70.0, 68, 80, 84], [0, 0, 0, 0], [0, 0, 0, 0]]])
    boxes, labels = tf.concat([OBJECTS, others], axis=0), tf.constant([[1, 2, 0], [3, 0, 0]])
    sample = sample_anchors(anchors, boxes, labels, RPNConfig(samples=10), tf.constant([[1, 2], [3, 4]], tf.int64))
    np.testing.assert_array_equal(sample.image_indices, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(sample.anchor_indices, [0, 1, 2, 0, 1, 2])
    np.testing.assert_array_equal(sample.positive, [True, False, True, False, True, False])
    # (dy, dx) of the centres in sides of the anchor, and the logarithms of the ratios of the sides.
    expected = np.zeros([6, 4])
    expected[0] = [0, -1 / 12, 0, np.log(10 / 12)]
    expected[2] = [-2 / 24, -2 / 16, np.log(20 / 24), np.log(20 / 16)]
    expected[4] = [0, 1 / 10, 0, np.log(16 / 10)]
    np.testing.assert_allclose(sample.deltas, expected, atol=1e-6)


def test_an_image_without_objects_has_only_background():
    anchors = tf.constant([[0.0, 0, 10, 10], [5, 5, 20, 20]])
    sample = sample_anchors(anchors, tf.zeros([1, 2, 4]), tf.zeros([1, 2], tf.int32), RPNConfig(), SEEDS)
    np.testing.assert_array_equal(sample.anchor_indices, [0, 1])
    assert not np.any(sample.positive)
    np.testing.assert_array_equal(sample.deltas, np.zeros([2, 4]))


def test_at_most_half_of_the_sampled_anchors_are_objects():
    anchors = tf.constant([[0.0, 0, 10, 10]] * 20 + [[60.0, 60, 70, 70]] * 20)
    sample = sample_anchors(anchors, OBJECTS, LABELS, RPNConfig(samples=8), SEEDS)
    assert len(sample.anchor_indices) == 8
    assert np.sum(sample.positive) == 4
    np.testing.assert_array_equal(sample.positive, sample.anchor_indices < 20)


def test_sampled_rois_carry_the_label_and_box_of_the_object_they_overlap_most():
    proposals = tf.constant([[[1.0, 0, 11, 10], [50, 50, 60, 60], [0, 0, 0, 0]]])
    rois = sample_rois(proposals, OBJECTS, LABELS, BoxHeadConfig(samples=6, positive_fraction=0.5), SEEDS)
    found = {tuple(box): label for box, label in zip(rois.boxes[0].numpy(), rois.labels[0].numpy(), strict=True)}
    assert found[(1.0, 0.0, 11.0, 10.0)] == 1
    assert found[(20.0, 20.0, 40.0, 40.0)] == 2  # objects are candidates themselves
    assert found[(50.0, 50.0, 60.0, 60.0)] == 0
    own_boxes = tf.gather(OBJECTS, rois.objects, batch_dims=1)
    np.testing.assert_array_equal(own_boxes[rois.labels > 0], rois.object_boxes[rois.labels > 0])
    empty = np.all(rois.boxes[0].numpy() == 0, axis=-1)
    np.testing.assert_array_equal(rois.valid[0].numpy(), ~empty)


def test_proposals_are_clipped_ranked_and_without_duplicates():
    anchors = [tf.constant([[0.0, 0, 10, 10], [0, 0, 10, 11], [30, 30, 60, 60], [200, 200, 210, 210]])]
    logits, deltas = [tf.constant([[1.0, 2.0, 0.0, 9.0]])], [tf.zeros([1, 4, 4])]
    rpn = RPN((16,), 4, proposals=(5, 3))
    boxes, scores = rpn.propose(logits, deltas, anchors, tf.constant([[50.0, 100.0]]), training=False)
    np.testing.assert_allclose(boxes[0], [[0, 0, 10, 11], [30, 30, 50, 60], [0, 0, 0, 0]], atol=1e-4)
    np.testing.assert_allclose(scores[0], [tf.sigmoid(2.0), 0.5, 0.0])


def test_proposals_lie_within_their_images_however_they_are_predicted(rng):
    """Each image has a size of its own, and a batch wider than either."""
    sizes = np.array([[50.0, 100.0], [80.0, 30.0]], np.float32)
    corners = rng.uniform(-40, 80, [40, 2])
    anchors = [tf.constant(np.concatenate([corners, corners + 30], axis=1), tf.float32)]
    logits, deltas = [rng.normal(size=[2, 40])], [rng.normal(0, 2, [2, 40, 4])]
    rpn = RPN((16,), 4, proposals=(30, 30), nms_iou=0.9)
    boxes, scores = rpn.propose(
        *([tf.constant(part[0], tf.float32)] for part in (logits, deltas)), anchors, tf.constant(sizes), training=True
    )
    used = scores.numpy() > 0
    assert used.sum() > 20
    for image, (height, width) in enumerate(sizes):
        inside = boxes[image].numpy()[used[image]]
        assert (inside >= 0).all() and (inside[:, [0, 2]] <= height).all() and (inside[:, [1, 3]] <= width).all()
        assert (inside[:, 2:].max(axis=0) == [height, width]).all()  # some were beyond


@pytest.mark.parametrize("levels", [1, 2])
def test_proposals_are_ranked_by_logits_that_probabilities_cannot_tell_apart(levels):
    anchors = [tf.constant([[0.0, 0, 10, 10], [20, 20, 30, 30]]), tf.constant([[40.0, 40, 50, 50], [0, 40, 10, 50]])]
    logits = [tf.constant([[20.0, 25.0]]), tf.constant([[30.0, -3.0]])]
    deltas = [tf.zeros([1, 2, 4])] * 2
    rpn = RPN((16,) * levels, 4, anchor_sizes=(32,) * levels, proposals=(4, 4))
    boxes, scores = rpn.propose(
        logits[:levels], deltas[:levels], anchors[:levels], tf.constant([[60.0, 60.0]]), training=True
    )
    expected = [[20, 20, 30, 30], [0, 0, 10, 10], [0, 0, 0, 0], [0, 0, 0, 0]]
    if levels == 2:
        expected = [[40, 40, 50, 50], *expected[:2], [0, 40, 10, 50]]
    np.testing.assert_allclose(boxes[0], expected, atol=1e-4)
    np.testing.assert_allclose(scores[0], [1, 1, *([1, tf.sigmoid(-3.0)] if levels == 2 else [0, 0])], atol=1e-6)


def test_unlikely_proposals_are_kept_behind_likely_ones(rng):
    """Most anchors have negative logits; beside suppressed and empty boxes they must not get lost."""
    corners = 20.0 * np.stack(np.mgrid[:5, :8], axis=-1).reshape(40, 2)
    boxes = np.concatenate([corners, corners + 10], axis=1)
    anchors = [tf.constant(np.concatenate([boxes, boxes + [0, 0, 0.5, 0.5], boxes - 500]), tf.float32)]
    own = rng.permutation(np.linspace(-40, 3, 40))
    logits = [tf.constant(np.concatenate([own, own - 0.1, own + 1])[None], tf.float32)]
    rpn = RPN((16,), 4, proposals=(50, 50))
    found, scores = rpn.propose(logits, [tf.zeros([1, 120, 4])], anchors, tf.constant([[100.0, 160.0]]), training=False)
    best = np.argsort(-own)
    np.testing.assert_allclose(found[0, :40], boxes[best], atol=1e-4)
    np.testing.assert_allclose(scores[0, :40], tf.sigmoid(own[best]), rtol=1e-4)
    assert not found[0, 40:].numpy().any() and not scores[0, 40:].numpy().any()


def test_empty_boxes_are_never_kept_however_high_their_score():
    boxes = tf.constant([[[0.0, 0, 10, 10], [5, 5, 5, 9], [7, 3, 9, 3], [9, 9, 4, 4], [20, 20, 30, 30]]])
    scores = tf.constant([[0.3, 0.9, 0.9, 0.9, 0.2]])
    kept = suppress(boxes[:, :, None], scores[..., None], count=5, iou=0.5)
    np.testing.assert_array_equal(kept.count, [2])
    np.testing.assert_array_equal(kept.boxes[0], [[0, 0, 10, 10], [20, 20, 30, 30], *[[0, 0, 0, 0]] * 3])
    np.testing.assert_array_equal(kept.scores[0, :2], np.float32([0.3, 0.2]))


def test_smooth_l1_is_quadratic_below_beta_and_linear_above():
    np.testing.assert_allclose(smooth_l1(tf.constant([0.5, -1.0, 3.0]), 1.0), [0.125, 0.5, 2.5])
    np.testing.assert_allclose(smooth_l1(tf.constant([0.1]), 0.1), [0.05])


def test_rpn_losses_are_means_over_each_images_sample_and_boxes_count_on_objects_only():
    images, anchors = tf.constant([0, 0, 1]), tf.constant([0, 1, 2])
    sample = SampledAnchors(images, anchors, tf.constant([True, False, False]), tf.zeros([3, 4]))
    losses = rpn_losses(tf.zeros([3]), tf.constant([[1.0] * 4, [7.0] * 4, [7.0] * 4]), sample, 2)
    np.testing.assert_allclose(losses["rpn_class_loss"], np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(losses["rpn_box_loss"], 4 * (1.0 - 1 / 18) / 2 / 2, rtol=1e-6)


def test_rpn_losses_are_zero_for_an_image_without_a_sample():
    sample = sample_anchors(tf.zeros([0, 4]), OBJECTS, LABELS, RPNConfig(), SEEDS)
    losses = rpn_losses(tf.zeros([0]), tf.zeros([0, 4]), sample, 1)
    assert [float(loss) for loss in losses.values()] == [0.0, 0.0]


def test_box_losses_use_the_boxes_of_the_roi_own_class():
    box = tf.constant([[[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0]]])
    labels, valid = tf.constant([[2, 0, 0]]), tf.constant([[True, True, False]])
    rois = SampledRoIs(box, labels, box, valid, tf.zeros_like(labels))
    deltas = np.full([1, 3, 2, 4], 50.0, "float32")
    deltas[0, 0, 1] = 0.0  # the only entry that counts: first RoI, its class 2
    losses = box_head_losses(tf.zeros([1, 3, 3]), tf.constant(deltas), rois, (10.0, 10.0, 5.0, 5.0))
    assert losses["box_loss"].numpy() == pytest.approx(0.0)
    assert losses["class_loss"].numpy() == pytest.approx(np.log(3.0))


def test_the_mask_of_a_roi_is_its_part_of_the_object():
    left_half = np.zeros([1, 16, 16], np.uint8)
    left_half[..., :8] = 1
    frame = tf.constant([[10.0, 20, 30, 60]])  # the object covers columns 20 to 40
    targets = mask_targets(tf.constant([[20.0, 30, 40, 50]]), left_half, frame, 4)
    # The RoI's upper half lies in the frame, its left half on the object's columns.
    np.testing.assert_array_equal(targets[0], [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_mask_targets_are_what_rasterising_the_object_in_the_roi_gives(rng):
    """Ellipses in frames of 112 samples, seen by RoIs that overlap them, against the ellipse's equation."""
    count, size, resolution = 20, 28, 112
    frames = rng.uniform([0, 0, 60, 60], [40, 40, 200, 200], [count, 4])
    boxes = frames + rng.uniform(-15, 15, [count, 4])
    cells = (np.arange(resolution) + 0.5) / resolution
    ellipse = (2 * cells[:, None] - 1) ** 2 + (2 * cells - 1) ** 2 <= 1
    masks = np.repeat(ellipse[None], count, axis=0).astype(np.uint8)
    found = mask_targets(tf.constant(boxes, tf.float32), masks, tf.constant(frames, tf.float32), size).numpy()
    centres = (np.arange(size) + 0.5) / size
    for (y1, x1, y2, x2), (top, left, bottom, right), target in zip(boxes, frames, found, strict=True):
        rows, columns = y1 + centres * (y2 - y1), x1 + centres * (x2 - x1)
        v, u = 2 * (rows - top) / (bottom - top) - 1, 2 * (columns - left) / (right - left) - 1
        expected = v[:, None] ** 2 + u**2 <= 1
        # Cells cut by the outline may fall on either side: there are about 80 of them.
        assert np.sum(target != expected) <= 8


def test_a_cell_belongs_to_the_object_where_exactly_half_of_it_is_covered_or_more(rng):
    """Random masks, seen by RoIs of any place and size, against coverage measured on a grid 60 times finer."""
    count, size, resolution, fine = 12, 5, 7, 60
    masks = (rng.uniform(size=[count, resolution, resolution]) < 0.5).astype(np.uint8)
    frames = rng.uniform([0, 0, 20, 20], [10, 10, 60, 60], [count, 4])
    boxes = frames + rng.uniform(-12, 12, [count, 4])
    boxes[0] = frames[0]
    found = mask_targets(tf.constant(boxes, tf.float32), masks, tf.constant(frames, tf.float32), size).numpy()
    undecided = 0
    for mask, frame, box, target in zip(masks, frames, boxes, found, strict=True):
        inside = np.ones([size * fine, size * fine])
        indices = []
        for axis in (0, 1):
            points = box[axis] + (np.arange(size * fine) + 0.5) / (size * fine) * (box[axis + 2] - box[axis])
            cell = np.floor((points - frame[axis]) / (frame[axis + 2] - frame[axis]) * resolution).astype(int)
            inside *= np.expand_dims((cell >= 0) & (cell < resolution), 1 - axis)
            indices.append(np.clip(cell, 0, resolution - 1))
        coverage = (mask[np.ix_(*indices)] * inside).reshape(size, fine, size, fine).mean(axis=(1, 3))
        clear = np.abs(coverage - 0.5) > 0.02  # the grid's own error
        undecided += np.sum(~clear)
        np.testing.assert_array_equal(target[clear], coverage[clear] >= 0.5)
    assert undecided < 0.1 * found.size


def test_a_cell_that_is_covered_by_exactly_half_belongs_to_the_object_whatever_the_rounding():
    checks = np.tile([[0, 1], [1, 0]], [24, 24])[None].astype(np.uint8)
    frame = tf.constant([[3.3, 7.7, 103.3, 57.7]])
    np.testing.assert_array_equal(mask_targets(frame, checks, frame, 12), np.ones([1, 12, 12]))


def test_boxes_and_frames_without_area_have_empty_masks():
    full = np.ones([2, 4, 4], np.uint8)
    boxes, frames = tf.constant([[1.0, 1, 1, 5], [0, 0, 4, 4]]), tf.constant([[0.0, 0, 4, 4], [2, 2, 2, 4]])
    assert not mask_targets(boxes, full, frames, 3).numpy().any()


def test_the_mask_loss_is_the_mean_over_rois_and_pixels_and_zero_without_rois():
    logits, targets = tf.constant([[[0.0, 9.0]], [[0.0, -9.0]]]), tf.constant([[[1.0, 1.0]], [[0.0, 0.0]]])
    one_image = mask_loss(logits, targets, tf.constant([0, 0]), tf.ones([1]))
    np.testing.assert_allclose(one_image, (np.log(2) + np.log1p(np.exp(-9))) / 2, rtol=1e-6)
    assert mask_loss(tf.zeros([0, 4, 4]), tf.zeros([0, 4, 4]), tf.zeros([0], tf.int32), tf.ones([1])) == 0.0
