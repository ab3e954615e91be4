import numpy as np
import pytest
import tensorflow as tf

from tests.support.coco_folder import SMALL, rectangle
from tf_dcnv2._core.masks import paste_mask, uncompressed_rle
from tf_dcnv2.data import convert_coco, load_records
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
        scale_range=(0.8, 1.5),
        short_side=96,
        canvas=(96, 96),
        seed=1,
    )
    cropped = 0
    for _ in range(4):
        for inputs, targets in dataset:
            for image, mask, frame, box in zip(
                inputs["images"].numpy(),
                targets["masks"].numpy()[:, 0],
                targets["mask_boxes"].numpy()[:, 0],
                targets["boxes"].numpy()[:, 0],
                strict=True,
            ):
                bright, pasted = image.mean(axis=-1) > 127, paste_mask(mask, frame, 96, 96)
                assert np.sum(bright & pasted) > 0.9 * np.sum(bright | pasted)
                cropped += not np.allclose(frame, box)
    assert cropped > 4


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
