"""Detectors and batches."""

import functools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, make_batch, tiny_config
from tf_dcnv2.data import convert_coco
from tf_dcnv2.models import FasterRCNN


@pytest.fixture
def batch() -> tuple[dict, dict]:
    return make_batch()


@pytest.fixture(scope="module")
def make_detector() -> Callable[..., FasterRCNN]:
    """`make_detector(neck, mask_head)`: a tiny detector, built once a module, as it was when it was new."""

    @functools.cache
    def new(neck: str, has_mask_head: bool) -> tuple[FasterRCNN, list[np.ndarray]]:
        keras.utils.set_random_seed(0)
        detector = tiny_config(neck, mask_head=MASK_HEAD if has_mask_head else None).build(CATEGORY_IDS)
        return detector, [variable.numpy() for variable in detector.variables]

    def make(neck: str, has_mask_head: bool = False) -> FasterRCNN:
        detector, values = new(neck, has_mask_head)
        # What training adds to the variables, such as the state of its metrics, comes after the detector's own.
        for variable, value in zip(detector.variables, values, strict=False):
            variable.assign(value)
        keras.utils.set_random_seed(0)
        return detector

    return make


@pytest.fixture(params=["c5", "fpn"])
def detector(request, make_detector) -> FasterRCNN:
    return make_detector(request.param)


@pytest.fixture(scope="session")
def coco_mini(shared_dir, tmp_path_factory) -> tuple[Path, Path]:
    """Prefix of the records of a hundred real COCO images with masks, and their annotation file."""
    folder = shared_dir / "data" / "coco_mini"
    annotations = folder / "annotations" / "instances_train2017.json"
    prefix = tmp_path_factory.mktemp("coco") / "train"
    convert_coco(folder / "train2017", annotations, prefix)
    return prefix, annotations
