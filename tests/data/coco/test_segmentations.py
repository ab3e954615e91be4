import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tests.support.masks import segmentation_mask
from tf_dcnv2._core.masks import uncompressed_rle
from tf_dcnv2.data.coco.segmentations import check_for_image, decode_counts, parse_segmentation

TRIANGLE = [1.0, 1.0, 9.0, 1.0, 9.0, 7.0]
POINTS = [[1, 1], [9, 1], [9, 7]]


@pytest.mark.parametrize(
    "value",
    [
        [TRIANGLE],
        TRIANGLE,
        [str(number) for number in TRIANGLE],
        POINTS,
        [POINTS],
        [[[point] for point in POINTS]],
        [{"x": x, "y": y} for x, y in POINTS],
        {"all_points_x": [1, 9, 9], "all_points_y": [1, 1, 7]},
        [{"all_points_x": [1, 9, 9], "all_points_y": [1, 1, 7]}],
        "[[1, 1, 9, 1, 9, 7]]",
        [TRIANGLE, [5, 5]],
        [[], TRIANGLE],
    ],
    ids=str,
)
def test_a_polygon_is_understood_in_every_spelling(value):
    parsed = parse_segmentation(value)
    assert parsed.code == [TRIANGLE]
    assert parsed.outline() == [1.0, 1.0, 8.0, 6.0]
    if value == [TRIANGLE]:
        assert parsed.repair == ""


@pytest.mark.parametrize("value", [None, [], {}, ""])
def test_nothing_is_no_segmentation(value):
    assert parse_segmentation(value) is None


@pytest.mark.parametrize(
    "value",
    [
        [[]],
        [[1, 2, 3, 4]],  # pycocotools would take four numbers for a box
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2, float("nan"), 4, 5, 6]],
        [[1, 2, float("inf"), 4, 5, 6]],
        [[0, 0, 2e8, 0, 0, 2e8]],
        [[1, 2, None, 4, 5, 6]],
        [["a", "b", "c", "d", "e", "f"]],
        7,
        True,
        "no JSON",
        {"size": [4, 6]},
        {"counts": [24]},
        {"size": [4, 6], "counts": ""},
        {"size": [4, 6], "counts": "111111"},
        {"size": [4, 6], "counts": "不是"},
        {"size": [4, 6], "counts": "o"},
        {"size": [4, 6], "counts": "zzzz"},
        {"size": [4, 6], "counts": "ooooooooooooooooooooo0"},
        {"size": [4, 6], "counts": [23]},
        {"size": [4, 6], "counts": [-1, 25]},
        {"size": [4, 6], "counts": [24.5]},
        {"size": [4, 6], "counts": [1e300]},
        {"size": [4, 6], "counts": [None]},
        {"size": [0, 0], "counts": []},
        {"size": [4], "counts": [24]},
    ],
    ids=str,
)
def test_what_pycocotools_must_not_see_is_refused(value):
    with pytest.raises(ValueError, match="malformed|run length|run-length"):
        parse_segmentation(value)


def test_an_outline_that_would_take_all_memory_is_refused():
    zigzag = [[0.0, 0.0, 900_000.0, 1.0] * 4]
    with pytest.raises(ValueError, match="too long"):
        check_for_image(parse_segmentation(zigzag).code, 28, 28)


def test_deeply_nested_lists_are_refused():
    value = [1, 2]
    for _ in range(5000):
        value = [value]
    with pytest.raises(ValueError, match="malformed"):
        parse_segmentation(value)


def test_run_lengths_decode_as_pycocotools_does():
    rng = np.random.default_rng(0)
    for density in (0.02, 0.5, 0.98):
        for height, width in [(1, 1), (7, 9), (60, 33), (300, 500)]:
            mask = rng.random((height, width)) < density
            code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
            expected = uncompressed_rle(mask)
            assert decode_counts(code["counts"].decode()).tolist() == expected["counts"]
            parsed = parse_segmentation({"size": [height, width], "counts": code["counts"].decode()})
            x, y, box_width, box_height = coco_mask.toBbox(code)
            assert parsed.outline() == ([x, y, box_width, box_height] if mask.any() else None)


def test_any_text_decodes_to_all_pixels_or_is_refused():
    rng = np.random.default_rng(0)
    accepted = 0
    for _ in range(3000):
        text = "".join(map(chr, rng.integers(48, 112, rng.integers(1, 6))))
        try:
            runs = decode_counts(text)
        except ValueError:
            continue
        accepted += 1
        assert runs.min() >= 0
        size = [1, max(1, int(runs.sum()))]
        if runs.sum() and runs.sum() < 1e6:
            # pycocotools agrees on what the text says.
            assert segmentation_mask({"size": size, "counts": text}, *size).sum() == runs[1::2].sum()
    assert accepted > 50
