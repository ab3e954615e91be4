"""Reads a COCO annotation file and sorts what can be used from what cannot."""

import collections
import dataclasses
import json
import math
import os
from typing import Any

# Thinner boxes collapse to nothing once normalised in float32.
MIN_BOX_SIDE_PX = 0.1


@dataclasses.dataclass(frozen=True)
class SkippedItem:
    """One image or annotation that could not be used, and why."""

    kind: str  # "image" or "annotation"
    item_id: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.item_id!r}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class CocoAnnotations:
    """A COCO data set whose entries are known to refer to each other correctly.

    Boxes are not yet checked against their image: `height` and `width` are optional in the file.
    """

    categories: dict[int, str]
    images: list[dict]
    annotations_of: dict[int, list[dict]]
    skipped: list[SkippedItem]


def read_coco_annotations(path: str | os.PathLike) -> CocoAnnotations:
    """Loads a COCO `instances_*.json`; unusable images and annotations end up in `skipped`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or not COCO's object-detection layout.
    """
    content = _load_json(path)
    categories = _read_categories(content["categories"], path)
    skipped: list[SkippedItem] = []
    images: dict[int, dict] = {}
    for image in content["images"]:
        if reason := _image_problem(image, images):
            skipped.append(SkippedItem("image", _id_of(image), reason))
        else:
            images[image["id"]] = image
    annotations_of = collections.defaultdict(list)
    for annotation in content["annotations"]:
        if reason := _annotation_problem(annotation, images, categories):
            skipped.append(SkippedItem("annotation", _id_of(annotation), reason))
        else:
            annotations_of[annotation["image_id"]].append(annotation)
    return CocoAnnotations(categories, list(images.values()), dict(annotations_of), skipped)


def clip_box(bbox: list[float], height: int, width: int) -> list[float]:
    """Cuts a COCO `[x, y, width, height]` box to the image.

    Returns:
        `[y1, x1, y2, x2]` in pixels.

    Raises:
        ValueError: nothing usable is left.
    """
    x, y, box_width, box_height = map(float, bbox)
    if min(box_width, box_height) < MIN_BOX_SIDE_PX:
        raise ValueError(f"degenerate bbox {bbox}")
    y1, y2 = max(y, 0.0), min(y + box_height, float(height))
    x1, x2 = max(x, 0.0), min(x + box_width, float(width))
    if min(y2 - y1, x2 - x1) < MIN_BOX_SIDE_PX:
        raise ValueError(f"bbox {bbox} lies outside its {width}x{height} image")
    return [y1, x1, y2, x2]


def _load_json(path: str | os.PathLike) -> dict:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"The annotation file does not exist: {os.fspath(path)}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"The annotation file {os.fspath(path)} is not valid JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f'The annotation file {os.fspath(path)} is not in COCO\'s layout: it has no list "{key}".')
    return content


def _read_categories(entries: list, path: str | os.PathLike) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or not _is_int(entry.get("id")) or not isinstance(entry.get("name"), str):
            raise ValueError(f"{os.fspath(path)}: a category needs an integer id and a name. Received: {entry!r}")
        if not 0 <= entry["id"] < 2**31:
            raise ValueError(f"{os.fspath(path)}: a category id must be between 0 and 2^31 - 1. Received: {entry!r}")
        if entry["id"] in categories:
            raise ValueError(f"{os.fspath(path)}: category id {entry['id']} appears twice.")
        categories[entry["id"]] = entry["name"]
    if not categories:
        raise ValueError(f"{os.fspath(path)} lists no categories.")
    return categories


def _image_problem(image: Any, images: dict[int, dict]) -> str:
    if not isinstance(image, dict) or not _is_int(image.get("id")):
        return "its id is not an integer"
    if image["id"] in images:
        return "another image has the same id"
    if not isinstance(image.get("file_name"), str) or not image["file_name"]:
        return "it has no file_name"
    for side in ("height", "width"):
        if side in image and not (_is_int(image[side]) and image[side] > 0):
            return f"its {side} is {image[side]!r}"
    return ""


def _annotation_problem(annotation: Any, images: dict[int, dict], categories: dict[int, str]) -> str:
    if not isinstance(annotation, dict):
        return "not a JSON object"
    image_id, category_id, bbox = (annotation.get(key) for key in ("image_id", "category_id", "bbox"))
    if not _is_int(image_id) or image_id not in images:
        return f"unknown image id {image_id!r}"
    if not _is_int(category_id) or category_id not in categories:
        return f"unknown category id {category_id!r}"
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(value) for value in bbox):
        return f"malformed bbox {bbox!r}"
    return ""


def _id_of(item: Any) -> Any:
    return item.get("id") if isinstance(item, dict) else item


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
