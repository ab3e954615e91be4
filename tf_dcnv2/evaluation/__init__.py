"""COCO average precision of detectors."""

from tf_dcnv2.evaluation.coco import evaluate_coco

__all__ = ["evaluate_coco"]
