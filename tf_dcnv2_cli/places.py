"""Which places of an image the pictures of spatial support are of."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tf_dcnv2_cli.errors import UsageError

Point = tuple[float, float]
Box = tuple[float, float, float, float]

_MIN_SCORE, _MOST_DETECTIONS = 0.5, 10
# Points of the grid on which a place in the background is looked for.
_GRID = 64


class Place(NamedTuple):
    """One place of an image file: a cell of a feature map, or a point with or without a box.

    Attributes:
        title: what it is.
        point: (y, x) in pixels of the file, from its edge; without meaning where there is a cell.
        box: `(y1, x1, y2, x2)` in pixels of the file, of the object there; `None` if there is none.
        cell: layer, row and column.
    """

    title: str
    point: Point = (0.0, 0.0)
    box: Box | None = None
    cell: tuple[str, int, int] | None = None


def parse_cell(text: str) -> tuple[str, int, int]:
    """An argparse type: `C5:4,7` to `("C5", 4, 7)`."""
    match = re.fullmatch(r"(.+):(\d+),(\d+)", text)
    if match is None:
        raise ValueError
    return match[1], int(match[2]), int(match[3])


def parse_point(text: str) -> Point:
    """An argparse type: `120,200` to `(120.0, 200.0)`."""
    y, x = map(float, text.split(","))
    return y, x


def parse_box(text: str) -> Box:
    """An argparse type: `30,40,130,200` to numbers."""
    y1, x1, y2, x2 = map(float, text.split(","))
    if not (y1 < y2 and x1 < x2):
        raise ValueError
    return y1, x1, y2, x2


# argparse names the type of a word that does not parse.
parse_cell.__name__, parse_point.__name__, parse_box.__name__ = "LEVEL:ROW,COL", "Y,X", "Y1,X1,Y2,X2"


def check_inside(size: tuple[int, int], points: Sequence[Point], boxes: Sequence[Box]) -> None:
    """Refuses points and boxes that do not lie on an image of `(height, width)` pixels."""
    height, width = size
    for y, x in points:
        if not (0 <= y <= height and 0 <= x <= width):
            raise UsageError(f"--point must lie on the image of {height} x {width} pixels. Received: {y:g},{x:g}")
    for box in boxes:
        if box[0] < 0 or box[1] < 0 or box[2] > height or box[3] > width:
            given = ",".join(f"{value:g}" for value in box)
            raise UsageError(f"--box must lie on the image of {height} x {width} pixels. Received: {given}")


def chosen_places(cells: Sequence[tuple[str, int, int]], points: Sequence[Point], boxes: Sequence[Box]) -> list[Place]:
    """The places that somebody asked for: cells, points, and the centres of boxes that no point lies in."""
    places = [Place(f"{layer}: row {row}, column {column}", cell=(layer, row, column)) for layer, row, column in cells]
    places += [Place(f"y {point[0]:g}, x {point[1]:g}", point, _smallest_around(point, boxes)) for point in points]
    taken = {place.box for place in places}
    for number, box in enumerate(boxes, start=1):
        if box not in taken:
            places.append(Place(f"box {number}" if len(boxes) > 1 else "box", _centre(box), box))
    return places


def places_among(objects: Sequence[tuple[Box, str]], size: tuple[int, int]) -> list[Place]:
    """The smallest and the largest of some objects, and a place in the background far from all of them.

    Args:
        objects: boxes and names.
        size: height and width of the image.
    """
    whole = [entry for entry in objects if _is_inside(entry[0], size)] or list(objects)
    by_area = sorted(whole, key=lambda entry: _area(entry[0]))
    chosen = by_area[:1] + by_area[1:][-1:]
    titles = ("small object", "large object") if len(chosen) > 1 else ("object",)
    places = [Place(f"{title}: {name}", _centre(box), box) for title, (box, name) in zip(titles, chosen, strict=False)]
    return [*places, Place("background", _background([box for box, _ in objects], size))]


def best_detections(detections: dict[str, np.ndarray], names: dict[int, str]) -> list[tuple[Box, str]]:
    """The surest detections, with their names and scores."""
    boxes, scores = detections["boxes"], detections["scores"]
    usable = np.flatnonzero(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1))
    sure = usable[scores[usable] >= _MIN_SCORE]
    # A detector that is sure of nothing has its best guesses looked at.
    chosen = sure if len(sure) else usable[np.argsort(-scores[usable], kind="stable")[:_MOST_DETECTIONS]]
    return [
        (tuple(boxes[index].tolist()), f"{names[int(detections['classes'][index])]} {scores[index]:.2f}")
        for index in chosen.tolist()
    ]


def annotated_objects(path: str, image: str, size: tuple[int, int], box_format: str | None) -> list[tuple[Box, str]]:
    """Boxes and names of the objects of an image file in a file of COCO annotations."""
    from tf_dcnv2.data.coco.annotations import read_coco_annotations

    annotations = read_coco_annotations(path, box_format=box_format)
    name = Path(image).name
    images = [one for one in annotations.images if Path(str(one["file_name"])).name == name]
    if len(images) != 1:
        raise UsageError(f"--annotations: {path} has {len(images)} images of the name {name}; one is needed")
    names = writable_names(annotations.categories)
    objects = []
    for annotation in annotations.annotations_of.get(images[0]["id"], []):
        x, y, width, height = annotation["bbox"]
        y1, x1, y2, x2 = box = (max(y, 0.0), max(x, 0.0), min(y + height, size[0]), min(x + width, size[1]))
        if not annotation["iscrowd"] and y2 - y1 >= 1 and x2 - x1 >= 1:
            objects.append((box, names[annotation["category_id"]]))
    if not objects:
        raise UsageError(f"--annotations: {path} has no object on {name}")
    return objects


def writable_names(names: dict[int, str]) -> dict[int, str]:
    """Names of categories, with ids in place of those that no font here can write."""
    from tf_dcnv2.visualization import unwritable_names

    unwritable = set(unwritable_names(names.values()))
    return {key: str(key) if name in unwritable else name for key, name in names.items()}


def background_box(places: Sequence[Place], size: tuple[int, int]) -> Box:
    """A box around the point of a background place, as large as the objects' boxes are in the middle."""
    boxes = [place.box for place in places if place.box is not None]
    sides = np.median([(y2 - y1, x2 - x1) for y1, x1, y2, x2 in boxes], axis=0) if boxes else np.array(size) / 4
    point = next(place.point for place in places if place.box is None and place.cell is None)
    y1, x1 = np.clip(np.array(point) - sides / 2, 0, np.array(size) - sides).tolist()
    height, width = sides.tolist()
    return y1, x1, y1 + height, x1 + width


def _background(boxes: Sequence[Box], size: tuple[int, int]) -> Point:
    """The point farthest from all boxes and from the image's border."""
    height, width = size
    y, x = np.meshgrid(
        (np.arange(_GRID) + 0.5) * height / _GRID, (np.arange(_GRID) + 0.5) * width / _GRID, indexing="ij"
    )
    # Of points that are equally far, the one next to the middle.
    centrality = 1e-3 * np.hypot(y - height / 2, x - width / 2)
    distance = np.minimum(np.minimum(y, height - y), np.minimum(x, width - x)) - centrality
    for y1, x1, y2, x2 in boxes:
        outside = np.hypot(np.maximum(0, np.maximum(y1 - y, y - y2)), np.maximum(0, np.maximum(x1 - x, x - x2)))
        distance = np.minimum(distance, outside - centrality)
    row, column = np.unravel_index(np.argmax(distance), distance.shape)
    return float(y[row, column]), float(x[row, column])


def _smallest_around(point: Point, boxes: Sequence[Box]) -> Box | None:
    around = [box for box in boxes if box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]]
    return min(around, key=_area, default=None)


def _is_inside(box: Box, size: tuple[int, int], margin: float = 2.0) -> bool:
    return min(box[0], box[1]) >= margin and box[2] <= size[0] - margin and box[3] <= size[1] - margin


def _centre(box: Box) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
