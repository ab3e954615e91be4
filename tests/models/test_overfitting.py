"""Small detectors overfit eight real COCO images: minutes each."""

import runpy

import keras
import pytest

from tests.support.reference_vectors import REPOSITORY
from tf_dcnv2.data import convert_coco, load_records
from tf_dcnv2.evaluation import evaluate_coco

pytestmark = pytest.mark.slow

EXAMPLE = runpy.run_path(str(REPOSITORY / "examples" / "overfit_four_images.py"))
SIZE = EXAMPLE["SIZE"]
# Small objects want small anchors where there is only the level with stride 16.
C5 = {"neck.kind": "c5", "backbone.dilated_c5": True, "rpn.anchor_sizes": [16, 32, 64, 128, 256]}


@pytest.fixture(scope="module")
def eight_images(shared_dir, tmp_path_factory):
    """Prefix of the records of eight training images, and their annotation file."""
    source, folder = shared_dir / "data" / "coco_mini", tmp_path_factory.mktemp("eight")
    annotations, prefix = folder / "annotations.json", folder / "records"
    EXAMPLE["first_images"](source / "annotations" / "instances_train2017.json", 8, annotations)
    convert_coco(source / "train2017", annotations, prefix)
    return prefix, annotations


@pytest.mark.parametrize("neck", [{}, C5], ids=["fpn", "c5"])
@pytest.mark.parametrize("kind", ["mask_rcnn", "faster_rcnn"])
def test_a_small_detector_finds_the_objects_of_eight_images_it_has_learnt(kind, neck, eight_images):
    prefix, annotations = eight_images
    keras.utils.set_random_seed(0)
    detector = EXAMPLE["make"](f"{kind}_small_mdconv_c3_c5_mdpool", prefix, **neck)
    history = EXAMPLE["overfit"](detector, prefix, steps=450)
    print({name: [round(value, 3) for value in values] for name, values in history.items()})
    metrics = evaluate_coco(detector, load_records(prefix, **SIZE), annotations=annotations)
    print({kind: {name: numbers[name] for name in ("AP", "AP50", "AP75")} for kind, numbers in metrics.items()})
    assert metrics["bbox"]["AP50"] >= 0.8
    if kind == "mask_rcnn":
        assert metrics["segm"]["AP50"] >= 0.7
