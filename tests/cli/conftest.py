import keras
import pytest
import yaml

from tests.support.detectors import MASK_HEAD, tiny_config
from tf_dcnv2.data import make_synthetic_coco
from tf_dcnv2_cli import main


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory):
    """Folder of the images and path of the annotations of six small images."""
    return make_synthetic_coco(tmp_path_factory.mktemp("synthetic"), num_images=6, image_size=(96, 128), seed=0)


@pytest.fixture(scope="session")
def records(synthetic, tmp_path_factory) -> str:
    """Prefix of the records that `tf-dcnv2 convert` makes of them."""
    prefix = str(tmp_path_factory.mktemp("records") / "shapes")
    assert main(["convert", "--images", synthetic[0], "--annotations", synthetic[1], "--output", prefix]) == 0
    return prefix


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A run as `tf-dcnv2 train` leaves it, of a detector that has learnt nothing."""
    return _make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def mask_run_folder(tmp_path_factory):
    """The same of a Mask R-CNN."""
    return _make_run(tmp_path_factory.mktemp("mask_run"), mask_head=MASK_HEAD)


def _make_run(folder, **overrides):
    keras.utils.set_random_seed(0)
    config = tiny_config("fpn", **{"box_head.score_threshold": 0.0, **overrides})
    detector = config.build((2, 5, 11, 17), name="tiny")
    detector.save(folder / "best.keras")
    names = {2: "star", 5: "cross", 11: "moon", 17: "arrow"}
    categories = [{"id": key, "name": name} for key, name in names.items()]
    (folder / "config.yaml").write_text(yaml.safe_dump({"categories": categories}))
    return folder
