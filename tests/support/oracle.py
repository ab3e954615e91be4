"""A detector that knows the ground truth."""

import numpy as np

# Of the metrics of a kind.
NAMES = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "per_class"}


class Oracle:
    """A detector that looks the annotations up, in the order of the data set."""

    def __init__(self, dataset, change=lambda detections: detections, with_crowds=False):
        self.given = [change(self.perfect(targets, with_crowds)) for _, targets in dataset]
        self.answers = iter(self.given)

    @staticmethod
    def perfect(targets, with_crowds):
        crowd = targets["crowd"].numpy()
        classes = np.where(crowd & (not with_crowds), -1, targets["classes"])
        scores = np.where(classes >= 0, np.where(crowd, 1.0, 0.9), 0.0)
        return {"boxes": targets["boxes"].numpy(), "scores": scores, "classes": classes}

    def __call__(self, inputs):
        assert set(inputs) == {"images", "image_sizes"}
        return next(self.answers)
