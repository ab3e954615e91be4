"""Test-time augmentation."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import MASK_HEAD, make_batch, tiny_config
from tests.support.eagerly import run_eagerly
from tf_dcnv2.models import AugmentedDetector
from tf_dcnv2.models.heads import Detections


class BrightSpot:
    """A detector that finds the bright rectangle of each image, and the bright part of a mask of its box."""

    short_side, max_side, resizing, has_mask_head, whole_pixel_masks = 64, 128, "tensorflow", True, False

    def __init__(self, scores=(0.5,)):
        config = SimpleNamespace(max_detections=5, nms_iou=0.5, score_threshold=0.1)
        self.box_head = SimpleNamespace(num_classes=3, config=config)
        self.shapes, self._scores = [], list(scores)

    def find(self, images, image_sizes):
        self.shapes.append(tuple(images.shape))
        bright = images[..., 0] > 127
        rows, columns = tf.reduce_any(bright, 2), tf.reduce_any(bright, 1)
        (top, bottom), (left, right) = self._span(rows), self._span(columns)
        boxes = tf.stack([top, left, bottom, right], -1)[:, None]
        count = tf.shape(boxes)[0]
        score = self._scores.pop(0) if len(self._scores) > 1 else self._scores[0]
        found = Detections(boxes, tf.fill([count, 1], score), tf.fill([count, 1], 2), tf.ones([count], tf.int32))
        return found, [images]

    @staticmethod
    def _span(marked):
        first = tf.argmax(marked, 1)
        return tf.cast(first, tf.float32), tf.cast(first + tf.reduce_sum(tf.cast(marked, tf.int64), 1), tf.float32)

    def complete(self, found, levels):
        """The masks are one where the green channel is bright at the cell's centre."""
        [images] = levels
        cells = (tf.range(4.0) + 0.5) / 4
        top, left, bottom, right = tf.unstack(found.boxes, axis=-1)
        rows = tf.cast(top[..., None] + (bottom - top)[..., None] * cells, tf.int32)
        columns = tf.cast(left[..., None] + (right - left)[..., None] * cells, tf.int32)
        masks = tf.gather(tf.gather(images[..., 1], rows, batch_dims=1), columns, axis=3, batch_dims=2) / 255.0
        return {"scores": found.scores, "classes": found.class_indices, "num_detections": found.count, "masks": masks}


@pytest.fixture
def spots():
    """Two padded images with a red rectangle each, whose left quarter is yellow."""
    images = np.zeros([2, 64, 96, 3], np.float32)
    images[0, 8:40, 16:48, 0] = images[1, 16:32, 40:72, 0] = 255
    images[0, 8:40, 16:24, 1] = images[1, 16:32, 40:48, 1] = 255
    images[0, 60:] = images[1, :, 88:] = 0
    return {"images": tf.constant(images), "image_sizes": tf.constant([[60.0, 96.0], [64.0, 88.0]])}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (1.0, 1.25)])
def test_what_every_view_finds_is_one_detection_in_pixels_of_the_given_images(spots, scales):
    detector = BrightSpot()
    found = AugmentedDetector(detector, scales)(spots)
    assert len(detector.shapes) == 2 * len(scales)
    assert found["num_detections"].numpy().tolist() == [1, 1]
    np.testing.assert_allclose(found["boxes"][:, 0], [[8, 16, 40, 48], [16, 40, 32, 72]], atol=1.5)
    assert found["classes"][:, 0].numpy().tolist() == [2, 2]
    # Masks of mirrored views are turned back before they are averaged.
    np.testing.assert_allclose(found["masks"][:, 0], np.tile([1.0, 0.0, 0.0, 0.0], [2, 4, 1]), atol=0.4)


def test_smaller_views_are_smaller_and_the_given_images_are_the_largest(spots):
    detector = BrightSpot()
    augmented = AugmentedDetector(detector, (0.5, 2.0), flip=False)
    assert (augmented.short_side, augmented.max_side) == (128, 256)
    with run_eagerly():  # a graph would not know the sizes
        augmented(spots)
    assert detector.shapes == [(2, 32, 32, 3), (2, 64, 96, 3)]  # a quarter, padded to a multiple of 32


@pytest.mark.usefixtures("eagerly")
def test_the_surest_of_overlapping_boxes_stays(spots):
    found = AugmentedDetector(BrightSpot([0.3, 0.9]))(spots)
    np.testing.assert_allclose(found["scores"][:, 0], 0.9)


def test_a_single_view_finds_what_the_detector_finds():
    detector = tiny_config(**{"mask_head": MASK_HEAD, "box_head.score_threshold": 0.0}).build((3, 7, 90), name="tiny")
    inputs, _ = make_batch()
    expected, found = detector(inputs), AugmentedDetector(detector, flip=False)(inputs)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def test_a_mirrored_image_has_mirrored_detections():
    """Its views are the same, in another order."""
    detector = tiny_config(**{"mask_head": MASK_HEAD, "box_head.score_threshold": 0.0}).build((3, 7, 90), name="tiny")
    augmented = AugmentedDetector(detector)
    image = np.random.default_rng(0).integers(0, 256, [60, 90, 3], np.uint8)
    found, mirrored = augmented.detect([image, image[:, ::-1]], short_side=60, max_side=90)
    order = [np.lexsort((np.round(one["boxes"][:, 0], 2), -np.round(one["scores"], 4))) for one in (found, mirrored)]
    assert len(found["scores"]) > 10
    np.testing.assert_allclose(np.sort(found["scores"]), np.sort(mirrored["scores"]), atol=1e-4)
    best, same = found["boxes"][order[0][0]], mirrored["boxes"][order[1][0]]
    np.testing.assert_allclose(same, [best[0], 90 - best[3], best[2], 90 - best[1]], atol=0.05)
    np.testing.assert_allclose(found["masks"][order[0][0]], mirrored["masks"][order[1][0]][:, ::-1], atol=1e-3)


def test_scales_that_are_none_are_refused():
    for scales in ((), (0.0,), (float("nan"),), (1.0, -2.0)):
        with pytest.raises(ValueError, match="scales must be positive"):
            AugmentedDetector(BrightSpot(), scales)
