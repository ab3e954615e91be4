"""How well each class is found: average precision and recall, curves, and the threshold with the best balance."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tf_dcnv2.evaluation.coco_metrics import mean_of_present
from tf_dcnv2.evaluation.overlaps import Matches, Overlaps

if TYPE_CHECKING:
    from pycocotools.cocoeval import COCOeval


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """What is found of a class by detections with at least some score, at an IoU of 0.5.

    Attributes:
        score: the threshold.
        precision: share of the detections that are right.
        recall: share of the objects that are found.
        f1: harmonic mean of both.
    """

    score: float
    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """What is found of one class.

    Attributes:
        category_id: of the class.
        name: of the class.
        objects: how many are annotated, crowd regions not counted.
        images: on how many images.
        detections: how many there are, with whatever score.
        average_precision: COCO's AP, or -1 without objects.
        average_precision_50: AP50.
        average_precision_75: AP75.
        average_recall: COCO's AR100.
        best: the operating point with the highest F1; None if no object is found at all.
        precision: `(T, R)`, for each of `iou_thresholds` the highest precision at each of `recalls` or any greater
            recall, COCO's own array; -1 without objects.
        iou_thresholds: `(T,)` COCO's 0.50, 0.55 … 0.95.
        recalls: `(R,)` COCO's 0.00, 0.01 … 1.00.
    """

    category_id: int
    name: str
    objects: int
    images: int
    detections: int
    average_precision: float
    average_precision_50: float
    average_precision_75: float
    average_recall: float
    best: OperatingPoint | None
    precision: np.ndarray
    iou_thresholds: np.ndarray
    recalls: np.ndarray


def score_classes(
    evaluation: "COCOeval", overlaps: Overlaps, matches: Matches, names: dict[int, str]
) -> tuple[ClassScores, ...]:
    """Scores every class of the ground truth.

    Args:
        evaluation: a finished `pycocotools.cocoeval.COCOeval`.
        overlaps: of the same detections and objects.
        matches: of `overlaps`.
        names: category id -> name.
    """
    params = evaluation.params
    # Area range (first: all) and detections per image (last: 100).
    precision, recall = evaluation.eval["precision"][:, :, :, 0, -1], evaluation.eval["recall"][:, :, 0, -1]
    thresholds, recalls = np.asarray(params.iouThrs), np.asarray(params.recThrs)
    at_75 = int(np.argmin(np.abs(thresholds - 0.75)))
    scored = []
    for index, category_id in enumerate(map(int, params.catIds)):
        of_class = (overlaps.object_classes == category_id) & ~overlaps.crowd
        curves = precision[:, :, index]
        scored.append(
            ClassScores(
                category_id=category_id,
                name=names.get(category_id, str(category_id)),
                objects=int(of_class.sum()),
                images=len({overlaps.objects[position]["image_id"] for position in np.flatnonzero(of_class)}),
                detections=int((overlaps.detection_classes == category_id).sum()),
                average_precision=mean_of_present(curves),
                average_precision_50=mean_of_present(curves[0]),
                average_precision_75=mean_of_present(curves[at_75]),
                average_recall=mean_of_present(recall[:, index]),
                best=best_operating_point(overlaps, matches, category_id),
                precision=curves,
                iou_thresholds=thresholds,
                recalls=recalls,
            )
        )
    return tuple(scored)


def best_operating_point(overlaps: Overlaps, matches: Matches, category_id: int) -> OperatingPoint | None:
    """Finds the score threshold with the highest F1 of a class; None if no object of it is found.

    Of several thresholds that are equally good it is the highest.
    """
    counted = (overlaps.detection_classes == category_id) & ~matches.ignored
    objects = int(((overlaps.object_classes == category_id) & ~overlaps.crowd).sum())
    scores, right = overlaps.scores[counted], matches.found[counted] >= 0
    if not right.any():
        return None
    # A threshold takes all detections of a score or none.
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    true_positives, taken = np.cumsum(right)[ends], ends + 1
    f1 = 2 * true_positives / (taken + objects)
    best = int(np.argmax(f1))
    return OperatingPoint(
        score=float(scores[ends[best]]),
        precision=float(true_positives[best] / taken[best]),
        recall=float(true_positives[best] / objects),
        f1=float(f1[best]),
    )
