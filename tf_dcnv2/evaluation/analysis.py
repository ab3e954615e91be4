"""Where a detector goes wrong: one analysis of what it found on a data set."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_dcnv2._core.atomic_files import write_atomically
from tf_dcnv2.evaluation.class_scores import ClassScores, score_classes
from tf_dcnv2.evaluation.coco import DetectedDataset
from tf_dcnv2.evaluation.confusion import ConfusionMatrix, confusion_matrix
from tf_dcnv2.evaluation.errors import ErrorKind, break_down_errors, classify_errors
from tf_dcnv2.evaluation.overlaps import find_overlaps, match_by_class
from tf_dcnv2.evaluation.worst import FalseDetection, MissedObject, worst_false, worst_missed

ANALYSIS_FORMAT = "tf_dcnv2.analysis/1"


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What a detector finds of each class, and which errors it makes.

    Attributes:
        iou_type: "bbox" or "segm", what was compared.
        images: how many there are.
        classes: scores of every class, in the order of their ids.
        confusion: which classes are taken for one another.
        errors: `ERROR_KINDS` -> count and what AP50 would gain without them.
        false_detections: the surest of those that are wrong.
        missed_objects: those with the weakest trace among the detections.
    """

    iou_type: str
    images: int
    classes: tuple[ClassScores, ...]
    confusion: ConfusionMatrix
    errors: Mapping[str, ErrorKind]
    false_detections: tuple[FalseDetection, ...]
    missed_objects: tuple[MissedObject, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the analysis as JSON takes it; of the curves those at an IoU of 0.50 and 0.75, and their mean."""
        return {
            "iou_type": self.iou_type,
            "images": self.images,
            "classes": [_class_dict(scores) for scores in self.classes],
            "confusion": {**dataclasses.asdict(self.confusion), "counts": self.confusion.counts.tolist()},
            "errors": {kind: dataclasses.asdict(error) for kind, error in self.errors.items()},
            "false_detections": [dataclasses.asdict(item) for item in self.false_detections],
            "missed_objects": [dataclasses.asdict(item) for item in self.missed_objects],
        }


def analyze_detections(
    detected: DetectedDataset,
    iou_type: str = "bbox",
    *,
    names: Mapping[int, str] | None = None,
    score_threshold: float = 0.5,
    worst: int = 20,
) -> Analysis:
    """Analyses what a detector found on a data set.

    Apart from COCO's own averages everything is at an IoU of 0.5: a detection is right if it has one with an object of
    its class that no surer detection found.

    Args:
        detected: what `detect_dataset` returned.
        iou_type: "bbox", or "segm" if `detected` has masks.
        names: category id -> name; by default as in the annotations.
        score_threshold: of the confusion matrix and the missed objects, in 0..1; weaker detections are left out there.
        worst: how many false detections and missed objects to list.

    Raises:
        ValueError: `detected` has no masks, or the threshold is out of range.

    Example:
        >>> analysis = analyze_detections(detect_dataset(detector, dataset), names={1: "RBC", 2: "WBC"})
        >>> analysis.classes[0].best.score, analysis.confusion.counts, analysis.errors["missed"].ap50_gain
    """
    if iou_type not in detected.ground_truths:
        raise ValueError(f"iou_type must be one of {', '.join(detected.ground_truths)}. Received: {iou_type!r}")
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must be between 0 and 1. Received: {score_threshold}")
    truth = detected.ground_truths[iou_type]
    known = {category_id: truth.cats[category_id]["name"] for category_id in sorted(truth.cats)}
    known |= {category_id: name for category_id, name in (names or {}).items() if category_id in known}
    overlaps = find_overlaps(truth, detected.results, detected.image_ids, iou_type)
    matches = match_by_class(overlaps)
    errors = classify_errors(overlaps, matches)
    return Analysis(
        iou_type=iou_type,
        images=len(detected.image_ids),
        classes=score_classes(detected.evaluation(iou_type), overlaps, matches, known),
        confusion=confusion_matrix(overlaps, matches, known, score_threshold),
        errors=break_down_errors(overlaps, matches, errors),
        false_detections=worst_false(overlaps, matches, errors, worst),
        missed_objects=worst_missed(overlaps, matches, score_threshold, worst),
    )


def write_analyses(path: str | os.PathLike, metrics: Mapping[str, Any], analyses: Mapping[str, Analysis]) -> None:
    """Writes metrics and analyses as one JSON file, whole or not at all.

    Args:
        path: the file.
        metrics: what `DetectedDataset.metrics` returned.
        analyses: "bbox" and perhaps "segm" -> analysis.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        "format": ANALYSIS_FORMAT,
        **{kind: {"metrics": metrics[kind], **analysis.to_dict()} for kind, analysis in analyses.items()},
    }
    write_atomically(path, json.dumps(content))


def _class_dict(scores: ClassScores) -> dict[str, Any]:
    arrays = ("precision", "recalls", "iou_thresholds")
    plain = {name: value for name, value in dataclasses.asdict(scores).items() if name not in arrays}
    curves = {
        "IoU 0.50": scores.precision[0],
        "IoU 0.75": scores.precision[int(np.argmin(np.abs(scores.iou_thresholds - 0.75)))],
        "mean": scores.precision.mean(axis=0),
    }
    rounded = {name: np.round(curve, 5).tolist() for name, curve in curves.items()}
    return {**plain, "precision_at_recall": {"recall": np.round(scores.recalls, 2).tolist(), **rounded}}
