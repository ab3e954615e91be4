import numpy as np
import pytest
import tensorflow as tf

from tests.support.coco_folder import SMALL, rectangle
from tf_dcnv2._core.masks import paste_mask, uncompressed_rle
from tf_dcnv2.data import convert_coco, load_records
from tf_dcnv2.data.records.copy_paste import paste_objects
from tf_dcnv2.data.records.object_masks import masks_in_boxes


def triangle(height, width, box):
    """Pixels of a box `[y1, x1, y2, x2]` below its diagonal: unlike its mirror images, its box full of them."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    y1, x1, y2, x2 = box
    inside = (rows > y1) & (rows < y2) & (columns > x1) & (columns < x2)
    return (inside & ((rows - y1) / (y2 - y1) > (columns - x1) / (x2 - x1))).astype(np.uint8)


@pytest.fixture
def triangles(coco, prefix):
    """Eight images of one bright triangle each."""
    for image_id in range(1, 9):
        box = [4 + image_id, 6, 40, 26 + 4 * image_id]
        mask = triangle(48, 64, box)
        coco.add_image(image_id, pixels=np.repeat(255 * mask[..., None], 3, axis=2))
        segmentation = uncompressed_rle(mask)
        coco.add_box(image_id, [box[1], box[0], box[3] - box[1], box[2] - box[0]], segmentation=segmentation)
    convert_coco(*coco.save(), prefix)
    return prefix


def png(mask):
    return tf.io.encode_png(np.asarray(mask, np.uint8)[..., None])


def test_a_mask_holds_the_pixels_at_the_centres_of_its_box_cells():
    mask = np.zeros((10, 20), np.uint8)
    mask[2:4, 5:7] = 1
    mask[4:6, 7:9] = 255  # any value but zero
    box = np.array([2, 5, 6, 9]) / [10, 20, 10, 20]
    found = masks_in_boxes(tf.stack([png(mask)]), tf.constant([box], tf.float32), 8)
    np.testing.assert_array_equal(found[0], np.kron([[1, 0], [0, 1]], np.ones((4, 4))))


def test_a_batch_has_the_promised_shapes_and_types(triangles):
    dataset = load_records(triangles, batch_size=4, max_boxes=5, masks=True, mask_size=16, **SMALL)
    spec = dataset.element_spec[1]
    assert (spec["masks"].shape.as_list(), spec["masks"].dtype) == ([None, 5, 16, 16], tf.uint8)
    assert (spec["mask_boxes"].shape.as_list(), spec["mask_boxes"].dtype) == ([None, 5, 4], tf.float32)
    for _, targets in dataset:
        assert not targets["masks"].numpy()[:, 1:].any()
        np.testing.assert_array_equal(targets["mask_boxes"], targets["boxes"])


def test_masks_follow_every_augmentation(triangles):
    dataset = load_records(
        triangles,
        batch_size=4,
        training=True,
        masks=True,
        vertical_flip=True,
        rotate=True,
        copy_paste=0.7,
        scale_range=(0.8, 1.5),
        short_side=96,
        canvas=(96, 96),
        repeat=True,
        seed=1,
    )
    cropped, objects = 0, []
    for inputs, targets in dataset.take(8):
        for index, image in enumerate(inputs["images"].numpy()):
            count = int(np.sum(targets["classes"][index] >= 0))
            masks, frames, boxes = (targets[name].numpy()[index, :count] for name in ("masks", "mask_boxes", "boxes"))
            pasted = [paste_mask(mask, frame, 96, 96) for mask, frame in zip(masks, frames, strict=True)]
            bright, covered = image.mean(axis=-1) > 127, np.any(pasted, axis=0)
            assert np.sum(bright & covered) > 0.9 * np.sum(bright | covered)
            cropped += not np.allclose(frames[0], boxes[0])
            objects.append(count)
    assert cropped > 4 and {1, 2} <= set(objects)


def pasted(own_mask, other_mask, **changes):
    """Two images of one object each, 4 x 4 and 4 x 6 pixels: the second pasted onto the first, as arrays."""

    def example(mask, value, width):
        frame = [[0.0, 0.0, 4.0, 4.0]]
        whole = {
            "image": np.full((4, width, 3), value, np.uint8),
            "boxes": np.float32(frame),
            "areas": np.float32([16]),
        }
        masks = {"masks": np.uint8([mask]), "mask_boxes": np.float32(frame)}
        return whole | masks | {"classes": np.int32([value]), "crowd": np.array([False])}

    other = example(other_mask, 9, 6) | changes
    for seed in range(20):  # half of them choose the object
        result = paste_objects(example(own_mask, 5, 4), other, tf.constant([seed, 0], tf.int64))
        if 9 in result["classes"].numpy():
            break
    return {name: np.asarray(value) for name, value in result.items()}


LEFT_HALF, TOP_ROW = [[1, 1, 0, 0]] * 4, [[1] * 4] + [[0] * 4] * 3


def test_a_pasted_object_brings_its_pixels_and_hides_what_is_beneath():
    result = pasted(own_mask=[[1] * 4] * 4, other_mask=LEFT_HALF)
    np.testing.assert_array_equal(result["image"][..., 0], [[9, 9, 5, 5]] * 4)
    assert result["classes"].tolist() == [5, 9]
    assert result["boxes"].tolist() == [[0, 2, 4, 4], [0, 0, 4, 4]]
    np.testing.assert_array_equal(result["masks"], [[[0, 0, 1, 1]] * 4, LEFT_HALF])
    assert not result["crowd"].any()


def test_an_object_that_is_mostly_hidden_is_ignored_and_a_hidden_one_is_gone():
    most = pasted(own_mask=[[1] * 4] * 4, other_mask=[[1] * 4] * 3 + [[0] * 4])
    assert most["classes"].tolist() == [5, 9] and most["crowd"].tolist() == [True, False]
    assert pasted(own_mask=LEFT_HALF, other_mask=LEFT_HALF)["classes"].tolist() == [9]


def test_an_object_that_nothing_covers_keeps_its_annotated_box():
    result = pasted(own_mask=LEFT_HALF, other_mask=[[0, 0, 1, 1]] * 4)
    assert result["boxes"].tolist()[0] == [0, 0, 4, 4]


@pytest.mark.parametrize(
    "changes",
    [
        {"crowd": np.array([True])},
        {"masks": np.zeros((1, 4, 4), np.uint8)},
        {"boxes": np.float32([[0, 3.5, 4, 6]]), "mask_boxes": np.float32([[0, 3.5, 4, 6]])},  # a fifth is on the image
    ],
    ids=["crowd", "no mask", "beyond the border"],
)
def test_objects_that_cannot_be_pasted_stay_where_they_are(changes):
    result = pasted(own_mask=LEFT_HALF, other_mask=TOP_ROW, **changes)
    assert result["classes"].tolist() == [5] and (result["image"] == 5).all()


def test_copy_paste_needs_masks(coco, prefix):
    coco.add_image(1)
    coco.add_box(1, [0, 0, 10, 10])
    convert_coco(*coco.save(), prefix)
    with pytest.raises(ValueError, match="have no masks"):
        load_records(prefix, batch_size=1, copy_paste=0.5, **SMALL)


def test_detectors_without_masks_get_pasted_boxes_alone(triangles):
    _, targets = load_records(triangles, batch_size=4, copy_paste=1.0, seed=0, **SMALL).element_spec
    assert targets["boxes"].shape == (None, 2, 4) and not {"masks", "mask_boxes"} & set(targets)


def test_the_masks_of_the_boxes_that_are_kept_are_kept(coco, prefix):
    coco.add_image(1)
    for index, crowd in enumerate([1, 0, 0]):
        half = rectangle(48, 64, [10, 10 * index, 20, 10 * index + 5])[..., 0] // 255
        coco.add_box(1, [10 * index, 10, 10, 10], iscrowd=crowd, segmentation=uncompressed_rle(half))
    coco.add_box(1, [40, 10, 10, 10], segmentation=uncompressed_rle(rectangle(48, 64, [10, 40, 20, 50])[..., 0] // 255))
    convert_coco(*coco.save(), prefix)
    [(_, targets)] = load_records(prefix, batch_size=1, max_boxes=3, masks=True, **SMALL)
    assert targets["masks"].numpy().mean(axis=(2, 3)).tolist() == [[0.5, 0.5, 1.0]]


def test_images_without_any_box_make_batches(coco, prefix):
    coco.add_image(1)
    coco.add_image(2)
    coco.add_box(2, [5, 5, 10, 10], segmentation=[[5.0, 5.0, 15.0, 5.0, 15.0, 15.0]])
    convert_coco(*coco.save(), prefix)
    [(_, targets)] = load_records(prefix, batch_size=2, training=True, masks=True, shuffle=False, **SMALL)
    assert targets["masks"].numpy().any(axis=(1, 2, 3)).tolist() == [False, True]


@pytest.mark.parametrize("with_sidecar", [True, False])
def test_records_without_masks_are_refused(coco, prefix, with_sidecar, tmp_path):
    coco.add_image(1)
    coco.add_box(1, [5, 5, 10, 10])
    convert_coco(*coco.save(), prefix)
    if not with_sidecar:
        (tmp_path / "records" / "set.json").unlink()
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"(no|0) masks.* convert"):
        list(load_records(prefix, batch_size=1, masks=True, **SMALL))
