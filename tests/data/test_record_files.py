import json
import subprocess
import sys

import pytest

from tf_dcnv2.data import convert_coco, load_records, read_dataset_info


@pytest.fixture
def two_sets(coco, tmp_path):
    """Prefixes of two data sets of the same categories: 2 images with 3 boxes, 1 image with a crowd box."""
    prefixes = [str(tmp_path / "records" / name) for name in ("a", "b")]
    for image_id in (1, 2):
        coco.add_image(image_id)
    for bbox in ([1, 1, 5, 5], [2, 2, 5, 5]):
        coco.add_box(2, bbox, 900)
    coco.add_box(2, [3, 3, 5, 5], 3)
    convert_coco(*coco.save(), prefixes[0], num_shards=2)
    coco.content.update(images=[], annotations=[])
    coco.add_image(10)
    coco.add_box(10, [1, 1, 5, 5], 3, iscrowd=1)
    convert_coco(*coco.save(), prefixes[1])
    return prefixes


def test_the_description_counts_images_boxes_and_categories(two_sets):
    info = read_dataset_info(two_sets[0])
    assert info.categories == {3: "disc", 900: "bar"}
    assert info.category_ids == (3, 900)
    assert (info.num_images, info.num_boxes, info.num_crowd, info.max_boxes_per_image) == (2, 3, 0, 3)
    assert info.boxes_per_category == {3: 1, 900: 2}
    assert str(info) == "2 images, 3 boxes, 2 classes (disc 1, bar 2)"


@pytest.mark.parametrize("as_pattern", [lambda a, b: [a, b], lambda a, b: a[:-1] + "*", lambda a, b: [a + "-*", b]])
def test_several_data_sets_add_up(two_sets, as_pattern):
    info = read_dataset_info(as_pattern(*two_sets))
    assert (info.num_images, info.num_boxes, info.num_crowd) == (3, 4, 1)
    assert info.boxes_per_category == {3: 2, 900: 2}
    assert info.image_ids == (1, 2, 10)
    assert len(info.shards) == 3
    assert len(list(load_records(as_pattern(*two_sets), batch_size=1, short_side=48))) == 3


def test_some_shards_of_a_data_set_are_described_alone(two_sets):
    info = read_dataset_info(two_sets[0] + "-00001-of-00002.tfrecord")
    assert (info.num_images, info.num_boxes, info.image_ids) == (1, 3, (2,))
    assert len(list(load_records(two_sets[0] + "-00000*", batch_size=1, short_side=48))) == 1


def test_data_sets_that_disagree_on_a_category_are_refused(two_sets, coco):
    coco.content["categories"] = [{"id": 3, "name": "ball"}]
    convert_coco(*coco.save(), two_sets[1])
    with pytest.raises(ValueError, match="Category 3 is 'disc' in one data set, 'ball' in another"):
        read_dataset_info(two_sets)


def test_records_without_a_description_say_so(two_sets, tmp_path):
    (tmp_path / "records" / "a.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.json"):
        read_dataset_info(two_sets[0])


def test_a_damaged_description_is_named(two_sets, tmp_path):
    sidecar = tmp_path / "records" / "a.json"
    sidecar.write_text(sidecar.read_text()[:50])
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON"):
        read_dataset_info(two_sets[0])


def test_shards_that_the_description_does_not_list_are_refused(two_sets, tmp_path):
    sidecar = tmp_path / "records" / "a.json"
    content = json.loads(sidecar.read_text())
    del content["shards"][1]
    sidecar.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a-00001-of-00002\.tfrecord do not belong"):
        load_records(two_sets[0], batch_size=1)


def test_importing_the_data_package_does_not_import_model_garden():
    code = "import sys, tf_dcnv2.data; print({'official', 'pycocotools'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
