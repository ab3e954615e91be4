import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.data.images.resizing import boxes_in_original, prepare_image, resized_shape


def test_boxes_are_mapped_back_axis_by_axis():
    boxes = np.array([[[0, 0, 10, 20], [5, 40, 100, 200]]], np.float32)
    expected = [[[0, 0, 5, 60], [2.5, 120, 50, 600]]]
    np.testing.assert_allclose(boxes_in_original(boxes, (100, 200), (50, 600)), expected, rtol=1e-12)
    assert boxes_in_original(np.zeros([0, 4]), (100, 200), (50, 600)).shape == (0, 4)


def test_the_border_of_the_network_input_without_padding_is_that_of_the_image():
    image = np.zeros([37, 91, 3], np.uint8)
    [size] = prepare_image(image, short_side=50, max_side=110)["image_sizes"].numpy()
    np.testing.assert_allclose(boxes_in_original([0, 0, *size], size, image.shape[:2]), [0, 0, 37, 91], rtol=1e-12)


@pytest.mark.parametrize(("resizing", "size"), [("tensorflow", [50, 76]), ("torchvision", [50, 75])])
def test_sizes_are_rounded_as_the_project_does_whose_arithmetic_is_asked_for(resizing, size):
    assert (
        resized_shape(tf.constant(100), tf.constant(151), short_side=50, max_side=1000, resizing=resizing)
        .numpy()
        .tolist()
        == size
    )
