"""Every family of presets trains on real COCO images: some twenty minutes on one core, half a minute for most.

Each trains in a process of its own. TensorFlow never forgets a custom gradient that was traced, nor the graph around
it, and Keras' optimizers trace one: the memory of a model that was fitted, here mostly a gigabyte, is not given back.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

from tf_dcnv2.data import load_records, read_dataset_info
from tf_dcnv2.models import FeatureMimicking
from tf_dcnv2.models.presets import load_preset, preset_names

pytestmark = pytest.mark.slow

# A family is a detector on a backbone and a neck; the paper's three systems of each.
SYSTEMS = [name for name in preset_names() if name.endswith(("_regular", "_dcnv1", "_dcnv2"))]
SIZE = {"short_side": 96, "max_side": 128}
# What costs time and is no part of the network.
FEWER = {
    "rpn.proposals": (100, 50),
    "box_head.samples": 32,
    "mimic.rois_per_image": 2,
    "mimic.patch_size": 64,
}


def test_every_detector_backbone_and_neck_is_among_the_families():
    configs = [load_preset(name) for name in SYSTEMS]
    families = {
        (config.mask_head is not None, config.backbone.depths, config.backbone.groups, config.neck.kind)
        for config in configs
    }
    r50, r101, small = (3, 4, 6, 3), (3, 4, 23, 3), (1, 2, 2, 1)
    for masks in (False, True):
        assert {(masks, r50, 1, "c5"), (masks, r50, 1, "fpn"), (masks, small, 1, "fpn")} <= families
        assert {(masks, r101, groups, "fpn" if masks else "c5") for groups in (1, 32, 64)} <= families
    assert len(SYSTEMS) == 3 * len(families)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_family_trains_five_steps_with_finite_losses(name, coco_mini):
    prefix, _ = coco_mini
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        processes.submit(train_five_steps, name, prefix).result()


def train_five_steps(name: str, prefix: Path) -> None:
    """The body of the test, for a process of its own."""
    keras.utils.set_random_seed(0)
    config = load_preset(name).replace(**SIZE, **FEWER)
    detector = config.build(read_dataset_info(prefix).category_ids)
    model = detector if config.mimic.rois == "none" else FeatureMimicking(detector, config.mimic)
    # Without ImageNet weights behind its frozen normalisation the network wants small steps.
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9, global_clipnorm=10.0))
    images = load_records(prefix, batch_size=2, training=True, masks=detector.has_mask_head, seed=0, **SIZE)
    history = model.fit(images.take(5), verbose=0, shuffle=False).history
    print({term: round(values[0], 3) for term, values in history.items()})
    assert set(model.loss_names) < set(history)
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(np.isfinite(variable).all() for variable in detector.trainable_variables)
