"""COCO average precision of a detector on batches from `load_records`.

Shapes: B batch, D detections per image, M annotated boxes per image, S x S cells of a detection's mask.
"""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_dcnv2._core.atomic_files import write_atomically
from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign, refuse_overwriting
from tf_dcnv2.data.coco.annotations import CocoAnnotations, read_coco_annotations
from tf_dcnv2.evaluation.coco_metrics import (
    coco_metrics,
    ground_truth_of,
    has_segmentations,
    make_ground_truth,
    mask_ground_truth,
    require_images,
    run_coco_eval,
)
from tf_dcnv2.evaluation.evaluated_image import EvaluatedImage

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval


class ResultsNotWritten(OSError):
    """The detections could not be written; the evaluation itself is done.

    Attributes:
        metrics: its result.
    """

    def __init__(self, message: str, metrics: dict[str, Any]):
        super().__init__(message)
        self.metrics = metrics


@dataclasses.dataclass(frozen=True)
class DetectedDataset:
    """What a detector found on a data set, and what is annotated there.

    Attributes:
        ground_truths: the annotations to score against as `pycocotools.coco.COCO`, for "bbox" and, where detector and
            annotations have masks, for "segm".
        results: the detections in COCO's results format, in original pixels, with the annotations' category ids.
        image_ids: the images that the detector saw, in their order.
    """

    ground_truths: Mapping[str, "COCO"]
    results: list[dict]
    image_ids: list[int]
    _evaluations: dict[str, "COCOeval"] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def evaluation(self, iou_type: str = "bbox") -> "COCOeval":
        """The finished `pycocotools.cocoeval.COCOeval` of "bbox" or "segm", computed once."""
        if iou_type not in self._evaluations:
            truth = self.ground_truths[iou_type]
            self._evaluations[iou_type] = run_coco_eval(truth, self.results, self.image_ids, iou_type)
        return self._evaluations[iou_type]

    def metrics(self) -> dict[str, Any]:
        """COCO's numbers, as `evaluate_coco` returns them."""
        return {iou_type: coco_metrics(self.evaluation(iou_type)) for iou_type in self.ground_truths}

    def write_results(self, path: str | os.PathLike, original_ids: Mapping[int, Any] | None = None) -> None:
        """Writes the detections in COCO's results format, as pycocotools' `loadRes` and COCO's server read it.

        Args:
            path: the file, which is written whole or not at all.
            original_ids: image id -> what to write instead of it, see `DatasetInfo.original_ids`.

        Raises:
            OSError: the file cannot be written; the message names it.
        """
        ids = original_ids or {}
        written = [{**item, "image_id": ids.get(item["image_id"], item["image_id"])} for item in self.results]
        try:
            write_atomically(os.fspath(path), json.dumps(written))
        except OSError as error:
            reason = error.strerror or str(error)
            raise OSError(f"{os.fspath(path)} could not be written: {reason}") from error


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
        detector: a detector model or any function, see `detect_dataset`.
        dataset: batches of `(inputs, targets)` from `load_records`. An image that comes twice counts once.
        annotations: what to score against, see `detect_dataset`. Default: the boxes and masks in `targets`.
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
    # Before the detector runs: a wrong path should not cost an evaluation.
    if results_path is not None:
        check_results_path(results_path, [annotations] if isinstance(annotations, str | os.PathLike) else [])
    detected = detect_dataset(
        detector,
        dataset,
        annotations=annotations,
        max_images=max_images,
        progress=progress,
        category_ids=category_ids,
    )
    metrics = detected.metrics()
    if results_path is not None:
        try:
            detected.write_results(results_path, original_ids)
        except OSError as error:
            raise ResultsNotWritten(str(error), metrics) from error
    return metrics


def detect_dataset(
    detector: Callable[[dict], dict],
    dataset: Iterable,
    *,
    annotations: str | os.PathLike | CocoAnnotations | None = None,
    max_images: int | None = None,
    progress: Callable[[int], None] | None = None,
    category_ids: Mapping[int, int] | None = None,
) -> DetectedDataset:
    """Runs a detector over a data set, for `DetectedDataset.metrics` and `analyze_detections`.

    Args:
        detector: a detector model, or any function from `inputs` to a dict with `boxes` `(B, D, 4)` as
            `[y1, x1, y2, x2]` in pixels of the padded image, `scores` `(B, D)` and `classes` `(B, D)`, category ids
            with -1 for padding, and perhaps `masks` `(B, D, S, S)`, probabilities in the frames of the boxes. A
            detection that is not finite is dropped.
        dataset: batches of `(inputs, targets)` from `load_records`. An image that comes twice counts once.
        annotations: COCO `instances_*.json` with the data set's image and category ids to score against, or what
            `read_coco_annotations` makes of it. Default: the boxes in `targets`, which are those of the annotations
            clipped to the image, and the masks if there are any, at the resolution they were loaded with.
        max_images: only this many images, the first ones.
        progress: called with the number of images done after every image.
        category_ids: the detector's category id -> the data set's; detections of other categories are dropped. Default:
            they have the same ids.

    Raises:
        FileNotFoundError: the annotation file does not exist.
        ValueError: the data set is empty, two of its images have the same id, `max_images` is not positive, or
            `annotations` lacks an image.

    Example:
        >>> detected = detect_dataset(detector, load_records("records/val", batch_size=4))
        >>> detected.metrics()["bbox"]["AP50"], analyze_detections(detected).errors["background"].count
    """
    if max_images is not None and max_images < 1:
        raise ValueError(f"max_images must be positive. Received: max_images={max_images}")
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
    require_images(ground_truth, images)
    ground_truths = {"bbox": ground_truth}
    if gives_masks and has_segmentations(ground_truth):
        ground_truths["segm"] = mask_ground_truth(ground_truth, images)
    return DetectedDataset(ground_truths, results, list(images))


def check_results_path(path: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Checks that results can be written to `path` without replacing an input, or anything but earlier results.

    Raises:
        OSError: they cannot; the message says why.
    """
    refuse_overwriting([path], inputs)
    refuse_foreign(path, _holds_results(path), "a file of results")
    ensure_writable(path)


def _holds_results(path: str | os.PathLike) -> bool:
    """Whether a file begins as `DetectedDataset.write_results` begins one."""
    try:
        with open(path, "rb") as file:
            start = b"".join(file.read(64).split())
            return start in (b"", b"[]") or start.startswith(b'[{"image_id":')
    except OSError:
        return False


def _detect(detector: Callable[..., Any], dataset: Iterable) -> Iterator[EvaluatedImage]:
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
                yield EvaluatedImage(size, _pick(targets, index), _pick(detections, index), whole_pixels)
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
