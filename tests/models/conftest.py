"""Detectors and batches."""

from pathlib import Path

import keras
import pytest

from tests.support.detectors import CATEGORY_IDS, make_batch, tiny_config
from tf_dcnv2.data import convert_coco
from tf_dcnv2.models import FasterRCNN


@pytest.fixture
def batch() -> tuple[dict, dict]:
    return make_batch()


@pytest.fixture(params=["c5", "fpn"])
def detector(request) -> FasterRCNN:
    keras.utils.set_random_seed(0)
    return tiny_config(request.param).build(CATEGORY_IDS)


@pytest.fixture(scope="session")
def coco_mini(shared_dir, tmp_path_factory) -> tuple[Path, Path]:
    """Prefix of the records of a hundred real COCO images with masks, and their annotation file."""
    folder = shared_dir / "data" / "coco_mini"
    annotations = folder / "annotations" / "instances_train2017.json"
    prefix = tmp_path_factory.mktemp("coco") / "train"
    convert_coco(folder / "train2017", annotations, prefix)
    return prefix, annotations
