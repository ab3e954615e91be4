import numpy as np
import pytest

from tf_dcnv2.analysis import (
    Bins,
    LayerSamples,
    SaliencyRegion,
    receptive_field_share,
    saliency_area_ratio,
    strength_share,
)

BOX = (2.0, 1.0, 6.0, 4.5)


def test_pixels_count_as_far_as_they_lie_in_the_box():
    assert receptive_field_share(np.ones([10, 10]), BOX) == pytest.approx(4 * 3.5 / 100)
    field = np.zeros([10, 10])
    field[3, 4] = 2.0  # half of this pixel is inside
    field[9, 9] = 1.0
    assert receptive_field_share(field, BOX) == pytest.approx(1 / 3)
    assert receptive_field_share(np.zeros([10, 10]), BOX) == 0


def test_strengths_count_where_their_location_lies():
    locations = np.array([[3.0, 2.0], [5.4, 3.9], [5.6, 3.5], [-1.0, 2.0]]).reshape(1, 1, 1, 4, 2)
    strengths = np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 1, 1, 4)
    samples = LayerSamples("conv", locations, strengths, np.ones_like(strengths))
    assert strength_share([samples], BOX) == pytest.approx(3 / 15)
    assert strength_share([samples, samples], BOX) == pytest.approx(3 / 15)
    # Bins count from the edge of the image, as boxes do, and samples from the centre of its first pixel.
    bins = Bins(locations.reshape(2, 2, 2) + 0.5, strengths.reshape(2, 2), np.ones([2, 2]), (1.0, 1.0))
    assert strength_share(bins, BOX) == pytest.approx(3 / 15)
    assert strength_share([], BOX) == 0


def test_the_area_of_a_region_in_areas_of_the_box():
    mask = np.zeros([10, 10], bool)
    mask[:7, :4] = True
    region = SaliencyRegion(mask, 0.05, 0.1, 0.9, (0, 0, 7, 4), mask.astype(np.int32), 9)
    assert saliency_area_ratio(region, BOX) == 2.0
