"""`detect`: any images in, boxes in each image's own pixels out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, tiny_config
from tf_dcnv2.data import prepare_image
from tf_dcnv2.models import FasterRCNN


@pytest.fixture(scope="module")
def detector() -> FasterRCNN:
    keras.utils.set_random_seed(0)
    return tiny_config(mask_head=MASK_HEAD, short_side=96, max_side=160).build(CATEGORY_IDS)


@pytest.fixture
def image(rng) -> np.ndarray:
    return rng.integers(0, 255, [240, 320, 3], np.uint8)


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-3, err_msg=name)


def test_detections_are_those_of_a_call_in_pixels_of_the_image(detector, image):
    found = detector.detect(image)
    called = detector(prepare_image(image, short_side=96, max_side=160))
    count = int(called["num_detections"][0])
    assert count > 0
    assert {name: value.shape[0] for name, value in found.items()} == dict.fromkeys(
        ("boxes", "scores", "classes", "masks"), count
    )
    # 240 x 320 became 96 x 128.
    np.testing.assert_allclose(found["boxes"], 2.5 * called["boxes"][0, :count], rtol=1e-4, atol=1e-2)
    for name in ("scores", "classes", "masks"):
        np.testing.assert_allclose(found[name], called[name][0, :count], rtol=1e-4, atol=1e-4)


def test_images_of_several_kinds_and_sizes_may_be_mixed(detector, image, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(image).save(path)
    narrow = image[:, :70]
    mixed = detector.detect([image, str(path), path, image.astype(np.float32), tf.constant(image), narrow])
    assert isinstance(mixed, list)
    for found in mixed[:5]:
        assert_same(found, detector.detect(image))
    assert_same(mixed[5], detector.detect(narrow))
    assert mixed[5]["boxes"][:, 3].max() <= 70.01
    assert detector.detect([]) == []


def test_the_size_of_the_networks_image_can_be_changed(detector, image):
    larger = detector.detect(image, short_side=120, max_side=160)
    called = detector(prepare_image(image, short_side=120, max_side=160))
    np.testing.assert_allclose(larger["boxes"], 2.0 * called["boxes"][0, : len(larger["boxes"])], rtol=1e-4, atol=1e-2)


def test_files_are_turned_upright_unless_told_otherwise(detector, image, tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise makes it upright
    Image.fromarray(image).save(path, exif=exif, quality=100, subsampling=0)
    upright, stored = detector.detect(path), detector.detect(path, upright=False)
    assert upright["boxes"][:, 2].max() > 245  # 320 pixels high
    assert stored["boxes"][:, 2].max() <= 240.01


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros([4, 5]), r"RGB array of shape \(H, W, 3\).* Received: an array of shape \(4, 5\)"),
        (np.zeros([2, 4, 5, 3]), "several images go into a list"),
        (np.full([4, 5, 3], 0.5), r"values 0..255. Received: a float64 array with values 0.5..0.5"),
        (np.full([4, 5, 3], 256), r"values 0..255. Received: a int64 array with values 256..256"),
        (np.full([4, 5, 3], np.nan), r"values 0..255. Received: .* nan..nan"),
    ],
)
def test_what_is_no_image_is_refused(detector, wrong, message):
    with pytest.raises(ValueError, match=message):
        detector.detect(wrong)


def test_a_file_that_is_not_there_is_named(detector):
    with pytest.raises(ValueError, match="nowhere.jpg does not exist"):
        detector.detect("nowhere.jpg")
