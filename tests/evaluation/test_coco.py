import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.support.oracle import NAMES, Oracle
from tf_dcnv2.data import convert_coco, load_records, make_synthetic_coco
from tf_dcnv2.evaluation import analyze_detections, detect_dataset, evaluate_coco


@pytest.fixture(scope="module")
def dataset(shapes):
    # Another size than the original's, so that forgetting to map boxes back shows.
    return load_records(shapes[0], batch_size=3, short_side=200)


def without_every_other(detections):
    detections["classes"][:, ::2] = -1
    return detections


def shifted(detections):
    return {**detections, "boxes": detections["boxes"] + 8.0}


def nothing(detections):
    count = len(detections["scores"])
    return {"boxes": np.zeros((count, 0, 4)), "scores": np.zeros((count, 0)), "classes": np.zeros((count, 0), int)}


@pytest.mark.parametrize("with_annotations", [True, False])
def test_perfect_detections_score_one(shapes, dataset, with_annotations):
    metrics = evaluate_coco(Oracle(dataset), dataset, annotations=shapes[1] if with_annotations else None)["bbox"]
    assert set(metrics) == NAMES
    assert metrics["AP"] == metrics["AP50"] == metrics["AR100"] == 1.0
    assert metrics["APl"] == -1.0  # no object is larger than 96 x 96 pixels
    assert metrics["per_class"] == {category_id: {"AP": 1.0, "AP50": 1.0} for category_id in (2, 5, 11, 17)}


@pytest.mark.parametrize("change", [without_every_other, shifted, nothing])
def test_both_kinds_of_ground_truth_give_the_same_numbers(shapes, dataset, change):
    from_file = evaluate_coco(Oracle(dataset, change), dataset, annotations=shapes[1])
    from_records = evaluate_coco(Oracle(dataset, change), dataset)
    assert from_file == from_records
    assert from_file["bbox"]["AP"] < 0.8


def test_missed_objects_and_shifted_boxes_cost_precision(dataset):
    half = evaluate_coco(Oracle(dataset, without_every_other), dataset)["bbox"]
    off = evaluate_coco(Oracle(dataset, shifted), dataset)["bbox"]
    assert 0.2 < half["AP"] < 0.8
    assert half["AP"] == half["AP50"]
    assert off["AP"] < off["AP50"]


def test_no_detections_at_all_score_zero(dataset, tmp_path):
    results = tmp_path / "results.json"
    metrics = evaluate_coco(Oracle(dataset, nothing), dataset, results_path=results)["bbox"]
    assert metrics["AP"] == metrics["AR100"] == 0.0
    assert json.loads(results.read_text()) == []


@pytest.mark.parametrize("with_annotations", [True, False])
def test_a_category_of_id_0_is_scored_as_any_other(tmp_path, with_annotations):
    images, annotations = make_synthetic_coco(tmp_path, num_images=8, image_size=(96, 128))
    content = json.loads(Path(annotations).read_text())
    first = min(category["id"] for category in content["categories"])
    for entry, key in [(one, "id") for one in content["categories"]] + [
        (one, "category_id") for one in content["annotations"]
    ]:
        entry[key] = 0 if entry[key] == first else entry[key]
    Path(annotations).write_text(json.dumps(content))
    convert_coco(images, annotations, tmp_path / "records")
    dataset = load_records(tmp_path / "records", batch_size=4, short_side=96)
    metrics = evaluate_coco(Oracle(dataset), dataset, annotations=annotations if with_annotations else None)["bbox"]
    assert metrics["AP"] == 1.0 and metrics["per_class"][0] == {"AP": 1.0, "AP50": 1.0}


def test_images_without_detections_count(dataset):
    def only_first_image_of_each_batch(detections):
        detections["classes"][1:] = -1
        return detections

    metrics = evaluate_coco(Oracle(dataset, only_first_image_of_each_batch), dataset)["bbox"]
    assert 0.1 < metrics["AR100"] < 0.6


def test_detections_on_a_crowd_are_neither_right_nor_wrong(dataset):
    oracle = Oracle(dataset, with_crowds=True)
    assert any((answer["scores"] == 1.0).any() for answer in oracle.given)
    assert evaluate_coco(oracle, dataset)["bbox"]["AP"] == 1.0


def test_results_are_in_original_pixels_with_the_data_sets_own_ids(shapes, dataset, tmp_path):
    from pycocotools.coco import COCO

    path = tmp_path / "results.json"
    evaluate_coco(Oracle(dataset), dataset, results_path=path)
    annotations = COCO(shapes[1])
    loaded = annotations.loadRes(str(path))
    for image_id in annotations.imgs:
        expected = [item for item in annotations.imgToAnns[image_id] if not item["iscrowd"]]
        found = loaded.imgToAnns[image_id]
        assert [item["category_id"] for item in found] == [item["category_id"] for item in expected]
        np.testing.assert_allclose(
            [item["bbox"] for item in found] or np.zeros((0, 4)),
            [item["bbox"] for item in expected] or np.zeros((0, 4)),
            atol=1e-2,
        )


def test_detections_that_are_not_finite_are_dropped(dataset, tmp_path):
    def diverged(detections):
        detections["boxes"][:, 0] = np.nan
        detections["scores"][:, 1] = np.inf
        return detections

    path = tmp_path / "results.json"
    metrics = evaluate_coco(Oracle(dataset, diverged), dataset, results_path=path)["bbox"]
    assert 0 < metrics["AP"] < 1
    assert "NaN" not in path.read_text()


def test_max_images_scores_only_the_first_ones(dataset):
    done = []
    metrics = evaluate_coco(Oracle(dataset), dataset, max_images=4, progress=done.append)["bbox"]
    assert metrics["AP"] == 1.0
    assert done == [1, 2, 3, 4]


def test_repeated_images_count_once(shapes, dataset):
    twice = dataset.concatenate(dataset)
    assert evaluate_coco(Oracle(twice), twice, annotations=shapes[1])["bbox"]["AP"] == 1.0


def test_a_keras_model_is_run_through_its_compiled_predict_function(dataset):
    import keras

    class Blind(keras.Model):
        def call(self, inputs):
            assert not tf.executing_eagerly()
            count = tf.shape(inputs["images"])[0]
            boxes = tf.tile(tf.constant([[[0.0, 0.0, 50.0, 50.0]]]), [count, 1, 1])
            return {"boxes": boxes, "scores": tf.ones([count, 1]), "classes": tf.fill([count, 1], 5)}

    metrics = evaluate_coco(Blind(), dataset)["bbox"]
    assert 0 <= metrics["AP"] < 0.5


def test_annotations_without_these_images_are_refused(shapes, dataset, tmp_path):
    content = json.loads(Path(shapes[1]).read_text())
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**content, "images": content["images"][:-1]}))
    with pytest.raises(ValueError, match="no image with id 20"):
        evaluate_coco(Oracle(dataset), dataset, annotations=path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        evaluate_coco(Oracle(dataset), dataset, annotations=tmp_path / "nowhere.json")


def test_an_empty_data_set_is_refused(dataset):
    with pytest.raises(ValueError, match="no images"):
        evaluate_coco(Oracle(dataset), dataset.take(0))


def test_real_coco_annotations_are_scored_like_pycocotools_does(shared_dir, tmp_path):
    source = shared_dir / "data" / "coco_mini"
    annotations = source / "annotations" / "instances_val2017.json"
    convert_coco(source / "val2017", annotations, tmp_path / "val", include_masks=False)
    dataset = load_records(tmp_path / "val", batch_size=4, short_side=128)
    metrics = evaluate_coco(Oracle(dataset), dataset, annotations=annotations)["bbox"]
    assert metrics["AP"] > 0.999
    assert min(metrics[size] for size in ("APs", "APm", "APl")) > 0.99
    assert len(metrics["per_class"]) == 80
    from_records = evaluate_coco(Oracle(dataset), dataset)["bbox"]
    # The file lists 80 categories, the records show only those that occur.
    assert metrics.pop("per_class").keys() > from_records.pop("per_class").keys()
    assert metrics == pytest.approx(from_records)


def test_faster_coco_eval_is_used_where_it_is_installed(dataset, monkeypatch):
    from pycocotools.cocoeval import COCOeval

    used = []

    class Fast(COCOeval):
        def accumulate(self):
            used.append(self.params.iouType)
            super().accumulate()

    expected = evaluate_coco(Oracle(dataset, shifted), dataset)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", SimpleNamespace(COCOeval_faster=Fast))
    assert evaluate_coco(Oracle(dataset, shifted), dataset) == expected
    assert used == ["bbox"]


def test_faster_coco_eval_has_the_numbers_of_pycocotools(dataset, monkeypatch, unavailable):
    if importlib.util.find_spec("faster_coco_eval") is None:
        unavailable("faster-coco-eval is not installed: pip install '.[fast-eval]'")
    fast = detect_dataset(Oracle(dataset, shifted, with_crowds=True), dataset)
    analysis = analyze_detections(fast)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    reference = detect_dataset(Oracle(dataset, shifted, with_crowds=True), dataset)
    assert type(fast.evaluation()) is not type(reference.evaluation())
    numbers, expected = fast.metrics()["bbox"], reference.metrics()["bbox"]
    assert numbers.pop("per_class")[2] == pytest.approx(expected.pop("per_class")[2], abs=1e-9)
    assert numbers == pytest.approx(expected, abs=1e-9)
    for given, wanted in zip(analysis.classes, analyze_detections(reference).classes, strict=True):
        np.testing.assert_allclose(given.precision, wanted.precision, atol=1e-9)
        assert given.average_recall == pytest.approx(wanted.average_recall, abs=1e-9)
