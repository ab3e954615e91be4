"""Nodes that are not there, and images that are none, are refused with what there is."""

import keras
import numpy as np
import pytest

from tests.support.detectors import CATEGORY_IDS
from tf_dcnv2.analysis import (
    ConvNode,
    RoINode,
    effective_receptive_field,
    network_image,
    node_at,
    offset_statistics,
)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (ConvNode("C5", 2, 0), r"a cell of C5, which has 2 rows and 3 columns on an image of 64 x 96 pixels.*row=2"),
        (ConvNode("C5", -1, 0), "row=-1"),
        (ConvNode("C5", 0, 0, channel=32), r"one of the 32 of C5. Received: channel=32"),
        (
            ConvNode("C7", 0, 0),
            r"of backbone, which has: C2, C3, C4, C5, P3, P4, P5, those of its layers. .*layer='C7'",
        ),
        (ConvNode("conv5_block1_ou", 0, 0), r"layer='conv5_block1_ou'. Did you mean 'conv5_block1_out'"),
        (ConvNode(None, 0, 0), r"Received: layer=None"),
        (RoINode((10, 10, 10, 20)), r"box must be \(y1, x1, y2, x2\) within the image of 64 x 96"),
        (RoINode((0, 0, 70, 20)), "within the image"),
        (RoINode((0, 0, float("nan"), 20)), "within the image"),
        (
            RoINode((0, 0, 9, 9), category_id=4),
            rf"one of \({', '.join(map(str, CATEGORY_IDS))}\). Received: category_id=4",
        ),
    ],
    ids=str,
)
def test_a_node_that_is_not_there(detectors, image, node, message):
    with pytest.raises(ValueError, match=message):
        effective_receptive_field(detectors["v2"], image, node)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros([4, 4]), r"image must be an array \(H, W, C\)"),
        (np.zeros([0, 4, 3]), "image must be"),
        (np.full([8, 8, 3], np.nan), "finite"),
        ("cells.jpg", "image must be an array"),
    ],
    ids=["no channels", "no rows", "NaN", "a path"],
)
def test_an_image_that_is_none(detectors, image, message):
    with pytest.raises(ValueError, match=message):
        effective_receptive_field(detectors["v2"], image, ConvNode("C5", 0, 0))
    with pytest.raises(ValueError, match=message):
        offset_statistics(detectors["v2"], image)


def test_models_that_take_no_image(image):
    with pytest.raises(TypeError, match="model must be a detector or another Keras model. Received: str"):
        effective_receptive_field("detector", image, ConvNode(None, 0, 0))
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 3))]
    two = keras.Model(inputs, keras.layers.Add()(inputs))
    with pytest.raises(ValueError, match="one input, an image. Received: .* with 2 inputs"):
        effective_receptive_field(two, image, ConvNode(None, 0, 0))
    flat = keras.Sequential([keras.Input((64, 96, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match=r"feature map \(B, H, W, C\). Received: layer=None, of shape"):
        effective_receptive_field(flat, image, ConvNode(None, 0, 0))
    with pytest.raises(ValueError, match="A RoINode needs a detector"):
        effective_receptive_field(flat, image, RoINode((0, 0, 4, 4)))
    with pytest.raises(TypeError, match="node must be a ConvNode or a RoINode"):
        effective_receptive_field(flat, image, (0, 0))


def test_an_image_as_the_detector_sees_it(detectors, tmp_path):
    detector = detectors["v2"]
    pixels = np.random.default_rng(0).integers(0, 256, [60, 90, 3], dtype=np.uint8)
    seen = network_image(detector, pixels, short_side=80)
    assert seen.shape == (80, 120, 3) and seen.dtype == np.float32
    keras.utils.save_img(tmp_path / "image.png", pixels, scale=False)
    np.testing.assert_array_equal(network_image(detector, tmp_path / "image.png", short_side=80), seen)
    assert min(network_image(detector, pixels).shape[:2]) == detector.short_side
    (tmp_path / "no.png").write_text("no image")
    with pytest.raises(ValueError, match="no.png"):
        network_image(detector, tmp_path / "no.png")


def test_points_beyond_the_image(detectors, image):
    with pytest.raises(ValueError, match=r"point must lie on the image of 64 x 96 pixels. Received: point=\(64, 3\)"):
        node_at(detectors["v2"], image, "C5", (64, 3))
