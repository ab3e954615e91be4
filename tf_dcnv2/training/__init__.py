"""Training runs: options, budgets and learning rates, callbacks, and `train` itself."""

from tf_dcnv2.optimizers import scale_learning_rates
from tf_dcnv2.training.budget import Budget, MaxMinutes, SpendBudget
from tf_dcnv2.training.checkpoints import CocoEvaluation, KeepDetectors, save_detector
from tf_dcnv2.training.options import TrainOptions
from tf_dcnv2.training.run import TrainResult, train

__all__ = [
    "Budget",
    "CocoEvaluation",
    "KeepDetectors",
    "MaxMinutes",
    "SpendBudget",
    "TrainOptions",
    "TrainResult",
    "save_detector",
    "scale_learning_rates",
    "train",
]
