from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.detectors import CATEGORY_IDS, tiny_config
from tf_dcnv2.export import export_saved_model
from tf_dcnv2.models import FasterRCNN

NAMES = {3: "red", 7: "white", 90: "größer"}


def make_detector(**overrides) -> FasterRCNN:
    """A small detector whose deformable layers do deform."""
    keras.utils.set_random_seed(0)
    config = tiny_config("fpn", **{"box_head.score_threshold": 0.0, **overrides})
    detector = config.build(CATEGORY_IDS)
    detector.short_side, detector.max_side = 96, 160
    detector.box_head.classifier.bias.assign([0.5, 0.1, -0.2, 0.3])
    for variable in detector.variables:
        if "offset" in variable.path:
            variable.assign(keras.random.normal(variable.shape, stddev=0.05, seed=1))
    return detector


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    """Images with a bright square."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 80, [*size, 3]).astype(np.uint8) for size in sizes]
    for image in images:
        image[10:40, 12:44, 0] = 250
    return images


@pytest.fixture(scope="session")
def detector() -> FasterRCNN:
    return make_detector()


class Exports(dict):
    """Folders of the detector's SavedModels by their ops, each written when a test first asks for it."""

    def __init__(self, detector: FasterRCNN, folder: Path):
        super().__init__()
        self.detector, self.folder = detector, folder

    def __missing__(self, ops: str) -> str:
        self[ops] = export_saved_model(self.detector, self.folder / ops, ops, labels=NAMES)
        return self[ops]


@pytest.fixture(scope="session")
def exported(detector, tmp_path_factory) -> Exports:
    return Exports(detector, tmp_path_factory.mktemp("exported"))
