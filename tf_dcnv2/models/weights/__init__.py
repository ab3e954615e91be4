"""Starting weights: from Keras, from PyTorch, from one's own files."""

from tf_dcnv2.models.weights.checkpoint_files import Checkpoint, read_checkpoint
from tf_dcnv2.models.weights.finite_weights import non_finite_weights, require_finite_weights
from tf_dcnv2.models.weights.loading import WeightReport, assign_weights, copy_weights, load_weights
from tf_dcnv2.models.weights.pytorch_weights import PYTORCH_SUFFIXES, convert_pytorch_backbone

__all__ = [
    "PYTORCH_SUFFIXES",
    "Checkpoint",
    "WeightReport",
    "assign_weights",
    "convert_pytorch_backbone",
    "copy_weights",
    "load_weights",
    "non_finite_weights",
    "read_checkpoint",
    "require_finite_weights",
]
