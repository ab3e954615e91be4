"""Numbers and boxes as annotation files write them."""

import pytest

from tf_dcnv2.data.coco.values import as_box


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
