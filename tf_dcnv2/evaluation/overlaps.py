"""Which detections of a data set overlap which of its objects, and which of them match.

Shapes: N detections, M objects, P pairs of a detection and an object that overlap.
"""

import collections
import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pycocotools.coco import COCO

MATCHING_IOU = 0.5
"""The overlap from which on a detection finds an object, COCO's loosest threshold."""
OVERLAPPING_IOU = 0.1
"""The overlap below which a detection has nothing to do with an object."""
_MAX_DETECTIONS = 100  # of a class on an image, COCO's rule


@dataclasses.dataclass(frozen=True)
class Overlaps:
    """The detections and objects of a data set, and the pairs of them with an IoU of at least `OVERLAPPING_IOU`.

    Attributes:
        detections: the N entries of the results, best first.
        objects: the M annotations.
        detection_classes: `(N,)` category ids.
        scores: `(N,)`, falling.
        object_classes: `(M,)` category ids.
        crowd: bool `(M,)`, regions that are no single objects: what is found there is neither right nor wrong.
        pairs: `(P, 2)` indices of a detection and of an object on the same image, of any two classes, in the order of
            the detections.
        ious: `(P,)`; with a crowd region, the share of the detection that it covers.
    """

    detections: list[dict]
    objects: list[dict]
    detection_classes: np.ndarray
    scores: np.ndarray
    object_classes: np.ndarray
    crowd: np.ndarray
    pairs: np.ndarray
    ious: np.ndarray

    @property
    def same_class(self) -> np.ndarray:
        """Bool `(P,)`: whether the detection of a pair is of the object's class."""
        return self.detection_classes[self.pairs[:, 0]] == self.object_classes[self.pairs[:, 1]]


@dataclasses.dataclass(frozen=True)
class Matches:
    """Which detection found which object of its class, by COCO's rule at `MATCHING_IOU`.

    A detection's match does not depend on weaker detections: those above a threshold match as they do here.

    Attributes:
        found: `(N,)` the object that a detection found; -1 for none.
        ignored: bool `(N,)`, detections on crowd regions.
        best_detection: `(M,)` the detection that found an object; -1 for none.
    """

    found: np.ndarray
    ignored: np.ndarray
    best_detection: np.ndarray

    @property
    def false(self) -> np.ndarray:
        """Bool `(N,)`: detections that found nothing, and not on a crowd region."""
        return (self.found < 0) & ~self.ignored


def find_overlaps(ground_truth: "COCO", results: list[dict], image_ids: list[int], iou_type: str = "bbox") -> Overlaps:
    """Computes the IoU of detections and objects of the same image.

    Args:
        ground_truth: `pycocotools.coco.COCO`, for "segm" with run-length codes.
        results: detections in COCO's results format. As in COCO's metrics, the best hundred of each class on an image
            count, and those of classes that the ground truth lacks do not.
        image_ids: the images to look at.
        iou_type: "bbox" or "segm".
    """
    from pycocotools import mask as coco_mask

    by_image = collections.defaultdict(list)
    for result in results:
        if result["category_id"] in ground_truth.cats:
            by_image[result["image_id"]].append(result)
    region = "bbox" if iou_type == "bbox" else "segmentation"
    detections: list[dict] = []
    objects: list[dict] = []
    pairs: list[np.ndarray] = [np.zeros([0, 2], np.int64)]
    ious: list[np.ndarray] = [np.zeros(0)]
    for image_id in sorted(image_ids):
        found, present = _best(by_image[image_id]), ground_truth.imgToAnns[image_id]
        if found and present:
            crowd = [int(item["iscrowd"]) for item in present]
            iou = coco_mask.iou([item[region] for item in found], [item[region] for item in present], crowd)
            near = np.argwhere(iou >= OVERLAPPING_IOU)
            pairs.append(near + [len(detections), len(objects)])
            ious.append(iou[tuple(near.T)])
        detections.extend(found)
        objects.extend(present)
    return _sorted_by_score(detections, objects, np.concatenate(pairs), np.concatenate(ious))


def match_by_class(overlaps: Overlaps) -> Matches:
    """Assigns to each detection, from the best on, the object of its class that it overlaps most and that is free."""
    found = np.full(len(overlaps.detections), -1)
    ignored = np.zeros(len(overlaps.detections), bool)
    best_detection = np.full(len(overlaps.objects), -1)
    usable = overlaps.same_class & (overlaps.ious >= MATCHING_IOU)
    pairs, ious = overlaps.pairs[usable], overlaps.ious[usable]
    # Crowds last: a detection is ignored only if there is no object for it.
    order = np.lexsort((-ious, overlaps.crowd[pairs[:, 1]], pairs[:, 0]))
    for detection, target in pairs[order].tolist():
        if found[detection] >= 0 or ignored[detection]:
            continue
        if overlaps.crowd[target]:
            ignored[detection] = True
        elif best_detection[target] < 0:
            found[detection], best_detection[target] = target, detection
    return Matches(found, ignored, best_detection)


def _best(results: list[dict]) -> list[dict]:
    """The detections of an image that COCO counts."""
    counts: collections.Counter = collections.Counter()
    kept = []
    for result in sorted(results, key=lambda item: -item["score"]):
        counts[result["category_id"]] += 1
        if counts[result["category_id"]] <= _MAX_DETECTIONS:
            kept.append(result)
    return kept


def _sorted_by_score(detections: list[dict], objects: list[dict], pairs: np.ndarray, ious: np.ndarray) -> Overlaps:
    scores = np.array([item["score"] for item in detections], np.float64)
    order = np.argsort(-scores, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    pairs = np.stack([rank[pairs[:, 0]], pairs[:, 1]], axis=-1)
    by_detection = np.argsort(pairs[:, 0], kind="stable")
    return Overlaps(
        detections=[detections[index] for index in order],
        objects=objects,
        detection_classes=np.array([detections[index]["category_id"] for index in order], np.int64),
        scores=scores[order],
        object_classes=np.array([item["category_id"] for item in objects], np.int64),
        crowd=np.array([item["iscrowd"] for item in objects], bool),
        pairs=pairs[by_detection],
        ious=ious[by_detection],
    )
