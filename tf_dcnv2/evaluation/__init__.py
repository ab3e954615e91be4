"""COCO average precision of detectors."""

from tf_dcnv2.evaluation.coco import ResultsNotWritten, evaluate_coco
from tf_dcnv2.evaluation.coco_metrics import METRIC_NAMES
from tf_dcnv2.evaluation.mask_pasting import paste_mask

__all__ = ["METRIC_NAMES", "ResultsNotWritten", "evaluate_coco", "paste_mask"]
