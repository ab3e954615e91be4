"""COCO average precision of detectors."""

from tf_dcnv2.evaluation.coco import evaluate_coco
from tf_dcnv2.evaluation.coco_metrics import METRIC_NAMES
from tf_dcnv2.evaluation.mask_pasting import paste_mask

__all__ = ["METRIC_NAMES", "evaluate_coco", "paste_mask"]
