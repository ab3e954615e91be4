"""What somebody reads off a picture of spatial support."""

import numpy as np
import pytest

from tf_dcnv2.visualization import (
    draw_bins,
    draw_box,
    draw_locations,
    draw_map,
    draw_node,
    draw_receptive_field,
    draw_region,
)
from tf_dcnv2.visualization.drawing import NODE_COLOR

GREY = np.full((60, 80, 3), 128, np.uint8)
NOTHING = np.zeros([0, 2])
ZOOM = 4


def at(picture: np.ndarray, y: float, x: float, zoom: float = ZOOM) -> np.ndarray:
    """The colour of an enlarged picture where the pixel (y, x) of the image has its centre."""
    return picture[round((y + 0.5) * zoom - 0.5), round((x + 0.5) * zoom - 0.5)].astype(float)


def brightness(color: np.ndarray) -> float:
    """Relative luminance as WCAG defines it, 0..1."""
    linear = np.where(color <= 10, color / 255 / 12.92, ((color / 255 + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    low, high = sorted([brightness(one), brightness(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("zoom", [1, 2.5, 4])
def test_the_marker_is_where_the_node_is(zoom):
    picture = draw_node(draw_locations(GREY, NOTHING, zoom=zoom), (20.0, 55.0), zoom=zoom)
    changed = np.argwhere((picture != draw_locations(GREY, NOTHING, zoom=zoom)).any(axis=-1))
    np.testing.assert_allclose(changed.mean(axis=0), (np.array([20, 55]) + 0.5) * zoom - 0.5, atol=0.5)
    assert (np.ptp(changed, axis=0) < 0.15 * 60 * zoom).all()
    np.testing.assert_allclose(at(picture, 20, 55, zoom), NODE_COLOR, atol=60 if zoom == 1 else 1)


def test_stronger_locations_are_lighter():
    columns = np.arange(10, 75, 10)
    locations = np.stack([np.full(len(columns), 30), columns], axis=-1)
    picture = draw_locations(GREY, locations, np.arange(1, len(columns) + 1) * 1e-4, zoom=ZOOM)
    assert (np.diff([brightness(at(picture, 30, column)) for column in columns]) > 0).all()


def test_the_strongest_location_is_on_top_whatever_the_order():
    locations, strengths = np.full([3, 2], 30.0), np.array([0.2, 1.0, 0.5])
    top = at(draw_locations(GREY, locations[:1], np.ones(1), zoom=ZOOM), 30, 30)
    for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
        picture = draw_locations(GREY, locations[order], strengths[order], zoom=ZOOM)
        np.testing.assert_array_equal(at(picture, 30, 30), top)


@pytest.mark.parametrize("photograph", [0, 128, 255])
def test_the_strongest_location_stands_out_on_any_photograph(photograph):
    image = np.full_like(GREY, photograph)
    for strengths in (np.ones(1), None):
        picture = draw_locations(image, np.array([[30.0, 40.0]]), strengths, zoom=ZOOM)
        assert contrast(at(picture, 30, 40), at(picture, 5, 5)) > 1.5
        around = picture[110:135, 150:175].reshape(-1, 3).astype(float)
        rim = around[around.sum(axis=-1).argmin()]
        assert contrast(at(picture, 30, 40), rim) > 3  # WCAG's bound for graphics
    assert 60 < at(draw_locations(image, NOTHING), 5, 5, 1).sum() < 560  # neither black nor white


def test_locations_outside_of_the_image_or_undefined_leave_no_trace():
    plain = draw_locations(GREY, NOTHING)
    outside = np.array([[-50.0, 10.0], [10.0, 500.0], [np.nan, 5.0], [np.inf, 5.0]])
    np.testing.assert_array_equal(draw_locations(GREY, outside), plain)
    np.testing.assert_array_equal(draw_locations(GREY, outside, np.ones(4)), plain)


def test_locations_without_any_strength_are_not_drawn():
    np.testing.assert_array_equal(
        draw_locations(GREY, np.array([[30.0, 40.0]]), np.zeros(1)), draw_locations(GREY, NOTHING)
    )


def test_a_bin_covers_its_area_with_a_dot_in_the_middle():
    bare = draw_bins(GREY, NOTHING, (10.0, 20.0), np.zeros(0), zoom=ZOOM)
    picture = draw_bins(GREY, np.array([[30.0, 40.0]]), (10.0, 20.0), np.ones(1), zoom=ZOOM)
    rows, columns = np.nonzero((picture != bare).any(axis=-1))
    assert (rows.min() / ZOOM, rows.max() / ZOOM) == pytest.approx((25, 35), abs=0.5)
    assert (columns.min() / ZOOM, columns.max() / ZOOM) == pytest.approx((30, 50), abs=0.5)
    centre, area = picture[30 * ZOOM, 40 * ZOOM].astype(float), picture[27 * ZOOM, 33 * ZOOM].astype(float)
    assert brightness(centre) > brightness(area) > brightness(bare[0, 0].astype(float))


def test_stronger_bins_are_lighter_and_on_top():
    centres = np.array([[[30.0, 20.0], [30.0, 26.0]]])
    pictures = [draw_bins(GREY, centres, (20.0, 20.0), np.array([s]), zoom=ZOOM) for s in ([1.0, 0.3], [0.3, 1.0])]
    left, right = (picture[24 * ZOOM, 13 * ZOOM].astype(float) for picture in pictures)
    assert brightness(left) > brightness(right)
    overlap = [picture[24 * ZOOM, 23 * ZOOM].astype(float) for picture in pictures]
    np.testing.assert_allclose(overlap[0], overlap[1], atol=12)


def test_a_receptive_field_is_lightest_where_it_is_strongest():
    field = np.zeros([60, 80])
    field[20, 30], field[45, 60] = 1.0, 0.3
    picture = draw_receptive_field(GREY, field, zoom=ZOOM)
    bare = draw_receptive_field(GREY, np.zeros_like(field), zoom=ZOOM)
    assert brightness(at(picture, 20, 30)) > brightness(at(picture, 45, 60))
    np.testing.assert_array_equal(at(picture, 5, 70), at(bare, 5, 70))
    assert (at(picture, 45, 60) != at(bare, 45, 60)).any()


def test_a_region_stays_as_it_is_and_all_else_is_dim_and_grey(rng):
    image = rng.integers(60, 255, [60, 80, 3], np.uint8)
    mask = np.zeros([60, 80], bool)
    mask[10:30, 20:50] = True
    picture = draw_region(image, mask)
    np.testing.assert_array_equal(picture[mask], image[mask])
    beyond = np.ones_like(mask)
    beyond[7:33, 17:53] = False
    assert (picture[beyond].max(axis=-1) == picture[beyond].min(axis=-1)).all()
    assert (picture[beyond].mean(axis=-1) < 0.5 * image[beyond].mean(axis=-1)).all()
    assert (picture[9, 20:50] > 200).all() and (picture[10:30, 50] > 200).all()  # the outline, outside of the region


def test_a_box_is_drawn_at_its_edges_with_a_dark_rim():
    picture = draw_box(GREY, (10.0, 20.0, 40.0, 60.0))
    assert (picture[10, 20:61] == 255).all() and (picture[10:41, 60] == 255).all()
    assert (picture[9, 25:55] < 30).all() and (picture[11, 25:55] < 30).all()
    np.testing.assert_array_equal(picture[20:30, 30:50], GREY[20:30, 30:50])
    assert draw_box(GREY, (-5.0, -5.0, 500.0, 500.0)).shape == GREY.shape


def test_a_map_colours_the_area_of_each_cell():
    values = np.array([[0.0, 1.0], [2.0, 3.0]])
    picture = draw_map(GREY, values, (0.0, 3.0), zoom=2)
    cells = [picture[row, column].astype(float) for row in (5, 115) for column in (5, 155)]
    assert (np.diff([brightness(color) for color in cells]) > 0).all()
    np.testing.assert_array_equal(picture[:60, :80], np.broadcast_to(picture[0, 0], (60, 80, 3)))


def test_what_is_given_is_left_alone():
    image, picture = GREY.astype(np.float32), GREY.copy()
    draw_locations(image, np.array([[30.0, 40.0]]))
    draw_region(image, np.ones([60, 80], bool))
    draw_node(picture, (30.0, 40.0))
    draw_box(picture, (1.0, 1.0, 20.0, 20.0))
    assert (image == 128).all() and (picture == 128).all()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"locations must be \(N, 2\)"):
        draw_locations(GREY, np.zeros([3, 3]))
    with pytest.raises(ValueError, match="strengths must have one entry for each of 3"):
        draw_locations(GREY, np.zeros([3, 2]), np.ones(2))
    with pytest.raises(ValueError, match="image must be"):
        draw_locations(GREY[..., 0], NOTHING)
    with pytest.raises(ValueError, match="mask must have"):
        draw_region(GREY, np.ones([5, 5], bool))
    with pytest.raises(ValueError, match="field must have"):
        draw_receptive_field(GREY, np.ones([5, 5]))
