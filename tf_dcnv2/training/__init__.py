"""Training runs: options, budgets and learning rates, callbacks, and `train` itself."""

from tf_dcnv2.optimizers import scale_learning_rates
from tf_dcnv2.training.backups import RunState
from tf_dcnv2.training.budget import Budget, MaxMinutes, SpendBudget
from tf_dcnv2.training.checkpoints import CocoEvaluation
from tf_dcnv2.training.nan_guard import NaNGuard, TrainingDiverged
from tf_dcnv2.training.offset_monitor import OffsetMonitor
from tf_dcnv2.training.options import TrainOptions
from tf_dcnv2.training.pictures import DetectionPictures
from tf_dcnv2.training.progress import ProgressCallback, RunProgress
from tf_dcnv2.training.resumable import Resumable
from tf_dcnv2.training.resuming import finished_state, resumed_options
from tf_dcnv2.training.run import TrainResult, describe_finished, train
from tf_dcnv2.training.run_folder import RunFolder, save_detector
from tf_dcnv2.training.stop_requests import TrainingStopped
from tf_dcnv2.training.strategies import WorkerLost
from tf_dcnv2.training.summaries import TensorBoardSummaries

__all__ = [
    "Budget",
    "CocoEvaluation",
    "DetectionPictures",
    "MaxMinutes",
    "NaNGuard",
    "OffsetMonitor",
    "ProgressCallback",
    "Resumable",
    "RunFolder",
    "RunProgress",
    "RunState",
    "SpendBudget",
    "TensorBoardSummaries",
    "TrainOptions",
    "TrainResult",
    "TrainingDiverged",
    "TrainingStopped",
    "WorkerLost",
    "describe_finished",
    "finished_state",
    "resumed_options",
    "save_detector",
    "scale_learning_rates",
    "train",
]
