"""COCO average precision of detectors."""

from tf_dcnv2.evaluation.coco import evaluate_coco
from tf_dcnv2.evaluation.coco_metrics import METRIC_NAMES

__all__ = ["METRIC_NAMES", "evaluate_coco"]
