import numpy as np
import pytest

from benchmarks.input_pipeline import _padded_pixels


def test_batches_of_one_shape_have_no_padding():
    assert _padded_pixels(np.full([9, 2], 64), 4, 32, grouped=False) == 64 * 64


def test_high_and_wide_images_in_one_batch_are_padded_to_both_unless_they_are_grouped():
    sizes = np.tile([[64, 96], [96, 64]], [8, 1])
    assert _padded_pixels(sizes, 8, 32, grouped=True) == 64 * 96
    assert _padded_pixels(sizes, 8, 32, grouped=False) == pytest.approx(96 * 96)


def test_sizes_are_rounded_up_to_the_multiple():
    assert _padded_pixels(np.array([[33, 64]]), 1, 32, grouped=False) == 64 * 64
