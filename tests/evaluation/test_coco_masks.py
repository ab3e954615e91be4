"""Average precision of masks; that of boxes is in test_coco.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tests.support.oracle import NAMES, Oracle
from tf_dcnv2.data import convert_coco, load_records
from tf_dcnv2.evaluation import evaluate_coco


class MaskOracle(Oracle):
    """An `Oracle` that knows the masks too."""

    @staticmethod
    def perfect(targets, with_crowds):
        return {**Oracle.perfect(targets, with_crowds), "masks": targets["masks"].numpy().astype("float32")}


@pytest.fixture
def dataset(shapes):
    # Another size than the original's, so that forgetting to map masks back shows.
    return load_records(shapes[0], batch_size=3, short_side=200, masks=True)


def full(detections):
    return {**detections, "masks": np.ones_like(detections["masks"])}


def test_perfect_masks_score_one(dataset):
    metrics = evaluate_coco(MaskOracle(dataset), dataset)
    assert set(metrics) == {"bbox", "segm"}
    assert set(metrics["segm"]) == NAMES
    assert metrics["segm"]["AP"] == metrics["segm"]["AR100"] == 1.0


def test_against_the_annotation_file_masks_cost_only_their_resolution(shapes, dataset):
    metrics = evaluate_coco(MaskOracle(dataset), dataset, annotations=shapes[1])["segm"]
    assert metrics["AP75"] > 0.99
    assert metrics["AP"] > 0.95


def test_masks_that_fill_their_boxes_cost_mask_precision_only(dataset):
    metrics = evaluate_coco(MaskOracle(dataset, full), dataset)
    assert metrics["bbox"]["AP"] == 1.0
    assert metrics["segm"]["AP"] < 0.5


def test_no_detections_at_all_score_zero(dataset):
    def nothing(detections):
        return {**detections, "classes": np.full_like(detections["classes"], -1)}

    assert evaluate_coco(MaskOracle(dataset, nothing), dataset)["segm"]["AP"] == 0.0


def test_masks_are_scored_only_where_both_sides_have_them(shapes, dataset):
    assert set(evaluate_coco(Oracle(dataset), dataset)) == {"bbox"}
    boxes_only = load_records(shapes[0], batch_size=3, short_side=200)
    assert set(evaluate_coco(MaskOracle(dataset), boxes_only)) == {"bbox"}
    assert set(evaluate_coco(MaskOracle(dataset), boxes_only, annotations=shapes[1])) == {"bbox", "segm"}


def test_results_hold_masks_of_the_original_image_that_pycocotools_reads(shapes, dataset, tmp_path):
    path = tmp_path / "results.json"
    evaluate_coco(MaskOracle(dataset), dataset, results_path=path)
    annotations = COCO(shapes[1])
    loaded = annotations.loadRes(str(path))
    for image_id in annotations.imgs:
        expected = [item for item in annotations.imgToAnns[image_id] if not item["iscrowd"]]
        for item, found in zip(expected, loaded.imgToAnns[image_id], strict=True):
            overlap = coco_mask.iou([found["segmentation"]], [annotations.annToRLE(item)], [0])
            assert overlap[0, 0] > 0.9


def test_annotations_may_lack_masks_and_image_sizes_and_malformed_masks_are_left_out(shapes, dataset, tmp_path):
    content = json.loads(Path(shapes[1]).read_text())
    for image in content["images"]:
        del image["height"], image["width"]
    first, second, *_ = (item for item in content["annotations"] if not item["iscrowd"])
    del first["segmentation"]
    second["segmentation"] = [[1.0, 2.0]]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    metrics = evaluate_coco(MaskOracle(dataset, full), dataset, annotations=path)["segm"]
    assert 0 < metrics["AP"] < 0.5


def test_real_coco_masks_are_scored_against_their_annotations(shared_dir, tmp_path):
    source = shared_dir / "data" / "coco_mini"
    annotations = source / "annotations" / "instances_val2017.json"
    convert_coco(source / "val2017", annotations, tmp_path / "val")
    dataset = load_records(tmp_path / "val", batch_size=4, short_side=128, masks=True)
    metrics = evaluate_coco(MaskOracle(dataset), dataset, annotations=annotations)
    assert metrics["segm"]["AP50"] > 0.99
    assert metrics["segm"]["AP"] > 0.9
