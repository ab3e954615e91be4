"""Pixel values of any depth and layout as 8-bit RGB."""

import numpy as np
import pytest

from tf_dcnv2.data.images.pixels import to_rgb, to_uint8


@pytest.mark.parametrize("bits", [10, 12, 14, 16, 24, 32])
def test_whole_numbers_count_from_the_customary_depth_that_the_brightest_needs(bits):
    pixels, note = to_uint8(np.array([0, 2 ** (bits - 1), 2**bits - 1], np.uint32))
    assert pixels.tolist() == [0, 128, 255]
    assert note == f"{bits}-bit pixels were scaled to 8 bits"


@pytest.mark.parametrize("planes", [3, 4])
def test_planes_one_after_the_other_become_the_channels_of_pixels(rng, planes):
    values = rng.integers(0, 256, [planes, 6, 5], dtype=np.uint8)
    values[3:] = 255  # opaque
    pixels, _ = to_rgb(values)
    np.testing.assert_array_equal(pixels, np.moveaxis(values[:3], 0, -1))
