"""COCO average precision of detectors."""

from tf_dcnv2._core.masks import paste_mask
from tf_dcnv2.evaluation.coco import ResultsNotWritten, evaluate_coco
from tf_dcnv2.evaluation.coco_metrics import METRIC_NAMES

__all__ = ["METRIC_NAMES", "ResultsNotWritten", "evaluate_coco", "paste_mask"]
