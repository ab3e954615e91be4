"""Numbers and boxes as annotation files write them."""

import pytest

from tf_dcnv2.data.coco.values import as_box, as_flag


@pytest.mark.parametrize(
    "value",
    [
        [1, 2, 3, 4],
        ["1", "2", "3", "4"],
        [[1, 2, 3, 4]],
        "[1, 2, 3, 4]",
        {"x": 1, "y": 2, "width": 3, "height": 4},
        {"x": 1, "y": 2, "w": 3, "h": 4},
        {"left": 1, "top": 2, "width": 3, "height": 4},
    ],
    ids=str,
)
def test_a_box_in_each_of_its_forms(value):
    assert as_box(value) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "value", [None, 3, "box", "[", [1, 2, 3], [[1, 2, 3, 4], [1, 2, 3, 4]], [1, 2, 3, "x"], {"x": 1}], ids=str
)
def test_what_is_no_box(value):
    assert as_box(value) is None


@pytest.mark.parametrize(
    ("value", "flag"),
    [(None, False), (0, False), (1, True), (1.0, True), (True, True), ("0", False), (" True ", True), (2, None)],
    ids=str,
)
def test_a_flag_in_each_of_its_forms(value, flag):
    assert as_flag(value) is flag


@pytest.mark.parametrize("value", ["maybe", -1, [1], {}], ids=str)
def test_what_is_no_flag(value):
    assert as_flag(value) is None
