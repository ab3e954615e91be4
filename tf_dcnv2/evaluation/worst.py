"""The false detections that a detector was surest of, and the objects that it saw least of."""

import dataclasses

import numpy as np

from tf_dcnv2.evaluation.errors import ERROR_KINDS, ClassifiedErrors
from tf_dcnv2.evaluation.overlaps import Matches, Overlaps


@dataclasses.dataclass(frozen=True)
class FalseDetection:
    """A detection that is wrong.

    Attributes:
        image_id: of the image.
        category_id: the class that was detected.
        bbox: `[x, y, width, height]` in original pixels.
        score: of the detection.
        kind: what is wrong with it, one of `ERROR_KINDS`.
        iou: the highest with an object of any class, 0 below 0.1.
        object_category_id: the class of that object; None if there is none.
    """

    image_id: int
    category_id: int
    bbox: list[float]
    score: float
    kind: str
    iou: float
    object_category_id: int | None


@dataclasses.dataclass(frozen=True)
class MissedObject:
    """An object that was not detected.

    Attributes:
        image_id: of the image.
        category_id: the class of the object.
        bbox: `[x, y, width, height]` in original pixels.
        area: of the object in square pixels.
        score: of the surest detection of its class that overlaps it with an IoU of at least 0.1; 0 if there is none.
    """

    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    score: float


def worst_false(
    overlaps: Overlaps, matches: Matches, errors: ClassifiedErrors, count: int
) -> tuple[FalseDetection, ...]:
    """Lists the false detections with the highest scores, the surest first."""
    listed = []
    for index in np.flatnonzero(matches.false)[:count].tolist():  # detections are sorted
        found, nearest = overlaps.detections[index], int(errors.nearest[index])
        listed.append(
            FalseDetection(
                image_id=found["image_id"],
                category_id=found["category_id"],
                bbox=found["bbox"],
                score=float(found["score"]),
                kind=ERROR_KINDS[errors.kinds[index]],
                iou=float(errors.ious[index]),
                object_category_id=int(overlaps.object_classes[nearest]) if nearest >= 0 else None,
            )
        )
    return tuple(listed)


def worst_missed(overlaps: Overlaps, matches: Matches, score_threshold: float, count: int) -> tuple[MissedObject, ...]:
    """Lists objects that no detection of at least a score found: those with the weakest trace, the largest first."""
    found = matches.best_detection >= 0
    found[found] = overlaps.scores[matches.best_detection[found]] >= score_threshold
    missed = np.flatnonzero(~found & ~overlaps.crowd)
    traces = np.zeros(len(overlaps.objects))
    related = overlaps.pairs[overlaps.same_class]
    np.maximum.at(traces, related[:, 1], overlaps.scores[related[:, 0]])
    areas = np.array([item["area"] for item in overlaps.objects], np.float64)
    order = missed[np.lexsort((-areas[missed], traces[missed]))]
    return tuple(
        MissedObject(
            image_id=overlaps.objects[index]["image_id"],
            category_id=overlaps.objects[index]["category_id"],
            bbox=[float(value) for value in overlaps.objects[index]["bbox"]],
            area=float(areas[index]),
            score=float(traces[index]),
        )
        for index in order[:count].tolist()
    )
