"""YOLO's layout: a text file for each image, a line for each object, and the names of the classes in data.yaml."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tf_dcnv2._core.yaml_files import read_yaml
from tf_dcnv2.data.coco.values import as_id, as_number
from tf_dcnv2.data.findings import ItemFindings, shorten
from tf_dcnv2.data.images.lookup import ImageLookup
from tf_dcnv2.data.layouts.contents import Contents

# Beside labels, files that are none.
CLASS_LISTS = ("classes.txt", "obj.names", "train.txt", "val.txt", "test.txt")
_YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LEVELS_ABOVE = 3  # of the labels' folder, where the list of classes may be
# Rounding may put an edge this far beyond the image; pixels instead of fractions are much farther.
_LARGEST_FRACTION = 1.05


def read_yolo(annotations: str, images_dir: str, lookup: ImageLookup, size_of: Callable[[dict], Any]) -> Contents:
    """Reads a label file for each image of a folder; an image without one is background.

    A line is `class x y width height`, centre and sides as fractions of the image, or `class x1 y1 x2 y2 x3 y3 ...`, a
    polygon. Category ids are YOLO's, from 0.

    Args:
        annotations: data.yaml, or the folder of labels. For data.yaml the labels are, as Ultralytics has it, in
            `images_dir` with its last folder `images` replaced by `labels`, or beside the images.
        images_dir: folder of the images.
        lookup: finds the images.
        size_of: height and width of an entry's image, or None.

    Raises:
        FileNotFoundError: there is no folder of labels, or no list of classes.
        ValueError: the list of classes is malformed.
    """
    labels, names = _find_labels(annotations, images_dir), _class_names(annotations)
    contents = Contents(categories=[{"id": key, "name": name} for key, name in names.items()])
    used = 0
    for file_name in lookup.image_names():
        contents.add_image(file_name)
        path = labels / Path(file_name).with_suffix(".txt")
        if path.is_file():
            used += 1
            contents.annotations.extend(_read_labels(path, contents, size_of))
    if not used:
        raise FileNotFoundError(
            f"No image of {images_dir} has a label in {labels}. Name the folder of the labels of just these images."
        )
    return contents


def _find_labels(annotations: str, images_dir: str) -> Path:
    path = Path(annotations)
    if path.is_dir():
        return path
    if not path.is_file():
        raise FileNotFoundError(f"The annotations do not exist: {annotations}")
    parts = list(Path(os.path.abspath(images_dir)).parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        labels = Path(*parts[:last], "labels", *parts[last + 1 :])
        if labels.is_dir():
            return labels
    return Path(images_dir)


def _class_names(annotations: str) -> dict[int, str]:
    path = Path(annotations)
    if path.is_dir():
        folders = (path, *path.absolute().parents[:_LEVELS_ABOVE])
        candidates = (folder / name for folder in folders for name in (*_YAML_NAMES, *CLASS_LISTS[:2]))
        found_file = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found_file is None:
            raise FileNotFoundError(
                f"There is no list of classes (data.yaml or classes.txt) in {annotations} or above it. "
                "Name the data.yaml instead of the folder."
            )
        path = found_file
    if path.suffix not in (".yaml", ".yml"):
        return dict(enumerate(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()))
    content = read_yaml(path)
    names = content.get("names") if isinstance(content, dict) else None
    entries = names.items() if isinstance(names, dict) else enumerate(names if isinstance(names, list) else ())
    found = {as_id(key): str(name) for key, name in entries}
    numbered = {key: name for key, name in found.items() if isinstance(key, int)}
    if not numbered or len(numbered) < len(found):
        raise ValueError(
            f"{path} must have names: a list of the classes, or a mapping of their numbers. Received: {names!r}"
        )
    return dict(sorted(numbered.items()))


def _read_labels(path: Path, contents: Contents, size_of: Callable[[dict], Any]) -> Iterator[dict]:
    image = contents.images[-1]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        contents.findings.about("file", str(path), image["file_name"]).skip(f"it cannot be read: {error}")
        return
    size = size_of(image) if any(line.strip() for line in lines) else None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = contents.findings.about("annotation", f"{path.name} line {number}", image["file_name"])
        shape = _read_line(line, size, {entry["id"] for entry in contents.categories}, found)
        if shape is not None:
            yield {"id": found.item_id, "image_id": image["id"], "iscrowd": 0, **shape}


def _read_line(line: str, size: Any, known: set[int], found: ItemFindings) -> dict | None:
    words = line.split()
    category_id, values = as_id(words[0]), [as_number(word) for word in words[1:]]
    coordinates = [value for value in values if value is not None]
    problem = ""
    if len(coordinates) < len(values) or category_id is None:
        problem = f"not a line of numbers: {shorten(line)}"
    elif len(values) == 5:
        problem = "six numbers: a box with a score, as YOLO predicts it, is no label"
    elif len(values) != 4 and (len(values) < 6 or len(values) % 2):
        problem = f"{len(words)} numbers instead of 5 for a box, or an odd number of at least 7 for a polygon"
    elif category_id not in known:
        problem = f"class {category_id} has no name in the list of classes"
    elif not all(1 - _LARGEST_FRACTION <= value <= _LARGEST_FRACTION for value in coordinates):
        problem = f"coordinates that are no fractions of the image: {shorten(line)}"
    if problem:
        found.skip(problem)
        return None
    # Of an image that cannot be read, which is left out later, any size will do.
    height, width = size or (1, 1)
    if len(coordinates) == 4:
        x, y, box_width, box_height = coordinates
        box = [(x - box_width / 2) * width, (y - box_height / 2) * height, box_width * width, box_height * height]
        return {"category_id": category_id, "bbox": box}
    xs, ys = [x * width for x in coordinates[::2]], [y * height for y in coordinates[1::2]]
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    polygon = [value for point in zip(xs, ys, strict=True) for value in point]
    return {"category_id": category_id, "bbox": box, "segmentation": [polygon]}
