import numpy as np
from pycocotools import mask as coco_mask

from tests.support.masks import segmentation_mask
from tf_dcnv2._core.masks import uncompressed_rle
from tf_dcnv2.data.synthetic.outlines import mask_polygons


def picture(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def test_a_rectangle_has_its_four_corners():
    [polygon] = mask_polygons(picture("......", ".####.", ".####.", "......"))
    assert sorted(zip(polygon[::2], polygon[1::2], strict=True)) == [(1, 1), (1, 3), (5, 1), (5, 3)]


def test_parts_that_touch_at_a_corner_stay_apart():
    mask = picture("###...", "###...", "...###", "...###")
    assert len(mask_polygons(mask)) == 2
    np.testing.assert_array_equal(segmentation_mask(mask_polygons(mask), 4, 6), mask)


def test_holes_are_filled():
    mask = picture("#####", "#...#", "#...#", "#####")
    [polygon] = mask_polygons(mask)
    assert segmentation_mask([polygon], 4, 5).all()


def test_specks_and_empty_masks_have_no_outline():
    assert mask_polygons(np.zeros((5, 5))) == []
    assert mask_polygons(picture("#..", "..#")) == []


def test_the_outline_of_a_blob_covers_the_same_pixels():
    rows, columns = np.mgrid[:80, :90]
    angle = np.arctan2(rows - 40, columns - 45)
    mask = np.hypot(rows - 40, columns - 45) < 25 + 8 * np.sin(5 * angle)
    drawn = segmentation_mask(mask_polygons(mask), 80, 90).astype(bool)
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.97


def test_run_lengths_decode_to_the_same_mask():
    rng = np.random.default_rng(0)
    for mask in (rng.random((7, 9)) < 0.5, np.zeros((3, 4), bool), np.ones((3, 4), bool)):
        np.testing.assert_array_equal(segmentation_mask(uncompressed_rle(mask), *mask.shape), mask)
        compressed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        np.testing.assert_array_equal(segmentation_mask(compressed, *mask.shape), mask)
