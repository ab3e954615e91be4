import os

import numpy as np
import pytest
from PIL import Image

from tf_dcnv2.fonts import font_for
from tf_dcnv2.visualization import (
    class_color,
    draw_annotations,
    draw_detections,
    save_grid,
    save_image,
    unwritable_names,
)

GREY = np.full((100, 140, 3), 128, np.uint8)
BOX = np.array([[30.0, 40.0, 80.0, 110.0]])


def test_a_box_is_drawn_in_its_class_colour():
    picture = draw_detections(GREY, BOX, [0.9], [7], names={7: "cat"})
    assert picture.dtype == np.uint8
    assert picture.shape == GREY.shape
    for row, column in [(60, 40), (60, 110), (80, 75)]:
        assert tuple(picture[row, column]) == class_color(7)
    assert tuple(picture[55, 75]) == (128, 128, 128)


@pytest.mark.parametrize(
    ("scores", "classes"), [([0.4], [7]), ([0.9], [-1]), ([float("nan")], [7])], ids=["low score", "padding", "nan"]
)
def test_what_is_no_detection_is_not_drawn(scores, classes):
    np.testing.assert_array_equal(draw_detections(GREY, BOX, scores, classes), GREY)


def test_annotations_are_drawn_without_scores():
    assert (draw_detections(GREY, BOX, classes=[3]) != GREY).any()
    np.testing.assert_array_equal(draw_detections(GREY, np.zeros((0, 4))), GREY)


def test_boxes_at_and_past_the_border_stay_in_the_picture():
    boxes = [[-50.0, -50.0, 500.0, 500.0], [0.0, 130.0, 10.0, 140.0], [np.nan] * 4]
    assert draw_detections(GREY, np.array(boxes), [0.9] * 3, [1, 2, 3], names={2: "a long name"}).shape == GREY.shape


def test_zoom_enlarges_picture_and_boxes():
    picture = draw_detections(GREY, BOX, [0.9], [7], zoom=3)
    assert picture.shape == (300, 420, 3)
    assert tuple(picture[180, 120]) == class_color(7)


def test_crowd_regions_are_labelled_as_ignored_behind_the_objects():
    boxes, classes, names = np.concatenate([BOX, BOX + 4]), np.array([7, 7]), {7: "cat"}
    picture = draw_annotations(GREY, boxes, classes, crowd=[False, True], names=names)
    region = draw_detections(GREY, boxes[1:], classes=[7], names={7: "cat (ignored)"})
    np.testing.assert_array_equal(picture, draw_detections(region, BOX, classes=[7], names=names))
    without = draw_annotations(GREY, boxes, classes, names=names)
    assert (picture != without).any()
    np.testing.assert_array_equal(without, draw_detections(GREY, boxes, classes=classes, names=names))


def test_a_crowd_region_whose_name_no_font_has_is_labelled_by_its_id():
    picture = draw_annotations(GREY, BOX, [7], crowd=[True], names={7: chr(0xE123)})
    np.testing.assert_array_equal(picture, draw_detections(GREY, BOX, classes=[7], names={7: "7 (ignored)"}))


def test_annotations_that_are_padding_or_were_cut_off_are_not_drawn():
    boxes = np.concatenate([BOX, [[100.0, 20.0, 100.0, 60.0]]])
    np.testing.assert_array_equal(draw_annotations(GREY, boxes, [-1, 7], crowd=[True, False]), GREY)
    np.testing.assert_array_equal(draw_annotations(GREY, np.zeros([0, 4]), np.zeros(0, int)), GREY)
    with pytest.raises(ValueError, match="crowd must have one entry for each of 1 boxes"):
        draw_annotations(GREY, BOX, [7], crowd=[True, False])


def test_the_image_given_is_left_alone():
    image = GREY.astype(np.float32)
    draw_detections(image, BOX, [0.9], [7])
    assert (image == 128).all()


def test_a_mask_tints_its_pixels_and_outlines_them_in_the_class_colour():
    left_half = np.repeat([[1.0] * 14 + [0.0] * 14], 28, axis=0)  # columns 40 to 75 of the picture
    picture = draw_detections(GREY, BOX, [0.9], [7], masks=left_half[None]).astype(int)
    tinted, outline, beyond = picture[55, 55], picture[55, 74], picture[55, 90]
    assert tuple(outline) == class_color(7)
    assert tuple(beyond) == (128, 128, 128)
    np.testing.assert_allclose(tinted, 0.6 * 128 + 0.4 * np.array(class_color(7)), atol=1)


def test_masks_of_what_is_no_detection_are_not_drawn():
    masks = np.ones((1, 28, 28))
    np.testing.assert_array_equal(draw_detections(GREY, BOX, [0.4], [7], masks=masks), GREY)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"masks must be \(D, R, R\) for 1 boxes"):
        draw_detections(GREY, BOX, masks=np.ones((2, 28, 28)))
    with pytest.raises(ValueError, match="image must be"):
        draw_detections(GREY[..., 0], BOX)
    with pytest.raises(ValueError, match="boxes must be"):
        draw_detections(GREY, BOX[:, :3])
    with pytest.raises(ValueError, match="scores must have"):
        draw_detections(GREY, BOX, [0.1, 0.2])


def test_a_grid_shows_every_image(tmp_path):
    images = [np.full((20 + 5 * index, 30, 3), 40 * index, np.uint8) for index in range(5)]
    path = tmp_path / "pictures" / "grid.png"
    save_grid(images, path, columns=2)
    grid = np.asarray(Image.open(path))
    for index in range(5):
        assert (grid == 40 * index).all(axis=-1).sum() == images[index][..., 0].size
    with pytest.raises(ValueError, match="empty"):
        save_grid([], path)


@pytest.mark.parametrize("name", ["cell", "Möwe", "эритроцит", "κύτταρο"])
def test_names_in_european_scripts_are_drawn_with_a_font_that_has_them(name):
    font = font_for(name, 20)
    missing = font.getmask("\U0010ffff")
    assert all(bytes(font.getmask(char)) != bytes(missing) for char in name)
    assert unwritable_names([name]) == []


def test_a_name_that_no_font_has_is_drawn_as_its_id():
    # Nobody has these: the private use area, and a character that is not assigned.
    for name in ("\ue000\uf123", "\U000e1234"):
        assert font_for(name, 20) is None
        assert unwritable_names([name, "cell"]) == [name]
        by_id = draw_detections(GREY, BOX, [0.9], [7], names={7: "7"})
        np.testing.assert_array_equal(draw_detections(GREY, BOX, [0.9], [7], names={7: name}), by_id)


def test_an_interrupted_picture_leaves_the_earlier_one(tmp_path, monkeypatch):
    save_image(GREY, tmp_path / "x.jpg", comment="ours")
    before = (tmp_path / "x.jpg").read_bytes()
    assert Image.open(tmp_path / "x.jpg").info["comment"] == b"ours"
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        save_image(GREY[:50], tmp_path / "x.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["x.jpg"]
    assert (tmp_path / "x.jpg").read_bytes() == before
