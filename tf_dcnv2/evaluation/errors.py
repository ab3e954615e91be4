"""What kinds of errors a detector makes, and what each kind costs.

The kinds are those of TIDE (Bolya et al., arXiv:2008.08115), at an IoU of 0.5 for a match and 0.1 for any relation.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tf_dcnv2.evaluation.overlaps import MATCHING_IOU, OVERLAPPING_IOU, Matches, Overlaps

ERROR_KINDS = ("localisation", "class", "both", "duplicate", "background", "missed")
"""The kinds of errors; see `classify_errors`."""
_RECALLS = np.linspace(0.0, 1.0, 101)


@dataclasses.dataclass(frozen=True)
class ErrorKind:
    """The errors of one kind.

    Attributes:
        count: how many detections, or for "missed" objects, are of the kind.
        ap50_gain: by how much AP50 would be higher without them; see `break_down_errors`.
    """

    count: int
    ap50_gain: float


@dataclasses.dataclass(frozen=True)
class ClassifiedErrors:
    """The kind of each error.

    Attributes:
        kinds: `(N,)` index into `ERROR_KINDS` of each false detection; -1 for those that are right or ignored.
        targets: `(N,)` the object that a detection of the kind "localisation" or "class" meant; -1 for all others.
        ious: `(N,)` the highest IoU of a detection with an object of any class; 0 below `OVERLAPPING_IOU`.
        nearest: `(N,)` the object of the highest IoU; -1 for none.
        missed: bool `(M,)`, objects that no detection found or, with a wrong place or class, meant.
    """

    kinds: np.ndarray
    targets: np.ndarray
    ious: np.ndarray
    nearest: np.ndarray
    missed: np.ndarray


def classify_errors(overlaps: Overlaps, matches: Matches) -> ClassifiedErrors:
    """Says of each false detection what is wrong with it, and which objects are missed.

    A false detection is of the first of these kinds that holds, as in TIDE:

    * localisation: its highest IoU with an object of its class is in [0.1, 0.5);
    * class: it has an IoU of at least 0.5 with an object of another class;
    * duplicate: it has one with an object of its class, which a surer detection has found already;
    * both: it overlaps an object of another class with an IoU in [0.1, 0.5): place and class are wrong;
    * background: no object has an IoU of 0.1 with it.

    An object is missed if no detection found it, and none with an error of localisation or class meant it.
    """
    own_iou, own = _nearest(overlaps, overlaps.same_class)
    other_iou, other = _nearest(overlaps, ~overlaps.same_class)
    kinds = np.select(
        [
            ~matches.false,
            (own_iou >= OVERLAPPING_IOU) & (own_iou < MATCHING_IOU),
            other_iou >= MATCHING_IOU,
            own_iou >= MATCHING_IOU,
            other_iou >= OVERLAPPING_IOU,
        ],
        [-1, *map(ERROR_KINDS.index, ("localisation", "class", "duplicate", "both"))],
        ERROR_KINDS.index("background"),
    )
    targets = np.select(
        [kinds == ERROR_KINDS.index("localisation"), kinds == ERROR_KINDS.index("class")], [own, other], -1
    )
    missed = (matches.best_detection < 0) & ~overlaps.crowd
    missed[targets[targets >= 0]] = False
    return ClassifiedErrors(
        kinds, targets, np.maximum(own_iou, other_iou), np.where(own_iou >= other_iou, own, other), missed
    )


def break_down_errors(overlaps: Overlaps, matches: Matches, errors: ClassifiedErrors) -> Mapping[str, ErrorKind]:
    """Counts the errors of each kind, and computes what AP50 would gain without them.

    One kind is corrected at a time, so that the gains do not add up to what is missing to 1:

    * of the detections with an error of localisation (or of class) that mean an object which nothing has found, the
      surest gets its place (or its class); the others disappear;
    * detections with an error of both, duplicates and those on the background disappear;
    * missed objects disappear from the ground truth.

    Returns:
        `ERROR_KINDS` -> count and gain; gains are 0 where there are no objects.
    """
    before = _mean_average_precision(overlaps, overlaps.detection_classes, matches.found >= 0, ~matches.ignored)
    result = {}
    for number, kind in enumerate(ERROR_KINDS[:-1]):
        wrong = errors.kinds == number
        corrected = _corrected(wrong, errors.targets, matches)
        classes = overlaps.detection_classes.copy()
        classes[corrected] = overlaps.object_classes[errors.targets[corrected]]
        right, counted = (matches.found >= 0) | corrected, ~matches.ignored & (~wrong | corrected)
        after = _mean_average_precision(overlaps, classes, right, counted)
        result[kind] = ErrorKind(int(wrong.sum()), after - before)
    after = _mean_average_precision(
        overlaps, overlaps.detection_classes, matches.found >= 0, ~matches.ignored, without=errors.missed
    )
    result["missed"] = ErrorKind(int(errors.missed.sum()), after - before)
    return result


def _nearest(overlaps: Overlaps, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest IoU `(N,)` of each detection among some pairs, crowd regions left out, and its object."""
    iou, target = np.zeros(len(overlaps.detections)), np.full(len(overlaps.detections), -1)
    chosen = chosen & ~overlaps.crowd[overlaps.pairs[:, 1]]
    pairs, ious = overlaps.pairs[chosen], overlaps.ious[chosen]
    order = np.argsort(ious, kind="stable")  # of several assignments to one place the last one stays
    iou[pairs[order, 0]], target[pairs[order, 0]] = ious[order], pairs[order, 1]
    return iou, target


def _corrected(wrong: np.ndarray, targets: np.ndarray, matches: Matches) -> np.ndarray:
    """Bool `(N,)`: the wrong detections that become right."""
    corrected = np.zeros(len(wrong), bool)
    candidates = np.flatnonzero(wrong & (targets >= 0))
    candidates = candidates[matches.best_detection[targets[candidates]] < 0]
    _, surest = np.unique(targets[candidates], return_index=True)  # detections are sorted, the surest first
    corrected[candidates[surest]] = True
    return corrected


def _mean_average_precision(
    overlaps: Overlaps,
    classes: np.ndarray,
    right: np.ndarray,
    counted: np.ndarray,
    without: np.ndarray | None = None,
) -> float:
    """AP50 over the classes that have objects.

    Args:
        overlaps: detections and objects.
        classes: `(N,)` class of each detection.
        right: bool `(N,)`, whether it found an object.
        counted: bool `(N,)`, whether it is there at all.
        without: bool `(M,)`, objects that are left out.
    """
    objects = ~overlaps.crowd if without is None else ~overlaps.crowd & ~without
    present, counts = np.unique(overlaps.object_classes[objects], return_counts=True)
    values = []
    for category_id, count in zip(present, counts, strict=True):
        hits = right[counted & (classes == category_id)]
        values.append(_average_precision(hits, int(count)))
    return float(np.mean(values)) if values else 0.0


def _average_precision(hits: np.ndarray, objects: int) -> float:
    """COCO's average precision at 101 recalls.

    Args:
        hits: bool, whether each detection found an object, the surest first.
        objects: how many there are.
    """
    true_positives = np.cumsum(hits)
    recall, precision = true_positives / objects, true_positives / np.arange(1, len(hits) + 1)
    # At each recall the highest precision that is reached there or later; 0 beyond the highest recall.
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(recall, _RECALLS, side="left")].mean())
