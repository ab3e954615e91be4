"""COCO average precision of a detector on batches from `load_records`.

Shapes: B batch, D detections per image, M annotated boxes per image, S x S cells of a detection's mask.
"""

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tf_dcnv2.data.atomic_files import write_atomically
from tf_dcnv2.data.masks import compressed_rle
from tf_dcnv2.evaluation.coco_metrics import (
    encode_segmentations,
    has_segmentations,
    make_ground_truth,
    read_ground_truth,
    score_detections,
)
from tf_dcnv2.evaluation.mask_pasting import paste_mask


def evaluate_coco(
    detector: Callable[[dict], dict],
    dataset: Iterable,
    *,
    annotations: str | os.PathLike | None = None,
    results_path: str | os.PathLike | None = None,
    max_images: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Runs a detector over a data set and scores it by COCO's rules.

    Every image counts: objects without a detection are missed, detections without an object are false. Detections
    that match a crowd box are ignored.

    Args:
        detector: a detector model, or any function from `inputs` to a dict with `boxes` `(B, D, 4)` as
            `[y1, x1, y2, x2]` in pixels of the padded image, `scores` `(B, D)` and `classes` `(B, D)`, category ids
            with -1 for padding, and perhaps `masks` `(B, D, S, S)`, probabilities in the frames of the boxes. A
            detection that is not finite is dropped.
        dataset: batches of `(inputs, targets)` from `load_records`. An image that comes twice counts once.
        annotations: COCO `instances_*.json` with the data set's image and category ids to score against. Default:
            the boxes in `targets`, which are those of the annotations clipped to the image, and the masks if there
            are any, at the resolution they were loaded with.
        results_path: where to write the detections in COCO's results format, in original pixels and with the data
            set's own ids, as pycocotools' `loadRes` and COCO's evaluation server read it; masks as run-length codes.
        max_images: score only this many images, the first ones.
        progress: called with the number of images done after every image.

    Returns:
        `{"bbox": metrics}`, and `"segm"` alike when both the detector and the ground truth have masks (there an
        annotation without one has its box, and one with a malformed one is left out). Metrics are COCO's twelve: AP
        (averaged over IoU 0.50 to 0.95), AP50, AP75, APs, APm, APl (small, medium, large objects), AR1, AR10, AR100
        (with at most so many detections per image), ARs, ARm, ARl. Each is between 0 and 1, or -1 where no object is of
        the kind. `metrics["per_class"]` maps category ids to `{"AP": …, "AP50": …}`.

    Raises:
        FileNotFoundError: the annotation file does not exist.
        ValueError: the data set is empty, `max_images` is not positive, or `annotations` lacks an image.

    Example:
        >>> metrics = evaluate_coco(detector, load_records("records/val", batch_size=4), results_path="results.json")
        >>> metrics["bbox"]["AP50"], metrics["bbox"]["per_class"][17]["AP"]
    """
    if max_images is not None and max_images < 1:
        raise ValueError(f"max_images must be positive. Received: max_images={max_images}")
    # Read before the detector runs: a wrong path should not cost an evaluation.
    ground_truth = read_ground_truth(annotations) if annotations is not None else None
    images: dict[int, dict] = {}
    boxes: list[dict] = []
    results: list[dict] = []
    gives_masks = False
    for image in itertools.islice(_detect(detector, dataset), max_images):
        images[image.image_id] = image.description()
        boxes.extend(image.annotations())
        results.extend(image.results())
        gives_masks |= image.has_detected_masks
        if progress is not None:
            progress(len(images))
    if not images:
        raise ValueError("The data set to evaluate on has no images.")
    if results_path is not None:
        write_atomically(os.fspath(results_path), json.dumps(results))
    if ground_truth is None:
        categories = {category_id: str(category_id) for category_id in sorted({box["category_id"] for box in boxes})}
        ground_truth = make_ground_truth(images.values(), boxes, categories)
    metrics = {"bbox": score_detections(ground_truth, results, list(images))}
    if gives_masks and has_segmentations(ground_truth):
        encode_segmentations(ground_truth, images)
        metrics["segm"] = score_detections(ground_truth, results, list(images), "segm")
    return metrics


class _EvaluatedImage:
    """One image with its annotated and detected boxes, in COCO's terms: original pixels, [x, y, width, height]."""

    def __init__(self, size: np.ndarray, targets: dict[str, np.ndarray], detections: dict[str, np.ndarray]):
        self.image_id = int(targets["image_ids"])
        self._original_size = np.asarray(targets["original_sizes"], np.float64)
        self._to_original = self._original_size / size
        self._targets = targets
        self._detections = detections

    @property
    def has_detected_masks(self) -> bool:
        return "masks" in self._detections

    def description(self) -> dict:
        height, width = self._original_size.astype(int).tolist()
        return {"id": self.image_id, "height": height, "width": width}

    def annotations(self) -> list[dict]:
        classes = self._targets["classes"]
        boxes = self._coco_boxes(self._targets["boxes"])
        areas = self._targets.get("areas", boxes[:, 2] * boxes[:, 3])
        return [
            {
                "image_id": self.image_id,
                "category_id": int(classes[index]),
                "bbox": boxes[index].tolist(),
                "area": float(areas[index]),
                "iscrowd": int(self._targets["crowd"][index]),
                **self._segmentation(self._targets, "mask_boxes", index),
            }
            for index in np.flatnonzero(classes >= 0)
        ]

    def results(self) -> list[dict]:
        classes, scores = self._detections["classes"], self._detections["scores"]
        boxes = self._coco_boxes(self._detections["boxes"])
        usable = (classes >= 0) & np.isfinite(scores) & np.isfinite(boxes).all(axis=-1)
        return [
            {
                "image_id": self.image_id,
                "category_id": int(classes[index]),
                "bbox": [round(value, 3) for value in boxes[index].tolist()],
                "score": round(float(scores[index]), 6),
                **self._segmentation(self._detections, "boxes", index),
            }
            for index in np.flatnonzero(usable)
        ]

    def _segmentation(self, objects: dict[str, np.ndarray], frames: str, index: int) -> dict:
        """The mask of one object in original pixels; nothing if there are no masks."""
        if "masks" not in objects:
            return {}
        frame = np.asarray(objects[frames][index], np.float64) * np.tile(self._to_original, 2)
        height, width = self._original_size.astype(int).tolist()
        return {"segmentation": compressed_rle(paste_mask(objects["masks"][index], frame, height, width))}

    def _coco_boxes(self, boxes: np.ndarray) -> np.ndarray:
        y1, x1, y2, x2 = (np.asarray(boxes, np.float64) * np.tile(self._to_original, 2)).T
        return np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1)


def _detect(detector, dataset) -> Iterator[_EvaluatedImage]:
    """Yields every image of the data set once."""
    # A Keras model keeps its compiled predict function from one evaluation to the next.
    predict = getattr(detector, "predict_on_batch", detector)
    seen: set[int] = set()
    for inputs, targets in dataset:
        detections = {name: np.asarray(value) for name, value in predict(inputs).items()}
        targets = {name: np.asarray(value) for name, value in targets.items()}
        for index, size in enumerate(np.asarray(inputs["image_sizes"], np.float64)):
            image_id = int(targets["image_ids"][index])
            if image_id not in seen:
                seen.add(image_id)
                yield _EvaluatedImage(size, _pick(targets, index), _pick(detections, index))


def _pick(batch: dict[str, np.ndarray], index: int) -> dict[str, Any]:
    return {name: value[index] for name, value in batch.items()}
