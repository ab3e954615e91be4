"""COCO average precision of a detector on batches from `load_records`.

Shapes: B batch, D detections per image, M annotated boxes per image, S x S cells of a detection's mask.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tf_dcnv2._core.atomic_files import write_atomically
from tf_dcnv2._core.masks import compressed_rle, paste_mask
from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign, refuse_overwriting
from tf_dcnv2.data.coco.annotations import CocoAnnotations, read_coco_annotations
from tf_dcnv2.data.images.resizing import boxes_in_original
from tf_dcnv2.evaluation.coco_metrics import (
    encode_segmentations,
    ground_truth_of,
    has_segmentations,
    make_ground_truth,
    score_detections,
)


class ResultsNotWritten(OSError):
    """The detections could not be written; the evaluation itself is done.

    Attributes:
        metrics: its result.
    """

    def __init__(self, message: str, metrics: dict[str, Any]):
        super().__init__(message)
        self.metrics = metrics


def evaluate_coco(
    detector: Callable[[dict], dict],
    dataset: Iterable,
    *,
    annotations: str | os.PathLike | CocoAnnotations | None = None,
    results_path: str | os.PathLike | None = None,
    max_images: int | None = None,
    progress: Callable[[int], None] | None = None,
    category_ids: Mapping[int, int] | None = None,
    original_ids: Mapping[int, Any] | None = None,
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
        annotations: COCO `instances_*.json` with the data set's image and category ids to score against, or what
            `read_coco_annotations` makes of it. Default: the boxes in `targets`, which are those of the annotations
            clipped to the image, and the masks if there are any, at the resolution they were loaded with.
        results_path: where to write the detections in COCO's results format, in original pixels and with the data
            set's own ids, as pycocotools' `loadRes` and COCO's evaluation server read it; masks as run-length codes.
        max_images: score only this many images, the first ones.
        progress: called with the number of images done after every image.
        category_ids: the detector's category id -> the data set's; detections of other categories are dropped. Default:
            they have the same ids.
        original_ids: image id -> what to write instead of it in the results, see `DatasetInfo.original_ids`.

    Returns:
        `{"bbox": metrics}`, and `"segm"` alike when both the detector and the ground truth have masks (there an
        annotation without one has its box, and one with a malformed one is like a crowd region). Metrics are COCO's
        twelve: AP (averaged over IoU 0.50 to 0.95), AP50, AP75, APs, APm, APl (small, medium, large objects), AR1,
        AR10, AR100 (with at most so many detections per image), ARs, ARm, ARl. Each is between 0 and 1, or -1 where no
        object is of the kind. `metrics["per_class"]` maps category ids to `{"AP": …, "AP50": …}`.

    Raises:
        FileExistsError: `results_path` is the annotation file, or holds something else than results.
        FileNotFoundError: the annotation file does not exist.
        ResultsNotWritten: after everything is computed, the results cannot be written; it holds the metrics.
        OSError: that is clear from the beginning.
        ValueError: the data set is empty, two of its images have the same id, `max_images` is not positive, or
            `annotations` lacks an image.

    Example:
        >>> metrics = evaluate_coco(detector, load_records("records/val", batch_size=4), results_path="results.json")
        >>> metrics["bbox"]["AP50"], metrics["bbox"]["per_class"][17]["AP"]
    """
    if max_images is not None and max_images < 1:
        raise ValueError(f"max_images must be positive. Received: max_images={max_images}")
    # Before the detector runs: a wrong path should not cost an evaluation.
    if results_path is not None:
        check_results_path(results_path, [annotations] if isinstance(annotations, str | os.PathLike) else [])
    ground_truth = None
    if annotations is not None:
        content = annotations if isinstance(annotations, CocoAnnotations) else read_coco_annotations(annotations)
        ground_truth = ground_truth_of(content)
    images: dict[int, dict] = {}
    boxes: list[dict] = []
    results: list[dict] = []
    gives_masks = False
    for image in itertools.islice(_detect(detector, dataset), max_images):
        images[image.image_id] = image.description()
        boxes.extend(image.annotations())
        results.extend(image.results(category_ids))
        gives_masks |= image.has_detected_masks
        if progress is not None:
            progress(len(images))
    if not images:
        raise ValueError("The data set to evaluate on has no images.")
    if ground_truth is None:
        categories = {category_id: str(category_id) for category_id in sorted({box["category_id"] for box in boxes})}
        ground_truth = make_ground_truth(images.values(), boxes, categories)
    metrics = {"bbox": score_detections(ground_truth, results, list(images))}
    if gives_masks and has_segmentations(ground_truth):
        encode_segmentations(ground_truth, images)
        metrics["segm"] = score_detections(ground_truth, results, list(images), "segm")
    if results_path is not None:
        _write_results(results_path, results, original_ids or {}, metrics)
    return metrics


def check_results_path(path: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Checks that results can be written to `path` without replacing an input, or anything but earlier results.

    Raises:
        OSError: they cannot; the message says why.
    """
    refuse_overwriting([path], inputs)
    refuse_foreign(path, _holds_results(path), "a file of results")
    ensure_writable(path)


def _holds_results(path: str | os.PathLike) -> bool:
    """Whether a file begins as `_write_results` begins one."""
    try:
        with open(path, "rb") as file:
            start = b"".join(file.read(64).split())
            return start in (b"", b"[]") or start.startswith(b'[{"image_id":')
    except OSError:
        return False


def _write_results(
    path: str | os.PathLike, results: list[dict], original_ids: Mapping[int, Any], metrics: dict[str, Any]
) -> None:
    written = [{**item, "image_id": original_ids.get(item["image_id"], item["image_id"])} for item in results]
    try:
        write_atomically(os.fspath(path), json.dumps(written))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResultsNotWritten(f"{os.fspath(path)} could not be written: {reason}", metrics) from error


class _EvaluatedImage:
    """One image with its annotated and detected boxes, in COCO's terms: original pixels, [x, y, width, height]."""

    def __init__(
        self,
        size: np.ndarray,
        targets: dict[str, np.ndarray],
        detections: dict[str, np.ndarray],
        whole_pixel_masks: bool = False,
    ):
        self._whole_pixel_masks = whole_pixel_masks
        self.image_id = int(targets["image_ids"])
        self._size = size
        self._original_size = targets["original_sizes"]
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
                **self._segmentation(self._targets, "mask_boxes", int(index)),
            }
            for index in np.flatnonzero(classes >= 0)
        ]

    def results(self, category_ids: Mapping[int, int] | None) -> list[dict]:
        classes, scores = np.asarray(self._detections["classes"]), self._detections["scores"]
        if category_ids is not None:
            classes = np.array([category_ids.get(int(category_id), -1) for category_id in classes], np.int64)
        boxes = self._coco_boxes(self._detections["boxes"])
        usable = (classes >= 0) & np.isfinite(scores) & np.isfinite(boxes).all(axis=-1)
        return [
            {
                "image_id": self.image_id,
                "category_id": int(classes[index]),
                "bbox": [round(value, 3) for value in boxes[index].tolist()],
                "score": round(float(scores[index]), 6),
                **self._segmentation(self._detections, "boxes", int(index)),
            }
            for index in np.flatnonzero(usable)
        ]

    def _segmentation(self, objects: dict[str, np.ndarray], frames: str, index: int) -> dict:
        """The mask of one object in original pixels; nothing if there are no masks, None for one that is not known."""
        if "masks" not in objects:
            return {}
        if objects is self._targets and not objects["masks"][index].any():
            return {"segmentation": None}
        frame = self._in_original(objects[frames][index])
        height, width = self._original_size.astype(int).tolist()
        whole_pixels = self._whole_pixel_masks and objects is self._detections
        mask = paste_mask(objects["masks"][index], frame, height, width, whole_pixels=whole_pixels)
        return {"segmentation": compressed_rle(mask)}

    def _coco_boxes(self, boxes: np.ndarray) -> np.ndarray:
        y1, x1, y2, x2 = self._in_original(boxes).T
        return np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1)

    def _in_original(self, boxes: np.ndarray) -> np.ndarray:
        return boxes_in_original(boxes, self._size, self._original_size)


def _detect(detector: Callable[..., Any], dataset: Iterable) -> Iterator[_EvaluatedImage]:
    """Yields every image of the data set once.

    Raises:
        ValueError: two images have the same id.
    """
    # A Keras model keeps its compiled predict function from one evaluation to the next.
    predict = getattr(detector, "predict_on_batch", detector)
    seen: dict[int, bytes] = {}
    for inputs, targets in dataset:
        detections = {name: np.asarray(value) for name, value in predict(inputs).items()}
        targets = {name: np.asarray(value) for name, value in targets.items()}
        for index, size in enumerate(np.asarray(inputs["image_sizes"])):
            image_id = int(targets["image_ids"][index])
            content = _fingerprint(inputs, targets, index)
            if image_id not in seen:
                seen[image_id] = content
                whole_pixels = getattr(detector, "whole_pixel_masks", False)
                yield _EvaluatedImage(size, _pick(targets, index), _pick(detections, index), whole_pixels)
            elif seen[image_id] != content:
                raise ValueError(
                    f"Two different images have the id {image_id}. Load the data sets with one call of load_records, "
                    "which keeps their images apart, or evaluate them one by one."
                )


def _fingerprint(inputs: Mapping[str, Any], targets: Mapping[str, np.ndarray], index: int) -> bytes:
    """The same for the same image whatever the batch it comes in."""
    height, width = np.asarray(inputs["image_sizes"])[index].astype(int)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.ascontiguousarray(np.asarray(inputs["images"][index])[:height, :width]).data)
    digest.update(np.ascontiguousarray(targets["original_sizes"][index]).data)
    return digest.digest()


def _pick(batch: dict[str, np.ndarray], index: int) -> dict[str, Any]:
    return {name: value[index] for name, value in batch.items()}
