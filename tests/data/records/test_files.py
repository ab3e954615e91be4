import json
import subprocess
import sys
from pathlib import Path

import pytest

from tf_dcnv2.data import convert_coco, load_records, read_dataset_info
from tf_dcnv2.data.records.dataset_info import describe_shards
from tf_dcnv2.data.records.files import find_shards


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


def test_one_data_set_without_a_description_leaves_all_of_them_without(two_sets):
    Path(f"{two_sets[1]}.json").unlink()
    assert describe_shards(find_shards(two_sets[0])).num_images == 2
    assert describe_shards(find_shards(two_sets)) is None


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


def test_permuted_ids_are_matched_by_name(two_sets, coco):
    coco.content["categories"] = [{"id": 3, "name": "bar"}, {"id": 900, "name": "disc"}]
    convert_coco(*coco.save(), two_sets[1])  # its one box, of id 3, is a bar now
    info = read_dataset_info(two_sets)
    assert info.categories == {3: "disc", 900: "bar"}
    assert info.boxes_per_category == {3: 1, 900: 3}
    assert info.notes() == [f"categories of {two_sets[1]} are matched by name: 3 -> 900, 900 -> 3"]
    classes = [int(targets["classes"][0, 0]) for _, targets in load_records(two_sets, batch_size=1, short_side=48)]
    assert classes[-1] == 900


def test_records_take_the_ids_of_given_categories(two_sets):
    dataset = load_records(two_sets[0], batch_size=2, short_side=48, categories={1: "bar", 2: "disc", 7: "other"})
    [(_, targets)] = dataset
    assert sorted(targets["classes"].numpy().ravel().tolist())[-3:] == [1, 1, 2]


def test_records_of_a_category_that_is_not_given_are_refused_by_name(two_sets):
    with pytest.raises(ValueError, match=r"not trained on: 'bar' \(known: 'disc'\)"):
        load_records(two_sets[0], batch_size=1, categories={5: "disc"})
    # A category without a box in these records does not matter.
    [_] = load_records(two_sets[1], batch_size=1, short_side=48, categories={5: "disc"})


def test_images_of_the_same_id_in_two_sets_stay_two_images(two_sets, coco):
    coco.content["images"][0]["id"] = coco.content["annotations"][0]["image_id"] = 2
    convert_coco(*coco.save(), two_sets[1])
    info = read_dataset_info(two_sets)
    assert info.image_ids == (1, 2, 3)
    assert "1 image ids" in info.notes()[0]
    loaded = [int(targets["image_ids"][0]) for _, targets in load_records(two_sets, batch_size=1, short_side=48)]
    assert loaded == [1, 2, 3]


@pytest.mark.parametrize("name", ["train", "./train", "sub/train", "a[1]/train", "a*b/tr?ain", "[x]"])
def test_any_output_name_can_be_read_back(coco, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    coco.add_image(1)
    coco.add_box(1, [1, 1, 5, 5])
    for _ in "12":  # the second conversion replaces the first
        convert_coco(*coco.save(), name)
    for pattern in (name, f"{name}-*", f"{name}-00000-of-00001.tfrecord", tmp_path / name):
        assert read_dataset_info(pattern).num_images == 1
        assert len(list(load_records(pattern, batch_size=1, short_side=48))) == 1


def test_a_folder_of_records_names_what_is_in_it(two_sets, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There are .*records/a, .*records/b"):
        read_dataset_info(tmp_path / "records")


def test_every_box_trains_by_default_and_a_limit_says_what_it_costs(coco, prefix):
    coco.add_image(1)
    for index in range(150):
        coco.add_box(1, [index % 15 * 4, index // 15 * 4, 4, 4])
    convert_coco(*coco.save(), prefix)
    [(_, targets)] = load_records(prefix, batch_size=1, training=True, short_side=48)
    assert int((targets["classes"] >= 0).numpy().sum()) == 150
    with pytest.warns(UserWarning, match=r"50 boxes on 1 images are left out by max_boxes=100; max_boxes=150 keeps"):
        load_records(prefix, batch_size=1, training=True, max_boxes=100)
    sidecar = json.loads(Path(f"{prefix}.json").read_text())
    del sidecar["shards"][0]["boxes_per_image"]  # as in records of earlier versions
    Path(f"{prefix}.json").write_text(json.dumps(sidecar))
    with pytest.warns(UserWarning, match=r"boxes are left out by max_boxes=100; max_boxes=150 keeps all"):
        load_records(prefix, batch_size=1, training=True, max_boxes=100)


@pytest.mark.parametrize(("crowd", "reason"), [([], "not a single box"), ([1, 1], "all 2 boxes are crowd regions")])
def test_records_from_which_nothing_can_be_learnt_are_refused_for_training(coco, prefix, crowd, reason):
    from tf_dcnv2.data.records.dataset_info import require_objects

    coco.add_image(1)
    for value in crowd:
        coco.add_box(1, [1, 1, 9, 9], iscrowd=value)
    report = convert_coco(*coco.save(), prefix)
    assert any(reason in warning for warning in report.warnings)
    with pytest.raises(ValueError, match=f"records/set: .*{reason}"):
        require_objects(read_dataset_info(prefix), "records/set")
