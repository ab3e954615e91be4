"""Ground truth, and a detector that knows it."""

from pathlib import Path

import numpy as np
import pytest

from tf_dcnv2.data import convert_coco, make_synthetic_coco

NAMES = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "per_class"}


@pytest.fixture(scope="package")
def shapes(tmp_path_factory) -> tuple[str, Path]:
    """Prefix of the records of synthetic images, with crowds and empty ones among them, and their annotation file."""
    folder = tmp_path_factory.mktemp("shapes")
    paths = make_synthetic_coco(folder, num_images=40, image_size=(96, 128))
    convert_coco(*paths, folder / "records")
    return str(folder / "records"), paths.annotations_file


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
