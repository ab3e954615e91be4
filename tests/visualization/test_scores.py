"""Figures of an evaluation and pictures of its errors."""

import numpy as np
import pytest
from PIL import Image

from tf_dcnv2.evaluation import DetectedDataset, analyze_detections
from tf_dcnv2.evaluation.coco_metrics import make_ground_truth
from tf_dcnv2.visualization import (
    is_figure,
    save_confusion_matrix,
    save_errors,
    save_false_detections,
    save_missed_objects,
    save_precision_recall,
)

NAMES = {1: "star", 4: "十字"}


@pytest.fixture
def detected() -> DetectedDataset:
    """A star that is found, one that is missed, and a false detection at the border of another image."""
    images = [{"id": image_id, "height": 100, "width": 160} for image_id in (1, 2)]
    objects = [
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 20]},
        {"image_id": 1, "category_id": 4, "bbox": [100, 60, 30, 30]},
    ]
    results = [
        {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 20], "score": 0.8},
        {"image_id": 2, "category_id": 4, "bbox": [150, 90, 10, 10], "score": 0.9},
    ]
    return DetectedDataset({"bbox": make_ground_truth(images, objects, NAMES)}, results, [1, 2])


@pytest.fixture
def dataset() -> list:
    """The two images at twice their size, with padding, each in a plain colour."""
    images = np.zeros([2, 224, 320, 3], np.float32)
    images[0, :200], images[1, :200] = (200, 0, 0), (0, 0, 200)
    inputs = {"images": images, "image_sizes": np.array([[200, 320], [200, 320]], np.float32)}
    return [(inputs, {"image_ids": np.array([1, 2]), "original_sizes": np.array([[100, 160]] * 2, np.float32)})]


@pytest.mark.parametrize("save", [save_precision_recall, save_confusion_matrix, save_errors])
@pytest.mark.parametrize("extension", [".png", ".svg"])
def test_numbers_are_drawn_as_figures_that_may_be_replaced(save, extension, detected, tmp_path):
    path = tmp_path / f"figure{extension}"
    for analysis in (
        analyze_detections(detected, names=NAMES),
        analyze_detections(DetectedDataset(detected.ground_truths, [], [1])),
    ):
        save(analysis, path)
        assert is_figure(path)
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        save(analysis, tmp_path / "figure.pdf")


def share_of_blue(path) -> float:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red, blue = ((pixels[..., channel] - pixels[..., 2 - channel] > 100).sum() for channel in (0, 2))
    return blue / (red + blue)


def test_worst_cases_are_cut_from_the_images_they_are_on(detected, dataset, tmp_path):
    analysis = analyze_detections(detected, names=NAMES)
    assert save_false_detections(detected, analysis, dataset, tmp_path / "false.png", names=NAMES)
    assert save_missed_objects(detected, analysis, dataset, tmp_path / "missed.png", names=NAMES)
    assert share_of_blue(tmp_path / "false.png") > 0.9
    assert share_of_blue(tmp_path / "missed.png") < 0.1


def test_ignored_regions_near_a_false_detection_are_grey_and_objects_white(detected, dataset, tmp_path):
    near = {"image_id": 2, "category_id": 1, "bbox": [120, 60, 25, 30], "area": 750}
    shares = []
    for crowd in (0, 1):
        truth = detected.ground_truths["bbox"]
        objects = [*truth.dataset["annotations"], {**near, "iscrowd": crowd}]
        truth = make_ground_truth(truth.dataset["images"], objects, NAMES)
        found = DetectedDataset({"bbox": truth}, detected.results, [1, 2])
        save_false_detections(found, analyze_detections(found), dataset, tmp_path / "false.png", names={})
        pixels = np.asarray(Image.open(tmp_path / "false.png").convert("RGB"))
        shares.append([(np.abs(pixels.astype(int) - grey) < 5).all(axis=-1).sum() for grey in (150, 255)])
    (grey_of_object, white_of_object), (grey_of_region, white_of_region) = shares
    assert grey_of_region > grey_of_object + 100 and white_of_object > white_of_region + 100


def test_the_surroundings_of_a_small_object_on_a_large_image_are_shown(tmp_path):
    """The image is resized to half its size; the object lies in a blue square on red."""
    objects = [{"image_id": 1, "category_id": 1, "bbox": [1000, 600, 30, 30]}]
    truth = make_ground_truth([{"id": 1, "height": 1000, "width": 1600}], objects, NAMES)
    detected = DetectedDataset({"bbox": truth}, [], [1])
    images = np.zeros([1, 512, 800, 3], np.float32)
    images[0, :500] = (200, 0, 0)
    images[0, 270:346, 470:546] = (0, 0, 200)
    inputs = {"images": images, "image_sizes": np.array([[500, 800]], np.float32)}
    dataset = [(inputs, {"image_ids": np.array([1]), "original_sizes": np.array([[1000, 1600]], np.float32)})]
    assert save_missed_objects(detected, analyze_detections(detected), dataset, tmp_path / "missed.png")
    assert share_of_blue(tmp_path / "missed.png") > 0.9


def test_without_errors_there_is_no_picture(detected, dataset, tmp_path):
    right = DetectedDataset(detected.ground_truths, detected.results[:1], [2])
    assert not save_false_detections(right, analyze_detections(right), dataset, tmp_path / "false.png")
    assert not save_missed_objects(right, analyze_detections(right), dataset, tmp_path / "missed.png")
    assert not list(tmp_path.iterdir())
