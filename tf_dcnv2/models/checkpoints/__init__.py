"""Whole detectors of torchvision, detectron2 and mmdetection, from their checkpoints."""

from tf_dcnv2.models.checkpoints.loading import ImportedDetector, import_detector
from tf_dcnv2.models.checkpoints.source_presets import load_source_preset, source_preset_names

__all__ = ["ImportedDetector", "import_detector", "load_source_preset", "source_preset_names"]
