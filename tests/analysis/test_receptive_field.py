import keras
import numpy as np
import pytest

from tests.analysis.conftest import set_offsets
from tests.support.detectors import CATEGORY_IDS
from tf_dcnv2.analysis import ConvNode, RoINode, effective_receptive_field
from tf_dcnv2.layers import DeformableConv2D


def test_the_field_of_one_convolution_is_the_size_of_its_weights(sequential, rng):
    model = sequential(keras.layers.Conv2D(1, 3, padding="same", name="conv"))
    kernel = rng.standard_normal([3, 3, 1, 1])
    model.layers[0].set_weights([kernel, np.zeros(1)])
    expected = np.zeros([7, 9], np.float32)
    expected[1:4, 4:7] = abs(kernel[..., 0, 0])
    field = effective_receptive_field(model, rng.uniform(size=[7, 9, 1]), ConvNode("conv", 2, 5))
    np.testing.assert_allclose(field, expected, rtol=1e-6)


def test_a_pixel_counts_with_the_length_of_its_gradient_over_channels(sequential, rng):
    model = sequential(keras.layers.Conv2D(2, 1, name="conv"), channels=3)
    kernel = rng.standard_normal([1, 1, 3, 2])
    model.layers[0].set_weights([kernel, np.zeros(2)])
    image = rng.uniform(size=[4, 4, 3])
    both = effective_receptive_field(model, image, ConvNode("conv", 1, 2))
    np.testing.assert_allclose(both[1, 2], np.linalg.norm(kernel[0, 0].sum(axis=1)), rtol=1e-6)
    second = effective_receptive_field(model, image, ConvNode("conv", 1, 2, channel=1))
    np.testing.assert_allclose(second[1, 2], np.linalg.norm(kernel[0, 0, :, 1]), rtol=1e-6)
    assert np.count_nonzero(both) == np.count_nonzero(second) == 1


def test_offsets_move_the_field(sequential, rng):
    model = sequential(DeformableConv2D(1, 1, padding="same", name="conv"))
    layer = model.layers[0]
    set_offsets(layer, np.array([[2.0, -3.0]]))
    layer.kernel.assign([[[[5.0]]]])
    field = effective_receptive_field(model, rng.uniform(size=[9, 9, 1]), ConvNode("conv", 4, 4))
    assert field[6, 1] == 5 and np.count_nonzero(field) == 1


@pytest.mark.parametrize("dcn", ["none", "v1", "v2"])
@pytest.mark.parametrize(
    "node",
    [
        ConvNode("C5", 1, 2),
        ConvNode("P4", 1, 2, channel=3),
        ConvNode("conv4_block1_2_conv", 1, 3),
        RoINode((8.0, 10.0, 50.0, 70.0)),
        RoINode((8.0, 10.0, 50.0, 70.0), category_id=CATEGORY_IDS[1]),
    ],
    ids=["backbone", "neck", "layer", "roi", "class"],
)
def test_every_node_of_a_detector_has_a_field_on_the_image(detectors, image, dcn, node):
    field = effective_receptive_field(detectors[dcn], image, node)
    assert field.shape == (64, 96) and field.dtype == np.float32
    assert np.isfinite(field).all() and field.min() >= 0 and field.max() > 0


def test_the_field_is_the_slope_of_the_response(detectors, image):
    detector = detectors["none"]  # smooth but for its ReLUs
    node = ConvNode("C4", 1, 2)
    field = effective_receptive_field(detector, image, node)
    row, column = np.unravel_index(field.argmax(), field.shape)

    def response(pixels):
        features = detector.backbone(detector.prepare(pixels[None], np.array([[64.0, 96.0]], "float32")))
        return float(np.sum(features["C4"][0, 1, 2], dtype=np.float64))

    step, slopes = 0.5, []
    for channel in range(3):
        moved = np.array([image, image])
        moved[0, row, column, channel] += step
        moved[1, row, column, channel] -= step
        slopes.append((response(moved[0]) - response(moved[1])) / (2 * step))
    np.testing.assert_allclose(field[row, column], np.linalg.norm(slopes), rtol=0.02)


def test_a_subclassed_model_has_a_field_at_its_output(image):
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv = DeformableConv2D(4, 3, strides=2, padding="same")

        def call(self, images):
            return {"features": self.conv(images)}

    field = effective_receptive_field(Model(), image, ConvNode("features", 3, 4))
    assert np.count_nonzero(field) == 9
