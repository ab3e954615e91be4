"""Which classes a detector takes for one another."""

import dataclasses

import numpy as np

from tf_dcnv2.evaluation.overlaps import MATCHING_IOU, Matches, Overlaps


@dataclasses.dataclass(frozen=True)
class ConfusionMatrix:
    """How often an object of one class was detected as another.

    Attributes:
        counts: int `(C + 1, C + 1)`; rows are the classes of the objects, columns those of the detections. The last
            row holds detections where no object is, the last column objects that were not detected.
        category_ids: of the C classes, in order.
        names: of the C classes.
        score_threshold: detections with lower scores are left out.
    """

    counts: np.ndarray
    category_ids: tuple[int, ...]
    names: tuple[str, ...]
    score_threshold: float


def confusion_matrix(
    overlaps: Overlaps, matches: Matches, names: dict[int, str], score_threshold: float
) -> ConfusionMatrix:
    """Counts which class each object was detected as, at an IoU of 0.5.

    Every object and every detection counts once. Detections find objects of their own class first, as COCO matches
    them. What is left over of both is matched whatever the classes: the surest detection takes the object that it
    overlaps most, and so on. Crowd regions, and detections on them, do not count.

    Args:
        overlaps: detections and objects of a data set.
        matches: of `overlaps`.
        names: category id -> name, of the matrix' classes.
        score_threshold: detections with lower scores are left out.
    """
    index = {category_id: position for position, category_id in enumerate(names)}
    background = len(names)
    used = overlaps.scores >= score_threshold
    seen_as = np.where(used, matches.found, -1)
    taken = np.zeros(len(overlaps.objects), bool)
    taken[seen_as[seen_as >= 0]] = True
    free = used & matches.false
    near = (overlaps.ious >= MATCHING_IOU) & ~overlaps.crowd[overlaps.pairs[:, 1]] & free[overlaps.pairs[:, 0]]
    pairs = overlaps.pairs[near]
    for detection, target in pairs[np.lexsort((-overlaps.ious[near], pairs[:, 0]))].tolist():
        if seen_as[detection] < 0 and not taken[target]:
            seen_as[detection], taken[target] = target, True
    counts = np.zeros([background + 1, background + 1], np.int64)
    for detection in np.flatnonzero(used & ~matches.ignored):
        target = seen_as[detection]
        row = index[int(overlaps.object_classes[target])] if target >= 0 else background
        counts[row, index[int(overlaps.detection_classes[detection])]] += 1
    for target in np.flatnonzero(~taken & ~overlaps.crowd):
        counts[index[int(overlaps.object_classes[target])], background] += 1
    return ConfusionMatrix(counts, tuple(names), tuple(names.values()), score_threshold)
