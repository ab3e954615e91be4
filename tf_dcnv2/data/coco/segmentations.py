"""What a segmentation of an annotation file is, in one of COCO's two forms, or why it is none.

pycocotools trusts what it gets: a polygon far outside, or run lengths that do not add up, make it read and write memory
that is not its own. So everything is checked here, in Python and NumPy, before pycocotools sees it.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_dcnv2.data.coco.values import as_number, as_side
from tf_dcnv2.data.findings import shorten

# pycocotools computes in 32-bit integers of a fifth of a pixel.
_FARTHEST_PX = 1e6
# It stores ten points of eight bytes for every pixel of an outline: this bounds them to some hundred megabytes.
_LONGEST_OUTLINE_PX = 2e6

Polygons = list[list[float]]
RunLengths = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """A usable segmentation.

    Attributes:
        code: polygons `[[x1, y1, x2, y2, ...], ...]` in pixels, or `{"size": [height, width], "counts": ...}`.
        repair: what had to be done to get it, or an empty string.
    """

    code: Polygons | RunLengths
    repair: str = ""

    def outline(self) -> list[float] | None:
        """The smallest box `[x, y, width, height]` around it; None if it is empty."""
        if isinstance(self.code, dict):
            height, width = self.code["size"]
            return _run_length_box(height, width, decode_counts(self.code["counts"]))
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in self.code])
        (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
        return [float(x1), float(y1), float(x2 - x1), float(y2 - y1)]


def parse_segmentation(value: Any) -> Segmentation | None:
    """Reads the `segmentation` of an annotation.

    Beside COCO's polygons and run lengths it takes what other tools write under that name: one flat list of
    coordinates, lists of points, OpenCV contours, objects with `x` and `y`, numbers as text.

    Returns:
        The segmentation, or None if there is nothing at all (null, an empty list, an empty text).

    Raises:
        ValueError: there is something, but nothing usable; the message says why.
    """
    if isinstance(value, str) and value:
        value = _parse_text(value)
    if value is None or value in ("", [], {}):
        return None
    if isinstance(value, Mapping):
        if {"all_points_x", "all_points_y"} <= value.keys():
            return _parse_polygons(_zip_points(value["all_points_x"], value["all_points_y"]))
        return Segmentation(_parse_run_lengths(value))
    if isinstance(value, list):
        try:
            return _parse_polygons(value)
        except RecursionError:
            pass
    raise ValueError(f"malformed segmentation {shorten(value)}")


def check_for_image(code: Polygons | RunLengths, height: int, width: int) -> None:
    """Checks that pycocotools can rasterise a segmentation of `parse_segmentation` on an image of this size.

    Raises:
        ValueError: the run lengths are of another size, or the polygons are too far away or too long.
    """
    if isinstance(code, dict):
        if code["size"] != [height, width]:
            raise ValueError(f"segmentation of size {code['size']} on a {height}x{width} image")
        return
    for polygon in code:
        points = np.reshape(polygon, (-1, 2))
        if np.abs(np.roll(points, -1, axis=0) - points).max(axis=1).sum() > _LONGEST_OUTLINE_PX:
            raise ValueError(f"malformed polygon: its outline is too long for a {height}x{width} image")


def segmentation_rle(segmentation: list | dict, height: int, width: int) -> dict:
    """COCO's compressed run-length code of a COCO segmentation.

    Args:
        segmentation: a list of polygons `[x1, y1, x2, y2, …]` in pixels, or a run-length code
            `{"size": [height, width], "counts": list or string}`.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        ValueError: the segmentation is malformed or made for another image size.
    """
    from pycocotools import mask as coco_mask

    parsed = parse_segmentation(segmentation)
    if parsed is None:
        raise ValueError(f"malformed segmentation {segmentation!r}")
    code = parsed.code
    check_for_image(code, height, width)
    if isinstance(code, list):
        return coco_mask.merge(coco_mask.frPyObjects(code, height, width))
    return coco_mask.frPyObjects(code, height, width) if isinstance(code["counts"], list) else code


def decode_counts(counts: list[int] | str | bytes) -> np.ndarray:
    """The run lengths, background first, of either kind of `counts`.

    Raises:
        ValueError: they are malformed.
    """
    if isinstance(counts, list):
        numbers = [number for count in counts if (number := as_number(count)) is not None]
        if len(numbers) < len(counts) or not all(0 <= number < 2**52 and number.is_integer() for number in numbers):
            raise ValueError(f"malformed run lengths {shorten(counts)}")
        return np.array(numbers, np.int64)
    return _decompress(counts if isinstance(counts, str) else counts.decode("latin-1"))


def _parse_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"malformed segmentation {shorten(text)}") from None


def _parse_run_lengths(value: Mapping) -> RunLengths:
    size, counts = value.get("size"), value.get("counts")
    sides = [side for entry in size if (side := as_side(entry)) is not None] if isinstance(size, list) else []
    if not isinstance(size, list) or len(size) != 2 or len(sides) != 2:
        raise ValueError(f"run-length segmentation with the size {shorten(size)}")
    if not isinstance(counts, list | str | bytes):
        raise ValueError("run-length segmentation without counts")
    runs = decode_counts(counts)
    num_pixels = sides[0] * sides[1]
    if runs.sum() != num_pixels:
        raise ValueError(f"run lengths do not add up to the image's {num_pixels} pixels")
    return {"size": sides, "counts": runs.tolist() if isinstance(counts, list) else counts}


def _decompress(text: str) -> np.ndarray:
    """Decodes COCO's text of run lengths: 5 bits a character, low bits first; from the fourth run on differences.

    Bit 5 of a character says that more follow for the same number, bit 4 of the last one is the sign.
    """
    runs = _runs_of_text(text)
    if runs is None:
        raise ValueError(f"malformed run lengths {shorten(text)}")
    return runs


def _runs_of_text(text: str) -> np.ndarray | None:
    if not text or not text.isascii():
        return None
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    more = (codes & 32) != 0
    if codes.min() < 0 or codes.max() > 63 or more[-1]:
        return None
    last = np.flatnonzero(~more)
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() > 6:  # more than 35 bits
        return None
    position = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((codes & 31) << (5 * position), first)
    negative = (codes[last] & 16) != 0
    numbers = np.where(negative, numbers - (np.int64(1) << (5 * (last - first + 1))), numbers)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers if numbers.min() >= 0 and numbers.max() < 2**52 else None


def _run_length_box(height: int, width: int, runs: np.ndarray) -> list[float] | None:
    ends = np.cumsum(runs)
    starts, ends = ends[:-1:2], ends[1::2]
    inside = ends > starts
    if not inside.any():
        return None
    first, last = starts[inside], ends[inside] - 1
    spans = first // height != last // height  # a run over several columns touches their first and last rows
    top = 0 if spans.any() else int((first % height).min())
    bottom = height if spans.any() else int((last % height).max()) + 1
    left, right = int(first.min() // height), int(last.max() // height) + 1
    return [float(left), float(top), float(right - left), float(bottom - top)]


def _parse_polygons(value: list) -> Segmentation | None:
    candidates, repair = _split_polygons(value)
    polygons, problem = [], ""
    for candidate in candidates:
        polygon, reason = _parse_polygon(candidate)
        if polygon is not None:
            polygons.append(polygon)
        problem = problem or reason
    if not polygons:
        raise ValueError(problem or f"malformed segmentation {shorten(value)}: there are no coordinates in it")
    if problem or len(polygons) < len(candidates):
        repair = "parts of the polygon that are malformed were left out"
    return Segmentation(polygons, repair)


def _split_polygons(value: list) -> tuple[list[Any], str]:
    """The flat coordinate lists in it, and how they were found if not where COCO has them."""
    points = "a list of points was read as polygon"
    if any(_is_coordinate(item) for item in value):
        return [value], "a flat list of coordinates was read as polygon"
    if _is_point(value[0]) and all(map(_is_point, value)):
        return [_flatten(value)], points
    candidates, repair = [], ""
    for item in value:
        if isinstance(item, list) and item and not _is_coordinate(item[0]):
            nested, repair = _split_polygons(item)
            candidates.extend(nested)
            repair = repair or points
        elif isinstance(item, Mapping) and {"all_points_x", "all_points_y"} <= item.keys():
            candidates.append(_zip_points(item["all_points_x"], item["all_points_y"]))
            repair = points
        else:
            candidates.append(item)
    return candidates, repair


def _is_coordinate(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _is_point(value: Any) -> bool:
    if isinstance(value, Mapping):
        return {"x", "y"} <= value.keys()
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):  # OpenCV's contours
        value = value[0]
    return isinstance(value, list) and len(value) == 2 and all(map(_is_coordinate, value))


def _flatten(points: list) -> list:
    coordinates = []
    for point in points:
        if isinstance(point, Mapping):
            coordinates += [point["x"], point["y"]]
        else:
            coordinates += point[0] if len(point) == 1 else point
    return coordinates


def _zip_points(xs: Any, ys: Any) -> list:
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
        raise ValueError("malformed polygon: all_points_x and all_points_y are not two lists of the same length")
    return [value for point in zip(xs, ys, strict=True) for value in point]


def _parse_polygon(value: Any) -> tuple[list[float] | None, str]:
    """One polygon, or None and what is wrong with it; an empty one is left out without a complaint."""
    if value == []:
        return None, ""
    try:
        coordinates = np.asarray(value, np.float64) if isinstance(value, list) else None
    except (ValueError, TypeError, OverflowError):
        coordinates = None
    if coordinates is None or coordinates.ndim != 1 or not np.isfinite(coordinates).all():
        problem = ""
    elif len(coordinates) < 6 or len(coordinates) % 2:
        problem = f": {len(coordinates)} coordinates"
    elif np.abs(coordinates).max() > _FARTHEST_PX:
        problem = ": a coordinate is beyond any image"
    else:
        return coordinates.tolist(), ""
    return None, f"malformed polygon {shorten(value)}{problem}"
