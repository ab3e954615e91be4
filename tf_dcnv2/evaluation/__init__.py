"""COCO average precision of detectors, and an analysis of their errors."""

from tf_dcnv2._core.masks import paste_mask
from tf_dcnv2.evaluation.analysis import Analysis, analyze_detections, write_analyses
from tf_dcnv2.evaluation.class_scores import ClassScores, OperatingPoint
from tf_dcnv2.evaluation.coco import DetectedDataset, ResultsNotWritten, detect_dataset, evaluate_coco
from tf_dcnv2.evaluation.coco_metrics import METRIC_NAMES
from tf_dcnv2.evaluation.confusion import ConfusionMatrix
from tf_dcnv2.evaluation.errors import ERROR_KINDS, ErrorKind
from tf_dcnv2.evaluation.worst import FalseDetection, MissedObject

__all__ = [
    "ERROR_KINDS",
    "METRIC_NAMES",
    "Analysis",
    "ClassScores",
    "ConfusionMatrix",
    "DetectedDataset",
    "ErrorKind",
    "FalseDetection",
    "MissedObject",
    "OperatingPoint",
    "ResultsNotWritten",
    "analyze_detections",
    "detect_dataset",
    "evaluate_coco",
    "paste_mask",
    "write_analyses",
]
