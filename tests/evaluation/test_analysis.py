"""Where a detector goes wrong, on cases worked out by hand and beside pycocotools."""

import json
import sys

import numpy as np
import pytest

from tests.support.oracle import Oracle
from tf_dcnv2.data import load_records
from tf_dcnv2.evaluation import DetectedDataset, analyze_detections, detect_dataset, write_analyses
from tf_dcnv2.evaluation.coco_metrics import make_ground_truth

STAR, MOON = 3, 8
NAMES = {STAR: "star", MOON: "moon"}


def annotated(image_id, category_id, bbox, **fields):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, **fields}


def detected(objects, detections, images=(1,)) -> DetectedDataset:
    """Objects as `annotated` makes them, detections as (image, class, box, score)."""
    described = [{"id": image_id, "height": 200, "width": 200} for image_id in images]
    keys = ("image_id", "category_id", "bbox", "score")
    results = [dict(zip(keys, found, strict=True)) for found in detections]
    return DetectedDataset({"bbox": make_ground_truth(described, objects, NAMES)}, results, list(images))


OBJECTS = [
    annotated(1, STAR, [10, 10, 20, 20]),
    annotated(1, MOON, [100, 100, 40, 40]),
    annotated(1, STAR, [60, 10, 20, 20]),
    annotated(1, MOON, [10, 100, 20, 20]),
]
DETECTIONS = {
    "right": (1, STAR, [10, 10, 20, 20], 0.9),
    "duplicate": (1, STAR, [11, 10, 20, 20], 0.8),
    "class": (1, STAR, [100, 100, 40, 40], 0.7),
    "localisation": (1, STAR, [70, 10, 20, 20], 0.6),  # IoU 1/3
    "both": (1, STAR, [20, 100, 20, 20], 0.55),  # IoU 1/3 with a moon
    "background": (1, MOON, [150, 10, 20, 20], 0.5),
}


def test_each_false_detection_is_of_the_kind_that_its_overlaps_say():
    analysis = analyze_detections(detected(OBJECTS, DETECTIONS.values()))
    assert {kind: error.count for kind, error in analysis.errors.items()} == {
        "localisation": 1,
        "class": 1,
        "both": 1,
        "duplicate": 1,
        "background": 1,
        "missed": 1,  # the moon at the bottom left: an error of both means no object
    }
    assert [item.kind for item in analysis.false_detections] == list(DETECTIONS)[1:]
    assert [item.object_category_id for item in analysis.false_detections] == [STAR, MOON, STAR, MOON, None]
    assert analysis.false_detections[2].iou == pytest.approx(1 / 3)


def test_a_kind_of_error_costs_what_average_precision_gains_without_it():
    """Each gain is the difference to pycocotools' AP50 of detections in which the error is corrected by hand."""
    before = detected(OBJECTS, DETECTIONS.values())
    gains = {kind: error.ap50_gain for kind, error in analyze_detections(before).errors.items()}
    corrected = {
        "localisation": {**DETECTIONS, "localisation": (1, STAR, [60, 10, 20, 20], 0.6)},
        "class": {**DETECTIONS, "class": (1, MOON, [100, 100, 40, 40], 0.7)},
        **{kind: {k: v for k, v in DETECTIONS.items() if k != kind} for kind in ("both", "duplicate", "background")},
    }
    baseline = before.metrics()["bbox"]["AP50"]
    for kind, detections in corrected.items():
        after = detected(OBJECTS, detections.values()).metrics()["bbox"]["AP50"]
        assert gains[kind] == pytest.approx(after - baseline, abs=1e-9), kind
    without = detected(OBJECTS[:3], DETECTIONS.values()).metrics()["bbox"]["AP50"]
    assert gains["missed"] == pytest.approx(without - baseline, abs=1e-9)
    assert gains["class"] > 0.2


def test_only_one_of_several_detections_of_a_missed_object_is_corrected():
    near = [(1, STAR, [70 + shift, 10, 20, 20], 0.5) for shift in range(3)]
    errors = analyze_detections(detected(OBJECTS[2:3], near)).errors
    assert errors["localisation"].count == 3
    assert errors["localisation"].ap50_gain == pytest.approx(1.0)  # no false detection is left


def test_a_wrong_detection_of_an_object_that_was_found_is_not_corrected():
    found = [(1, STAR, [10, 10, 20, 20], 0.6), (1, STAR, [20, 10, 20, 20], 0.9)]
    errors = analyze_detections(detected([OBJECTS[0], OBJECTS[2]], found)).errors
    assert errors["localisation"].count == 1
    # It disappears: half of the objects, at 51 of 101 recalls, are found with a precision of 1 instead of 1/2.
    assert errors["localisation"].ap50_gain == pytest.approx(51 / 101 / 2)


def test_the_confusion_matrix_counts_every_object_and_detection_once():
    confusion = analyze_detections(detected(OBJECTS, DETECTIONS.values()), score_threshold=0.5).confusion
    # Objects: star, moon, background; detections: star, moon, background.
    assert confusion.counts.tolist() == [[1, 0, 1], [1, 0, 1], [3, 1, 0]]
    assert confusion.category_ids == (STAR, MOON) and confusion.names == ("star", "moon")
    weaker_left_out = analyze_detections(detected(OBJECTS, DETECTIONS.values()), score_threshold=0.75).confusion
    assert weaker_left_out.counts.tolist() == [[1, 0, 1], [0, 0, 2], [1, 0, 0]]


def test_a_detection_of_the_right_class_is_preferred_to_a_surer_one_of_another():
    found = [(1, MOON, [10, 10, 20, 20], 0.9), (1, STAR, [10, 10, 20, 20], 0.6)]
    confusion = analyze_detections(detected(OBJECTS[:1], found)).confusion
    assert confusion.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_detections_on_a_crowd_are_no_errors():
    objects = [annotated(1, STAR, [0, 0, 100, 100], iscrowd=1), annotated(1, STAR, [150, 150, 20, 20])]
    found = [(1, STAR, [10, 10, 20, 20], 0.9), (1, STAR, [150, 150, 20, 20], 0.8)]
    analysis = analyze_detections(detected(objects, found))
    assert {error.count for error in analysis.errors.values()} == {0}
    assert analysis.confusion.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    [star, moon] = analysis.classes
    assert (star.objects, star.images) == (1, 1) and star.average_precision_50 == pytest.approx(1.0)
    assert (moon.objects, moon.average_precision, moon.best) == (0, -1.0, None)


def test_the_best_threshold_balances_precision_and_recall():
    objects = [annotated(1, STAR, [40 * index, 0, 20, 20]) for index in range(4)]
    found = [(1, STAR, [40 * index, 0, 20, 20], score) for index, score in enumerate((0.9, 0.6, 0.6))]
    found += [(1, STAR, [100, 100, 20, 20], 0.5), (1, STAR, [120, 0, 20, 20], 0.1)]
    found += [(1, STAR, [100, 150, 20, 20], 0.1), (1, STAR, [0, 150, 20, 20], 0.1)]
    [star, _] = analyze_detections(detected(objects, found)).classes
    # Three of four objects with three detections; the fourth is found only with three false ones.
    assert (star.best.score, star.best.precision, star.best.recall) == (0.6, 1.0, 0.75)
    assert star.best.f1 == pytest.approx(2 * 0.75 / 1.75)


def test_missed_objects_are_ranked_by_how_little_was_seen_of_them_and_by_size():
    analysis = analyze_detections(detected(OBJECTS, DETECTIONS.values()), worst=2)
    assert [item.bbox for item in analysis.missed_objects] == [[100, 100, 40, 40], [10, 100, 20, 20]]
    assert analysis.missed_objects[0].score == 0.0
    weak_trace_of_the_larger = [(1, MOON, [100, 110, 40, 40], 0.3)]
    analysis = analyze_detections(detected(OBJECTS[1:], weak_trace_of_the_larger))
    assert [item.area for item in analysis.missed_objects] == [400, 400, 1600]
    everything = analyze_detections(detected(OBJECTS, DETECTIONS.values()), score_threshold=0.95)
    assert [item.score for item in everything.missed_objects] == [0.0, 0.0, 0.6, 0.9]


def noisy(detections):
    """Boxes moved, classes exchanged, and detections of nothing, the same every time."""
    random = np.random.default_rng(5)
    boxes, classes = detections["boxes"], detections["classes"].copy()
    moved = boxes + random.normal(0, 6, boxes.shape)
    swapped = (random.uniform(size=classes.shape) < 0.2) & (classes >= 0)
    classes[swapped] = random.choice([2, 5, 11, 17], swapped.sum())
    anywhere = np.concatenate(
        [random.uniform(0, 80, [len(boxes), 9, 2]), random.uniform(90, 160, [len(boxes), 9, 2])], -1
    )
    scores = np.round(random.uniform(0.05, 1, [len(boxes), 2 * boxes.shape[1] + 9]), 2)
    return {
        "boxes": np.concatenate([moved, boxes, anywhere], axis=1),
        "classes": np.concatenate([classes, classes, random.choice([2, 5, 11, 17], [len(boxes), 9])], axis=1),
        "scores": scores,
    }


@pytest.fixture
def messy(shapes) -> DetectedDataset:
    dataset = load_records(shapes[0], batch_size=3, short_side=200)
    return detect_dataset(Oracle(dataset, noisy, with_crowds=True), dataset, annotations=shapes[1])


def test_matches_are_those_of_pycocotools(messy, monkeypatch):
    """Precision and recall at every threshold follow from the matches: the same AP50 does from the same curves."""
    from tf_dcnv2.evaluation import errors, overlaps

    found = overlaps.find_overlaps(messy.ground_truths["bbox"], messy.results, messy.image_ids)
    matches = overlaps.match_by_class(found)
    ap50 = errors._mean_average_precision(found, found.detection_classes, matches.found >= 0, ~matches.ignored)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)  # which does not keep its matches
    evaluation = messy.evaluation()
    assert ap50 == pytest.approx(evaluation.stats[1], abs=1e-6)
    of_all = [image for image in evaluation.evalImgs if image and image["aRng"] == [0, 1e10]]
    assert matches.ignored.sum() == sum(int(image["dtIgnore"][0].sum()) for image in of_all) > 0
    assert (matches.found >= 0).sum() == sum(
        int(((image["dtMatches"][0] > 0) & ~image["dtIgnore"][0].astype(bool)).sum()) for image in of_all
    )


def test_classes_have_the_numbers_and_curves_of_coco(messy):
    analysis, metrics = analyze_detections(messy), messy.metrics()["bbox"]
    assert np.mean([scores.average_precision for scores in analysis.classes]) == pytest.approx(metrics["AP"])
    assert np.mean([scores.average_recall for scores in analysis.classes]) == pytest.approx(metrics["AR100"])
    for scores in analysis.classes:
        expected = metrics["per_class"][scores.category_id]
        assert (scores.average_precision, scores.average_precision_50) == (expected["AP"], expected["AP50"])
        assert scores.precision.mean() == pytest.approx(expected["AP"])
        assert scores.objects > scores.images > 0


def test_every_error_and_every_object_is_accounted_for(messy):
    analysis = analyze_detections(messy, score_threshold=0.0)
    counts = analysis.confusion.counts
    assert counts[:-1].sum(axis=1).tolist() == [scores.objects for scores in analysis.classes]
    false = sum(error.count for kind, error in analysis.errors.items() if kind != "missed")
    assert false + np.trace(counts[:-1, :-1]) == counts[:, :-1].sum()
    assert all(error.ap50_gain >= 0 for error in analysis.errors.values())


def test_an_analysis_is_written_as_json_that_holds_everything(messy, tmp_path):
    analysis = analyze_detections(messy, names={2: "star"}, worst=3)
    write_analyses(tmp_path / "analysis.json", messy.metrics(), {"bbox": analysis})
    content = json.loads((tmp_path / "analysis.json").read_text())["bbox"]
    assert content["metrics"]["AP"] == messy.metrics()["bbox"]["AP"]
    assert content["classes"][0]["name"] == "star"
    curves = content["classes"][0]["precision_at_recall"]
    assert np.mean(curves["IoU 0.50"]) == pytest.approx(content["classes"][0]["average_precision_50"], abs=1e-4)
    assert len(content["false_detections"]) == len(content["missed_objects"]) == 3
    assert content["confusion"]["names"][0] == "star"


def test_without_detections_or_objects_there_is_nothing_to_report():
    nothing_found = analyze_detections(detected(OBJECTS, []))
    assert nothing_found.errors["missed"].count == 4 and not nothing_found.false_detections
    nothing_there = analyze_detections(detected([], DETECTIONS.values()))
    assert nothing_there.errors["background"].count == 6 and not nothing_there.missed_objects


def test_masks_are_analysed_only_where_there_are_some():
    with pytest.raises(ValueError, match="must be one of bbox. Received: 'segm'"):
        analyze_detections(detected(OBJECTS, []), "segm")
    with pytest.raises(ValueError, match="between 0 and 1. Received: 50"):
        analyze_detections(detected(OBJECTS, []), score_threshold=50)
