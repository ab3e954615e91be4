import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from tests.support.masks import box_mask, segmentation_mask
from tf_dcnv2._core.masks import box_rle, compressed_rle, empty_rle, paste_mask, pasted_rle, uncompressed_rle


@pytest.mark.parametrize("box", [[10, 20, 50, 80], [3, 5, 31, 33], [0, 0, 7, 9], [-20, 60, 20, 118]])
def test_a_full_mask_fills_its_box_and_nothing_else(box):
    np.testing.assert_array_equal(paste_mask(np.ones((28, 28)), box, 60, 100), box_mask(box, 60, 100))


def test_between_its_cells_a_mask_is_bilinear(rng):
    mask = rng.uniform(size=(8, 8)).astype("float32")
    pasted = paste_mask(mask, [10, 10, 74, 58], 90, 70)
    enlarged = np.asarray(Image.fromarray(mask).resize((48, 64), Image.Resampling.BILINEAR)) >= 0.5
    # Pillow repeats the outermost cells where a pasted mask falls off, in the outer half of each.
    np.testing.assert_array_equal(pasted[14:70, 13:55], enlarged[4:-4, 3:-3])


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.3, -0.7), (-45.0, 30.0)])
@pytest.mark.parametrize("sides", [(20.0, 30.0), (110.0, 40.0), (150.0, 190.0)])
def test_a_pasted_outline_is_the_one_pycocotools_draws(shift, sides):
    """An ellipse, once rasterised on the image and once in 28 x 28 cells of its box and then pasted."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    unit = 0.5 + 0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # in the unit square, (x, y)
    cells = segmentation_mask([(unit * 28 * 8).ravel().tolist()], 28 * 8, 28 * 8).reshape(28, 8, 28, 8).mean((1, 3))
    y, x = 50 + shift[0], 60 + shift[1]
    on_image = segmentation_mask([(unit * sides[::-1] + [x, y]).ravel().tolist()], 180, 240)
    pasted = paste_mask(cells, [y, x, y + sides[0], x + sides[1]], 180, 240)
    assert on_image.sum() > 100
    assert np.sum(pasted & on_image) / np.sum(pasted | on_image) > 0.95


@pytest.mark.parametrize("box", [[200, 0, 300, 50], [-50, -50, -10, -10], [10, 10, 10, 40]])
def test_a_box_outside_the_image_or_without_area_has_no_pixels(box):
    assert not paste_mask(np.ones((28, 28)), box, 100, 100).any()


def test_a_run_length_code_is_the_one_of_pycocotools(rng):
    mask = (rng.uniform(size=(40, 30)) < 0.3).astype(np.uint8)
    code = compressed_rle(mask)
    assert code["counts"].isascii()
    np.testing.assert_array_equal(coco_mask.decode(code), mask)
    np.testing.assert_array_equal(segmentation_mask(uncompressed_rle(mask), 40, 30), mask)


def test_a_box_covers_the_pixels_whose_centres_it_holds():
    for box in ([0.4, 1.6, 3.5, 4.4], [0, 0, 5, 7], [2.6, 0, 2.9, 7], [-3, -3, 9, 9], [1, 6.7, 2, 7]):
        code = box_rle(box, 5, 7)
        np.testing.assert_array_equal(segmentation_mask(code, 5, 7), box_mask(box, 5, 7), err_msg=str(box))
        assert sum(code["counts"]) == 35
    assert not segmentation_mask(empty_rle(3, 4), 3, 4).any()


@pytest.mark.parametrize("whole_pixels", [False, True])
@pytest.mark.parametrize("shape", [(60, 80), (7, 90), (90, 7), (1, 1)])
def test_the_code_of_a_mask_in_its_box_is_that_of_the_pasted_mask(shape, whole_pixels):
    """Byte for byte, for boxes inside, across every border, over the whole image and beyond it."""
    random = np.random.default_rng(3)
    boxes = [
        [-5.0, -5.0, 200.0, 200.0],
        [0.0, 10.0, float(shape[0]), 30.0],
        [3.0, 3.0, 3.0, 3.0],
        [70.0, 90.0, 99.0, 99.0],
    ]
    boxes += [np.sort(random.uniform(-10, 90, [2, 2]), axis=0).ravel() for _ in range(60)]
    for box in boxes:
        for mask in (random.uniform(size=[28, 28]), np.ones([28, 28]), np.zeros([28, 28])):
            expected = compressed_rle(paste_mask(mask, box, *shape, whole_pixels=whole_pixels))
            assert pasted_rle(mask, box, *shape, whole_pixels=whole_pixels) == expected
