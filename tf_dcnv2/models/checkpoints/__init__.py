"""Whole detectors of torchvision, detectron2 and mmdetection, from their checkpoints."""

from tf_dcnv2.models.checkpoints.loading import ImportedDetector, import_detector

__all__ = ["ImportedDetector", "import_detector"]
