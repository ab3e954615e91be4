import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dcnv2.data import convert_coco, load_records, read_dataset_info


def read_examples(report):
    return [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(list(report.shards))]


def features(example):
    """A record as a dict of plain lists."""
    return {
        name: list(getattr(feature, feature.WhichOneof("kind")).value)
        for name, feature in example.features.feature.items()
    }


def decoded(example):
    return np.asarray(Image.open(io.BytesIO(features(example)["image/encoded"][0])))


def test_records_have_exactly_the_features_of_model_gardens_converter(coco, prefix):
    from official.vision.data.create_coco_tf_record import create_tf_example

    coco.add_image(7)
    polygon = [[10.0, 10.0, 30.0, 10.0, 30.0, 26.5, 10.0, 26.5]]
    coco.add_box(7, [10, 10, 20, 16.5], 900, area=330.0, segmentation=polygon)
    coco.add_box(7, [0, 0, 64, 48], 3, area=99.5, segmentation=[[0, 0, 64, 0, 64, 48]])
    report = convert_coco(*coco.save(), prefix)

    names = {3: "disc", 900: "bar"}
    image = coco.content["images"][0]
    expected, _ = create_tf_example(
        image,
        [str(coco.images_dir)],
        bbox_annotations=coco.content["annotations"],
        id_to_name_map=names,
        include_masks=True,
    )
    assert features(read_examples(report)[0]) == features(expected)


def test_images_without_boxes_and_crowd_boxes_are_kept(coco, prefix):
    coco.add_image(1)
    coco.add_image(2)
    coco.add_box(2, [5, 5, 10, 10], 900, iscrowd=1)
    report = convert_coco(*coco.save(), prefix)

    assert (report.images, report.boxes, report.crowd, report.skipped) == (2, 1, 1, ())
    first, second = map(features, read_examples(report))
    assert "image/object/bbox/xmin" not in first
    assert (second["image/object/class/label"], second["image/object/is_crowd"]) == ([900], [1])


def test_boxes_past_the_border_are_clipped(coco, prefix):
    coco.add_image(1, height=40, width=80)
    coco.add_box(1, [-8, 10, 100, 50])
    report = convert_coco(*coco.save(), prefix)

    example = features(read_examples(report)[0])
    sides = [example[f"image/object/bbox/{side}"][0] for side in ("ymin", "xmin", "ymax", "xmax")]
    np.testing.assert_allclose(sides, [0.25, 0, 1, 1])
    assert example["image/object/area"] == [30 * 80]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"category_id": 4}, "unknown category id 4"),
        ({"image_id": 12}, "unknown image id 12"),
        ({"bbox": [1, 2, 3]}, "malformed bbox [1, 2, 3]"),
        ({"bbox": [1, 2, None, 4]}, "malformed bbox"),
        ({"bbox": [1, 2, float("nan"), 4]}, "malformed bbox"),
        ({"bbox": [5, 5, 0, 4]}, "degenerate bbox"),
        ({"bbox": [5, 5, -3, 4]}, "degenerate bbox"),
        ({"bbox": [70, 5, 3, 4]}, "outside its 64x48 image"),
    ],
)
def test_an_unusable_annotation_is_skipped_and_named(coco, prefix, fields, reason):
    coco.add_image(1)
    coco.add_box(1, [1, 1, 10, 10], segmentation=[[1, 1, 11, 1, 11, 11]])
    coco.add_box(1, [1, 1, 10, 10])
    coco.content["annotations"][-1].update({"id": 77, **fields})
    report = convert_coco(*coco.save(), prefix)

    assert (report.images, report.boxes) == (1, 1)
    assert len(report.skipped) == 1
    assert str(report.skipped[0]).startswith("annotation 77: ")
    assert reason in str(report.skipped[0])


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 2, 3]], "malformed polygon"),
        ({"size": [48, 64], "counts": [5, 6]}, "run lengths do not add up"),
        ({"size": [4, 6], "counts": [24]}, "on a 48x64 image"),
    ],
)
def test_the_box_of_an_unusable_mask_is_kept_with_an_empty_mask(coco, prefix, segmentation, reason):
    coco.add_image(1)
    coco.add_box(1, [1, 1, 10, 10], segmentation=[[1, 1, 11, 1, 11, 11]])
    coco.add_box(1, [1, 1, 10, 10], segmentation=segmentation)
    report = convert_coco(*coco.save(), prefix)

    assert (report.images, report.boxes, report.skipped) == (1, 2, ())
    [repair] = report.repaired
    assert repair.item_id == 2
    assert reason in repair.detail
    masks = [np.asarray(Image.open(io.BytesIO(png))) for png in features(read_examples(report)[0])["image/object/mask"]]
    assert (masks[0].any(), masks[1].any()) == (True, False)


def test_unusable_image_files_are_skipped_and_named(coco, prefix):
    coco.add_image(1)
    coco.add_image(2, save=False)
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    path = coco.add_image(3, pixels=noise)
    path.write_bytes(path.read_bytes()[:-200])
    coco.add_image(4).write_bytes(b"this is no image")
    coco.add_image(5, name="5.png", pixels=noise)
    path = coco.images_dir / "5.png"
    path.write_bytes(path.read_bytes()[:-2000])
    coco.add_image(6)
    coco.content["images"][-1].update(height=64, width=64)
    coco.add_image(1, name="again.jpg")
    report = convert_coco(*coco.save(), prefix)

    assert report.images == 1
    messages = {item.item_id: str(item) for item in report.skipped}
    assert "2.jpg does not exist" in messages[2]
    assert "3.jpg is not a complete JPEG" in messages[3]
    assert "4.jpg cannot be decoded" in messages[4]
    assert "5.png cannot be decoded" in messages[5]
    assert "6.jpg is 64x48 pixels, but the annotations say 64x64" in messages[6]
    assert "another image has the same id" in messages[1]
    assert "6 images" in str(report)


def test_other_colour_modes_become_rgb(coco, prefix):
    rng = np.random.default_rng(0)
    grey = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (48, 64))
    colour = np.dstack([grey, grey[:, ::-1], np.full_like(grey, 60)])
    coco.add_image(1, name="grey.jpg", pixels=grey)
    coco.add_image(2, name="alpha.png", pixels=np.dstack([colour, rng.integers(0, 255, (48, 64), np.uint8)]))
    coco.add_image(3, name="deep.png", pixels=(grey.astype(np.uint16) << 8))
    coco.add_image(4, name="cmyk.jpg", save=False)
    Image.fromarray(colour).convert("CMYK").save(coco.images_dir / "cmyk.jpg", quality=95)
    report = convert_coco(*coco.save(), prefix)

    assert report.skipped == ()
    for example, expected in zip(read_examples(report), [np.dstack([grey] * 3), colour] * 2, strict=True):
        expected = np.dstack([grey] * 3) if features(example)["image/filename"] == [b"deep.png"] else expected
        assert np.abs(decoded(example).astype(int) - expected).mean() < 4


def test_a_plain_jpeg_is_stored_byte_for_byte(coco, prefix):
    path = coco.add_image(1)
    report = convert_coco(*coco.save(), prefix)
    assert features(read_examples(report)[0])["image/encoded"] == [path.read_bytes()]


@pytest.mark.parametrize(("height", "width", "upright"), [(64, 48, True), (48, 64, False)])
def test_exif_rotation_follows_the_size_in_the_annotations(coco, prefix, height, width, upright):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :32] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # to be shown rotated clockwise by 90 degrees
    image.save(coco.images_dir / "1.jpg", exif=exif, quality=95)
    coco.add_image(1, height=height, width=width, save=False)
    report = convert_coco(*coco.save(), prefix)

    assert report.skipped == ()
    stored = decoded(read_examples(report)[0])
    assert stored.shape == (height, width, 3)
    np.testing.assert_allclose(stored, np.rot90(pixels, -1) if upright else pixels, atol=12)


def test_masks_of_polygons_and_run_lengths_are_stored_as_png(coco, prefix):
    coco.add_image(1, height=4, width=6)
    coco.add_box(1, [1, 1, 3, 2], segmentation=[[1, 1, 4, 1, 4, 3, 1, 3]])
    coco.add_box(1, [0, 0, 1, 4], segmentation={"size": [4, 6], "counts": [0, 4, 20]}, iscrowd=1)
    coco.add_box(1, [2, 0, 2, 4])
    report = convert_coco(*coco.save(), prefix)

    masks = [np.asarray(Image.open(io.BytesIO(png))) for png in features(read_examples(report)[0])["image/object/mask"]]
    expected = np.zeros((3, 4, 6), np.uint8)
    expected[0, 1:3, 1:4] = expected[1, :, 0] = expected[2, :, 2:4] = 1
    np.testing.assert_array_equal(masks, expected)
    assert read_dataset_info(prefix).has_masks


def test_without_masks_no_masks_are_written(coco, prefix):
    coco.add_image(1)
    coco.add_box(1, [1, 1, 3, 2], segmentation=[[1, 1, 4, 1, 4, 3, 1, 3]])
    report = convert_coco(*coco.save(), prefix, include_masks=False)
    assert "image/object/mask" not in features(read_examples(report)[0])
    assert not read_dataset_info(prefix).has_masks


def test_images_are_spread_over_shards(coco, prefix):
    for image_id in range(1, 6):
        coco.add_image(image_id)
    calls = []
    report = convert_coco(*coco.save(), prefix, num_shards=2, progress=lambda *call: calls.append(call))

    assert [os.path.basename(path) for path in report.shards] == [
        "set-00000-of-00002.tfrecord",
        "set-00001-of-00002.tfrecord",
    ]
    assert calls == [(done, 5) for done in range(1, 6)]
    assert sorted(read_dataset_info(prefix).image_ids) == [1, 2, 3, 4, 5]


def test_a_prefix_may_be_as_long_as_the_names_of_its_shards_allow(coco, prefix):
    for image_id in (1, 2):
        coco.add_image(image_id)
    longest = prefix + "x" * (255 - len("set-00000-of-00002.tfrecord"))
    report = convert_coco(*coco.save(), longest, num_shards=2)
    assert {len(os.path.basename(path)) for path in report.shards} == {255}
    ids = [features(example)["image/source_id"] for example in read_examples(report)]
    assert ids == [[b"1"], [b"2"]]


def test_an_interrupted_conversion_leaves_the_previous_records_alone(coco, prefix):
    coco.add_image(1)
    convert_coco(*coco.save(), prefix)
    before = _folder_contents(prefix)
    coco.add_image(2)

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_coco(*coco.save(), prefix, progress=interrupt)
    assert _folder_contents(prefix) == before


def test_several_processes_write_the_same_records_and_the_same_report(many_images, prefix):
    progress = []
    source = many_images.save()
    one = convert_coco(*source, f"{prefix}/one/set", num_shards=4)
    several = convert_coco(
        *source, f"{prefix}/several/set", num_shards=4, jobs=2, progress=lambda *done: progress.append(done)
    )
    contents = [
        {path.name: path.read_bytes() for path in Path(prefix, folder).iterdir()} for folder in ("one", "several")
    ]
    assert contents[0] == contents[1] and len(contents[0]) == 6
    assert (several.skipped, several.boxes) == (one.skipped, one.boxes)
    assert progress[-1] == (12, 12)


def test_an_interrupted_conversion_goes_on_after_the_shards_that_were_finished(many_images, prefix):
    source = many_images.save()
    expected = convert_coco(*source, f"{prefix}-whole", num_shards=4)

    def interrupt(done, total):
        if done == 8:
            raise KeyboardInterrupt

    progress = []
    with pytest.raises(KeyboardInterrupt):
        convert_coco(*source, prefix, num_shards=4, progress=interrupt)
    assert not os.path.exists(prefix + ".json")
    report = convert_coco(*source, prefix, num_shards=4, progress=lambda done, _: progress.append(done))
    assert progress == list(range(7, 13))  # two shards of three images each were there
    assert list(map(str, report.skipped)) == list(map(str, expected.skipped))
    for path, other in zip(report.shards, expected.shards, strict=True):
        assert Path(path).read_bytes() == Path(other).read_bytes()
    assert not [path for path in Path(prefix).parent.iterdir() if path.name.startswith(".")]


def test_shards_of_another_conversion_are_not_taken_over(many_images, prefix):
    def interrupt(done, total):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_coco(*many_images.save(), prefix, num_shards=4, progress=interrupt)
    many_images.add_box(1, [1, 1, 5, 5])
    assert convert_coco(*many_images.save(), prefix, num_shards=4).boxes == 12


def test_a_conversion_killed_while_putting_shards_in_place_is_refused(coco, prefix, monkeypatch):
    for image_id in (1, 2):
        coco.add_image(image_id)
    convert_coco(*coco.save(), prefix, num_shards=2)
    replace, calls = os.replace, []

    def die_at_the_second_shard(source, target):
        if target.endswith(".tfrecord"):
            calls.append(target)
            if len(calls) == 2:
                raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", die_at_the_second_shard)
        convert_coco(*coco.save(), prefix, num_shards=2)
    for pattern in (prefix, prefix + "-*"):
        with pytest.raises(ValueError, match="did not finish"):
            load_records(pattern, batch_size=1)

    convert_coco(*coco.save(), prefix, num_shards=2)
    assert read_dataset_info(prefix).num_images == 2


def test_converting_again_with_fewer_shards_leaves_no_stale_ones(coco, prefix):
    for image_id in (1, 2, 3):
        coco.add_image(image_id)
    convert_coco(*coco.save(), prefix, num_shards=3)
    convert_coco(*coco.save(), prefix, num_shards=1)
    assert sorted(_folder_contents(prefix)) == ["set-00000-of-00001.tfrecord", "set.json"]


def test_missing_inputs_are_named(coco, prefix, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        convert_coco(coco.images_dir, tmp_path / "nowhere.json", prefix)
    with pytest.raises(FileNotFoundError, match="no_folder"):
        convert_coco(tmp_path / "no_folder", coco.save()[1], prefix)
    with pytest.raises(ValueError, match="num_shards must be at least 1. Received: 0"):
        convert_coco(*coco.save(), prefix, num_shards=0)


def test_a_wrong_image_folder_says_what_is_wrong(coco, prefix, tmp_path):
    coco.add_image(1)
    with pytest.raises(ValueError, match=r"No image .* could be converted.*1\.jpg does not exist"):
        convert_coco(tmp_path, coco.save()[1], prefix)


def test_real_coco_images_convert_completely(shared_dir, prefix):
    source = shared_dir / "data" / "coco_mini"
    annotations = source / "annotations" / "instances_val2017.json"
    report = convert_coco(source / "val2017", annotations, prefix)
    assert (report.images, report.boxes, report.skipped) == (40, 273, ())
    assert max(report.categories) == 90
    assert len(report.categories) == 80


def test_annotations_and_other_peoples_files_are_never_overwritten(coco, tmp_path):
    coco.add_image(1)
    coco.add_box(1, [1, 1, 9, 9])
    images, annotations = coco.save()
    other = tmp_path / "val.json"
    other.write_text('{"images": []}')
    before = annotations.read_text()
    with pytest.raises(FileExistsError, match=r"overwrite the input .*instances\.json"):
        convert_coco(images, annotations, tmp_path / "instances")
    with pytest.raises(FileExistsError, match=r"val\.json exists and is not the description of earlier records"):
        convert_coco(images, annotations, tmp_path / "val")
    assert (annotations.read_text(), other.read_text()) == (before, '{"images": []}')
    assert not list(tmp_path.glob("*.tfrecord"))
    shards = [tmp_path / "t-00000-of-00001.tfrecord", tmp_path / "t-00001-of-00003"]
    for path in shards:
        path.write_bytes(b"another converter's")
    with pytest.raises(FileExistsError, match="t-00000-of-00001.tfrecord exists and is not part of earlier records"):
        convert_coco(images, annotations, tmp_path / "t")
    assert [path.read_bytes() for path in shards] == [b"another converter's"] * 2


def test_a_file_of_which_no_annotation_is_usable_is_refused_with_a_report(coco, prefix):
    coco.add_image(1)
    coco.add_box(1, [100, 100, 9, 9])
    coco.add_box(1, [1, 1, 9, 9], category_id=77)
    with pytest.raises(ValueError, match=r"No annotation of .* could be converted.* lists all 2"):
        convert_coco(*coco.save(), prefix)
    listed = json.loads(Path(f"{prefix}.skipped.json").read_text())["skipped"]
    assert {item["id"] for item in listed} == {1, 2}
    assert list(_folder_contents(prefix)) == ["set.skipped.json"]


def test_a_file_name_that_is_no_text_is_converted_with_its_bytes_as_escapes(coco, prefix):
    coco.add_image(1, name="plain.jpg")
    os.rename(coco.images_dir / "plain.jpg", os.fsencode(coco.images_dir) + b"/caf\xe9.jpg")
    coco.content["images"][0]["file_name"] = "caf\udce9.jpg"
    coco.add_image(2, name="http://[x/a.jpg", save=False)  # nor is this a URL
    coco.add_box(1, [1, 1, 9, 9])
    report = convert_coco(*coco.save(), prefix)
    assert (report.images, report.boxes, len(report.skipped)) == (1, 1, 1)
    [record] = tf.data.TFRecordDataset(report.shards[0])
    names = tf.train.Example.FromString(record.numpy()).features.feature["image/filename"].bytes_list.value
    assert names == [b"caf\\udce9.jpg"]


def test_areas_and_outlines_in_the_unit_of_relative_boxes_are_not_taken_for_pixels(coco, prefix):
    coco.add_image(1, height=48, width=64)
    coco.add_box(1, [0.25, 0.25, 0.5, 0.5], area=0.25)
    report = convert_coco(*coco.save(), prefix, box_format="xywh-normalized")
    assert features(read_examples(report)[0])["image/object/area"] == [24 * 32]
    assert not report.warnings
    coco.content["annotations"][0]["segmentation"] = [[0.25, 0.25, 0.75, 0.25, 0.75, 0.75]]
    report = convert_coco(*coco.save(), prefix, box_format="xywh-normalized")
    assert "100% of the boxes are not the boxes of their segmentations" in report.warnings


def test_annotations_of_an_image_that_is_left_out_are_listed_too(coco, prefix):
    coco.add_image(1)
    coco.add_box(1, [1, 1, 9, 9])
    coco.add_image(2, save=False)
    coco.add_box(2, [1, 1, 9, 9])
    report = convert_coco(*coco.save(), prefix)
    assert [(item.kind, item.item_id) for item in report.skipped] == [("image", 2), ("annotation", 2)]


def test_images_of_one_id_with_annotations_are_left_out_because_nobody_knows_whose(coco, prefix):
    for name in ("a.jpg", "b.jpg"):
        coco.add_image(1, name=name)
    coco.add_image(2)
    for image_id in (1, 2):
        coco.add_box(image_id, [1, 1, 9, 9])
    report = convert_coco(*coco.save(), prefix)
    assert read_dataset_info(prefix).image_ids == (2,)
    assert sorted(item.kind for item in report.skipped) == ["annotation", "image", "image"]


def _folder_contents(prefix):
    return {path.name: path.read_bytes() for path in Path(prefix).parent.glob("*")}
