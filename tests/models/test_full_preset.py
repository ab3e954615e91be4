"""The paper's detector at work on real COCO images: minutes, not seconds."""

import json

import keras
import numpy as np
import pytest
from pycocotools.coco import COCO

from tf_dcnv2.data import load_records, read_dataset_info
from tf_dcnv2.evaluation import evaluate_coco
from tf_dcnv2.models import FasterRCNN, FeatureMimicking

pytestmark = pytest.mark.slow


def test_the_full_preset_with_mimicking_overfits_four_images_and_is_scored_with_cocos_ids(coco_mini, tmp_path):
    prefix, annotations = coco_mini
    category_ids = read_dataset_info(prefix).category_ids
    assert (len(category_ids), max(category_ids)) == (80, 90)
    keras.utils.set_random_seed(0)
    detector = FasterRCNN.from_preset(
        "faster_rcnn_r50_dcnv2",
        category_ids=category_ids,
        short_side=512,
        max_side=853,
        # After so few steps no class is likely yet; what matters is that detections reach the results file.
        **{"box_head.score_threshold": 0.001},
    )
    model = FeatureMimicking(detector)
    # Without ImageNet weights behind its frozen normalisation the network wants small steps.
    model.compile(keras.optimizers.SGD(5e-4, momentum=0.9, global_clipnorm=10.0))
    images = load_records(prefix, batch_size=1, short_side=512, max_side=853).take(4).cache()
    history = model.fit(images, epochs=6, verbose=0).history
    print({name: [round(value, 3) for value in values] for name, values in history.items()})
    assert all(np.isfinite(values).all() for values in history.values())
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["mimic_loss"][-1] < history["mimic_loss"][0]

    results = tmp_path / "results.json"
    evaluate_coco(detector, images, annotations=annotations, results_path=results)
    detections = json.loads(results.read_text())
    assert detections
    assert {detection["category_id"] for detection in detections} <= set(category_ids)
    COCO(str(annotations)).loadRes(str(results))
