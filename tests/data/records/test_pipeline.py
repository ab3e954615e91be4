import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.support.coco_folder import SMALL, bright_box, rectangle
from tf_dcnv2.data import convert_coco, load_records, prepare_image, read_image


def image_ids(dataset):
    return [int(image_id) for _, targets in dataset for image_id in targets["image_ids"]]


@pytest.fixture
def numbered(coco, prefix):
    """Nine images in two shards; image n has n - 1 boxes."""
    for image_id in range(1, 10):
        coco.add_image(image_id, pixels=np.full((48, 64, 3), 20 * image_id, np.uint8))
        for index in range(image_id - 1):
            coco.add_box(image_id, [index, index, 10, 10], (3, 900)[index % 2], area=7.0)
    convert_coco(*coco.save(), prefix, num_shards=2)
    return prefix


@pytest.fixture
def rectangles(coco, prefix):
    """Eight images of one bright rectangle each."""
    for image_id in range(1, 9):
        box = [10 + image_id, 12, 30, 20 + 4 * image_id]
        coco.add_image(image_id, pixels=rectangle(48, 64, box))
        coco.add_box(image_id, [box[1], box[0], box[3] - box[1], box[2] - box[0]])
    convert_coco(*coco.save(), prefix)
    return prefix


def test_evaluation_visits_every_image_once_and_keeps_the_last_partial_batch(numbered):
    batches = list(load_records(numbered, batch_size=4, **SMALL))
    assert [len(inputs["images"]) for inputs, _ in batches] == [4, 4, 1]
    assert sorted(image_ids(batches)) == list(range(1, 10))


def test_training_makes_full_batches_only(numbered):
    batches = list(load_records(numbered, batch_size=4, training=True, **SMALL))
    assert [len(inputs["images"]) for inputs, _ in batches] == [4, 4]


def test_a_batch_has_the_promised_names_shapes_and_types(numbered):
    inputs, targets = load_records(numbered, batch_size=4, max_boxes=5, **SMALL).element_spec
    described = {name: (spec.shape.as_list(), spec.dtype) for name, spec in {**inputs, **targets}.items()}
    assert described == {
        "images": ([None, None, None, 3], tf.float32),
        "image_sizes": ([None, 2], tf.float32),
        "boxes": ([None, 5, 4], tf.float32),
        "classes": ([None, 5], tf.int32),
        "crowd": ([None, 5], tf.bool),
        "areas": ([None, 5], tf.float32),
        "image_ids": ([None], tf.int64),
        "original_sizes": ([None, 2], tf.float32),
        "seeds": ([None, 2], tf.int64),
    }


def test_classes_are_raw_category_ids_padded_with_minus_one(numbered):
    for _, targets in load_records(numbered, batch_size=3, **SMALL):
        for image_id, classes, boxes in zip(targets["image_ids"], targets["classes"], targets["boxes"], strict=True):
            count = int(image_id) - 1
            assert classes.numpy().tolist() == [(3, 900)[index % 2] for index in range(count)] + [-1] * (8 - count)
            assert not boxes[count:].numpy().any()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((100, 200), (40, 80)),  # the shorter side reaches 40
        ((200, 100), (80, 40)),
        ((100, 400), (25, 100)),  # the longer side is capped at 100
        ((30, 30), (40, 40)),
        ((7, 2000), (1, 100)),
    ],
)
def test_images_are_resized_by_shorter_side_and_capped_by_longer(coco, prefix, size, expected):
    coco.add_image(1, *size, pixels=np.full((*size, 3), 200, np.uint8))
    coco.add_box(1, [0, 0, size[1], size[0] / 2])
    convert_coco(*coco.save(), prefix)
    [(inputs, targets)] = load_records(prefix, batch_size=1, short_side=40, max_side=100, size_multiple=32)

    assert inputs["image_sizes"].numpy().tolist() == [list(expected)]
    assert targets["original_sizes"].numpy().tolist() == [list(size)]
    np.testing.assert_allclose(targets["boxes"][0, 0], [0, 0, expected[0] / 2, expected[1]], rtol=1e-6)
    image = inputs["images"][0].numpy()
    assert image.shape == tuple(-(-side // 32) * 32 for side in expected) + (3,)
    assert image[: expected[0], : expected[1]].min() > 190
    image[: expected[0], : expected[1]] = 0
    assert not image.any()


def test_a_canvas_gives_static_shapes_and_shrinks_what_does_not_fit(coco, prefix):
    for image_id, size in enumerate([(50, 100), (100, 50)], start=1):
        coco.add_image(image_id, *size)
    convert_coco(*coco.save(), prefix)
    dataset = load_records(prefix, batch_size=2, short_side=64, canvas=(64, 128), training=True, shuffle=False)
    assert dataset.element_spec[0]["images"].shape == (2, 64, 128, 3)
    [(inputs, _)] = dataset
    assert inputs["image_sizes"].numpy().tolist() == [[64, 128], [64, 32]]


def test_boxes_follow_every_augmentation(rectangles):
    dataset = load_records(
        rectangles,
        batch_size=4,
        training=True,
        vertical_flip=True,
        rotate=True,
        scale_range=(0.6, 1.1),
        color_jitter=0.3,
        canvas=(64, 80),
        short_side=48,
        size_multiple=16,
        seed=1,
    )
    places = set()
    for _ in range(4):
        for inputs, targets in dataset:
            for image, boxes in zip(inputs["images"].numpy(), targets["boxes"].numpy(), strict=True):
                # JPEG and resizing blur an edge by about a pixel.
                np.testing.assert_allclose(bright_box(image), boxes[0], atol=1.6)
                places.add(tuple(np.round(boxes[0])))
    assert len(places) > 24


def test_images_are_turned_by_all_four_multiples_of_90_degrees(coco, prefix):
    """The bright box lies at the top left: turned clockwise it comes to the other corners."""
    for image_id in range(1, 9):
        coco.add_image(image_id, 40, 60, pixels=rectangle(40, 60, [0, 0, 10, 20]))
        coco.add_box(image_id, [0, 0, 20, 10])
    convert_coco(*coco.save(), prefix)
    dataset = load_records(prefix, batch_size=2, rotate=True, repeat=True, short_side=40, size_multiple=4, seed=0)
    seen = set()
    for inputs, targets in dataset.take(16):
        assert len({tuple(size) for size in targets["original_sizes"].numpy()}) == 1  # of a batch, none or all
        for image, box, size in zip(inputs["images"], targets["boxes"], targets["original_sizes"], strict=True):
            np.testing.assert_allclose(bright_box(image), box[0], atol=1)
            assert image.shape[:2].as_list() == size.numpy().tolist()
            seen.add(tuple(box[0].numpy().tolist()))
    assert seen == {(0, 0, 10, 20), (0, 30, 20, 40), (30, 40, 40, 60), (40, 0, 60, 10)}


def test_a_batch_has_one_of_several_short_sides(numbered):
    dataset = load_records(numbered, batch_size=3, training=True, short_sides=(24, 36, 48), repeat=True, seed=0)
    sides = [set(inputs["image_sizes"].numpy()[:, 0].tolist()) for inputs, _ in dataset.take(15)]
    assert all(len(one) == 1 for one in sides)
    assert set.union(*sides) == {24, 36, 48}


def test_large_scale_jitter_crops_what_it_enlarges_and_pads_what_it_shrinks(rectangles):
    dataset = load_records(
        rectangles, batch_size=4, training=True, scale_range=(0.1, 2.0), canvas=(64, 64), repeat=True, seed=0
    )
    sizes = []
    for inputs, targets in dataset.take(8):
        for image, size, boxes, crowd in zip(
            inputs["images"].numpy(), inputs["image_sizes"].numpy(), targets["boxes"], targets["crowd"], strict=True
        ):
            height, width = size.astype(int)
            assert not image[height:].any() and not image[:, width:].any()
            sizes.append(width)
            if min(size) > 20 and not crowd[0] and boxes[0].numpy().any():
                np.testing.assert_allclose(bright_box(image), boxes[0], atol=2)
    assert min(sizes) < 16 and sizes.count(64) > 8


@pytest.fixture
def mixed_shapes(coco, prefix):
    """Seven high and six wide images in alternation."""
    for image_id in range(1, 14):
        height, width = ((64, 40), (40, 64))[image_id % 2 == 0]
        coco.add_image(image_id, height, width)
    convert_coco(*coco.save(), prefix, num_shards=3)
    return prefix


@pytest.mark.parametrize("cache", [False, True], ids=["read", "cached"])
def test_batches_are_made_of_images_of_similar_shape_and_every_image_still_comes_once(mixed_shapes, cache):
    options = {"batch_size": 2, "shuffle": True, "seed": 3, "cache": cache, "short_side": 40, "size_multiple": 8}
    for _ in "12":
        batches = list(load_records(mixed_shapes, **options))
        assert sorted(image_ids(batches)) == list(range(1, 14))
        mixed = [batch for batch in batches if len({tuple(size) for size in batch[0]["image_sizes"].numpy()}) > 1]
        assert not mixed
    ungrouped = list(load_records(mixed_shapes, aspect_grouping=False, **options))
    shapes = [batch["images"].shape[1:3] for batch, _ in ungrouped]
    assert (64, 64) in shapes


def test_half_the_images_are_mirrored(rectangles):
    dataset = load_records(rectangles, batch_size=8, flip=True, repeat=True, seed=0, **SMALL)
    lefts = np.array([targets["boxes"][:, 0, 1] for _, targets in dataset.take(20)])
    assert 0.35 < np.mean(lefts == 12) < 0.65


def test_an_object_mostly_cut_off_by_the_crop_becomes_a_crowd_box(coco, prefix):
    for image_id in range(1, 5):
        coco.add_image(image_id)
        coco.add_box(image_id, [0, 0, 10, 10])
        coco.add_box(image_id, [0, 0, 64, 48])
    convert_coco(*coco.save(), prefix)
    dataset = load_records(prefix, batch_size=4, scale_range=(2.0, 2.0), seed=0, **SMALL)
    shares, crowds = [], []
    for _ in range(5):
        for inputs, targets in dataset:
            assert inputs["image_sizes"].numpy().tolist() == [[48, 64]] * 4
            sides = targets["boxes"][:, :, 2:] - targets["boxes"][:, :, :2]
            shares.append(sides[..., 0] * sides[..., 1] / [400, 4 * 64 * 48])
            crowds.append(targets["crowd"])
    # A window of half the height and width always leaves a quarter of the large box: too little.
    np.testing.assert_allclose(np.concatenate(shares)[:, 1], 0.25, rtol=1e-5)
    np.testing.assert_array_equal(np.concatenate(crowds), np.concatenate(shares) < 0.3)


def test_the_seed_makes_order_and_augmentation_reproducible(numbered):
    options = {"batch_size": 3, "training": True, "scale_range": (0.5, 1.5), "canvas": (48, 64), **SMALL}

    def two_epochs(seed, **more):
        dataset = load_records(numbered, seed=seed, **options, **more)
        return [(inputs["images"].numpy(), targets["image_ids"].numpy()) for _ in "12" for inputs, targets in dataset]

    first, again, cached, other = two_epochs(5), two_epochs(5), two_epochs(5, cache=True), two_epochs(6)
    for (images, ids), (images_again, ids_again) in zip(first, again, strict=True):
        np.testing.assert_array_equal(ids, ids_again)
        np.testing.assert_array_equal(images, images_again)
    order = [ids.tolist() for _, ids in first]
    assert order[:3] != order[3:]
    assert order != [ids.tolist() for _, ids in other]
    cached_order = [ids.tolist() for _, ids in cached]
    assert cached_order[:3] != cached_order[3:]


def test_cached_images_equal_uncached_ones(rectangles):
    cached = load_records(rectangles, batch_size=3, cache=True, **SMALL)
    for _ in range(2):
        for (inputs, targets), (other_inputs, other_targets) in zip(
            cached, load_records(rectangles, batch_size=3, **SMALL), strict=True
        ):
            tf.nest.map_structure(np.testing.assert_array_equal, inputs, other_inputs)
            tf.nest.map_structure(np.testing.assert_array_equal, targets, other_targets)


def test_the_number_of_batches_is_known_beforehand(numbered):
    lengths = [
        int(load_records(numbered, batch_size=4, **options, **SMALL).cardinality())
        for options in ({}, {"training": True}, {"repeat": True})
    ]
    assert lengths == [3, 2, tf.data.INFINITE_CARDINALITY]


def test_repeat_goes_on_for_ever(numbered):
    dataset = load_records(numbered, batch_size=4, training=True, repeat=True, **SMALL)
    assert len(list(dataset.take(10))) == 10


@pytest.mark.parametrize("cache", [False, True], ids=["read", "cached"])
def test_training_that_goes_on_at_a_step_sees_what_it_would_have_seen(numbered, cache):
    """Two batches of four a pass; one of the nine images is left out of each."""
    options = {"batch_size": 4, "training": True, "repeat": True, "seed": 7, "cache": cache, "color_jitter": 0.3}
    options |= {"rotate": True, "short_sides": (32, 48), "scale_range": (0.5, 1.5)}
    batches = list(load_records(numbered, **options, **SMALL).take(8))
    for step in (1, 2, 5):
        later = list(load_records(numbered, start_step=step, **options, **SMALL).take(8 - step))
        for batch, other in zip(batches[step:], later, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, batch, other)
    ids = [np.concatenate([targets["image_ids"] for _, targets in batches[n : n + 2]]) for n in (0, 2, 4, 6)]
    assert all(len(set(one)) == 8 for one in ids) and len({tuple(one) for one in ids}) == 4
    seeds = np.concatenate([targets["seeds"] for _, targets in batches])
    assert len({tuple(seed) for seed in seeds}) == len(seeds)


def test_the_order_does_not_depend_on_tensorflow_s_global_seed(numbered):
    orders = []
    for seed in (None, 0, 5):
        tf.random.set_seed(seed)
        dataset = load_records(numbered, batch_size=4, training=True, repeat=True, seed=7, **SMALL)
        orders.append([targets["image_ids"].numpy().tolist() for _, targets in dataset.take(6)])
    assert orders[0] == orders[1] == orders[2]


def test_going_on_at_a_step_gives_the_same_groups_and_the_same_pasted_objects(coco, prefix):
    """Thirteen images of two shapes, three batches of four a pass."""
    for image_id in range(1, 14):
        height, width = ((64, 40), (40, 64))[image_id % 2 == 0]
        coco.add_image(image_id, height, width, pixels=np.full((height, width, 3), 15 * image_id, np.uint8))
        x, y = image_id, 2 * image_id
        coco.add_box(image_id, [x, y, 12, 9], segmentation=[[x, y, x + 12, y, x + 12, y + 9, x, y + 9]])
    convert_coco(*coco.save(), prefix, num_shards=2)
    options = {"batch_size": 4, "training": True, "repeat": True, "seed": 7, "copy_paste": 0.8, "short_side": 40}
    batches = list(load_records(prefix, masks=True, **options).take(9))
    for step in (1, 7):
        later = list(load_records(prefix, masks=True, start_step=step, **options).take(9 - step))
        for batch, other in zip(batches[step:], later, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, batch, other)
    assert any((targets["classes"].numpy()[:, 1] >= 0).any() for _, targets in batches)
    for first in (0, 3, 6):
        assert len(set(image_ids(batches[first : first + 3]))) == 12


@pytest.mark.parametrize("options", [{"repeat": True}, {"seed": 1}, {}], ids=str)
def test_a_step_needs_an_order_that_is_known(numbered, options):
    with pytest.raises(ValueError, match="start_step must be 0 unless repeat=True and a seed are given"):
        load_records(numbered, batch_size=3, training=True, start_step=2, **options, **SMALL)


def test_too_many_boxes_drop_crowd_boxes_first(coco, prefix):
    coco.add_image(1)
    for index, crowd in enumerate([1, 0, 0, 1, 0]):
        coco.add_box(1, [index, 0, 10, 10], iscrowd=crowd)
    convert_coco(*coco.save(), prefix)
    kept = {}
    for max_boxes in (2, 4, None):
        [(_, targets)] = load_records(prefix, batch_size=1, max_boxes=max_boxes, short_side=48)
        kept[max_boxes] = np.round(targets["boxes"][0, :, 1]).tolist()
    assert kept == {2: [1, 2], 4: [0, 1, 2, 4], None: [0, 1, 2, 3, 4]}


def test_images_without_any_box_make_batches(coco, prefix):
    for image_id in (1, 2):
        coco.add_image(image_id)
    convert_coco(*coco.save(), prefix)
    [(_, targets)] = load_records(prefix, batch_size=2, training=True, scale_range=(0.5, 2.0), **SMALL)
    assert (targets["classes"].numpy() == -1).all()


def test_prepare_image_and_load_records_agree(coco, prefix):
    path = coco.add_image(1, 37, 91, pixels=np.random.default_rng(0).integers(0, 255, (37, 91, 3), np.uint8))
    convert_coco(*coco.save(), prefix)
    [(inputs, _)] = load_records(prefix, batch_size=1, short_side=50, max_side=100)
    prepared = prepare_image(read_image(path), short_side=50, max_side=100)
    np.testing.assert_array_equal(prepared["image_sizes"], inputs["image_sizes"])
    np.testing.assert_array_equal(prepared["images"], inputs["images"])


def test_records_of_model_gardens_converter_can_be_read(coco, tmp_path):
    from official.vision.data.create_coco_tf_record import create_tf_example

    coco.add_image(11)
    coco.add_box(11, [4, 8, 20, 16], 900, area=5.0)
    example, _ = create_tf_example(
        coco.content["images"][0],
        [str(coco.images_dir)],
        bbox_annotations=coco.content["annotations"],
        id_to_name_map={900: "bar"},
    )
    with tf.io.TFRecordWriter(str(tmp_path / "foreign.tfrecord")) as writer:
        writer.write(example.SerializeToString())
    [(_, targets)] = load_records(tmp_path / "foreign.tfrecord", batch_size=1, short_side=48)
    assert image_ids([(None, targets)]) == [11]
    np.testing.assert_allclose(targets["boxes"][0, 0], [8, 4, 24, 24], rtol=1e-6)
    assert targets["classes"].numpy()[0, 0] == 900


@pytest.mark.parametrize("damage", ["truncated", "flipped bit"])
@pytest.mark.parametrize("with_sidecar", [True, False])
def test_a_damaged_record_file_is_named(numbered, damage, with_sidecar):
    path = numbered + "-00001-of-00002.tfrecord"
    content = bytearray(Path(path).read_bytes())
    if damage == "truncated":
        del content[-100:]
    else:
        content[len(content) // 2] ^= 1
    Path(path).write_bytes(content)
    if not with_sidecar:
        os.unlink(numbered + ".json")
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=r"set-00001-of-00002\.tfrecord\W+is trunc"):
        list(load_records(numbered, batch_size=2, **SMALL))


def test_missing_shards_are_named(numbered):
    os.unlink(numbered + "-00001-of-00002.tfrecord")
    for sidecar in (True, False):
        if not sidecar:
            os.unlink(numbered + ".json")
        with pytest.raises(FileNotFoundError, match=r"missing .*set-00001-of-00002\.tfrecord"):
            load_records(numbered + "-*", batch_size=2)


def test_a_pattern_without_matches_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing-\*"):
        load_records(tmp_path / "nothing-*", batch_size=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1. Received: 0"),
        ({"batch_size": 1, "short_side": 0}, "short_side must be at least 1. Received: 0"),
        ({"batch_size": 1, "max_boxes": 0}, "max_boxes must be at least 1. Received: 0"),
        ({"batch_size": 1, "canvas": (50, 64)}, r"multiples of size_multiple=32.*\(50, 64\)"),
        ({"batch_size": 1, "scale_range": (0, 1)}, "scale_range"),
        ({"batch_size": 1, "color_jitter": 2}, "color_jitter"),
        ({"batch_size": 1, "copy_paste": 2}, "copy_paste"),
        ({"batch_size": 1, "short_sides": []}, "short_sides"),
        ({"batch_size": 10, "training": True}, "only 9 images"),
    ],
)
def test_bad_arguments_are_named(numbered, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_records(numbered, **arguments)
