"""Reads a COCO annotation file and sorts what can be used from what cannot.

People's tools write the format in many ways. What can be understood in only one way is understood, and counted as a
repair; what cannot is left out and named; a file that as a whole means something else is refused.
"""

import collections
import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tf_dcnv2.data.coco.box_formats import BOX_FORMATS, BoxEvidence, other_format, outlines_disagree, to_coco
from tf_dcnv2.data.coco.foreign_files import foreign_layout, foreign_text
from tf_dcnv2.data.coco.segmentations import Segmentation, parse_segmentation
from tf_dcnv2.data.coco.values import as_box, as_flag, as_id, as_number, as_side, id_number
from tf_dcnv2.data.findings import Finding, Findings, shorten

# Thinner boxes collapse to nothing once normalised in float32.
MIN_BOX_SIDE_PX = 0.1
# No image has so many pixels: such an area is replaced by the box's.
_LARGEST_AREA = 1e12
# How many image files are opened to learn their sizes, before anything is known about the boxes.
_OPENED_FOR_SIZES = 200
# How many boxes decide what format they are in.
_LOOKED_AT = 20_000

# The repair of an annotation whose segmentation is malformed.
LOST_MASK = "the box was kept, its unusable mask was left out"

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class CocoAnnotations:
    """A COCO data set whose entries are known to refer to each other correctly.

    Annotations are COCO's, with every value in one form: integer ids, `bbox` as four floats `[x, y, width, height]` in
    pixels, `iscrowd` 0 or 1, `area` a float if there is one, and `segmentation`, if there is one, either polygons or
    run lengths that add up. Neither is checked against the image's size, which is optional in the file.

    Attributes:
        categories: category id -> name.
        images: `id`, `file_name` and, where the file has them, `height` and `width`.
        annotations_of: image id -> annotations.
        findings: what was left out or repaired.
        original_ids: image id -> what the file has instead, for ids that are no 64-bit integers.
        num_listed: the number of annotations in the file, those left out included.
    """

    categories: dict[int, str]
    images: list[dict]
    annotations_of: dict[int, list[dict]]
    findings: Findings
    original_ids: dict[int, Any]
    num_listed: int

    @property
    def skipped(self) -> list[Finding]:
        """What was left out."""
        return self.findings.skipped

    def all_annotations(self) -> Iterable[dict]:
        """The annotations of all images."""
        return (annotation for items in self.annotations_of.values() for annotation in items)


def read_coco_annotations(
    path: str | os.PathLike,
    *,
    box_format: str | None = None,
    size_of: Callable[[dict], Size | None] = lambda image: None,
) -> CocoAnnotations:
    """Loads a COCO `instances_*.json`; unusable images and annotations end up in `findings`.

    Args:
        path: the annotation file.
        box_format: one of `BOX_FORMATS`, what `bbox` means. None is COCO's own, `xywh`, and refuses a file whose boxes
            look like another.
        size_of: gives `(height, width)` of an image for which the file has no size, or None.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or not COCO's object-detection layout, or its boxes look like another format.
    """
    if box_format is not None and box_format not in BOX_FORMATS:
        raise ValueError(f"box_format must be one of {', '.join(BOX_FORMATS)}. Received: box_format={box_format!r}")
    content = load_json(path)
    _check_layout(content, path)
    findings = Findings()
    categories = _read_categories(content["categories"], path, findings)
    images, original_ids = _read_images(content["images"], content["annotations"], findings)
    annotations_of = _read_annotations(content["annotations"], images, categories, findings)
    result = CocoAnnotations(
        categories, list(images.values()), annotations_of, findings, original_ids, len(content["annotations"])
    )
    _settle_boxes(result, images, box_format, size_of, os.fspath(path))
    return result


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


def load_json(path: str | os.PathLike) -> Any:
    """A JSON file's content, in whichever encoding: UTF-8, UTF-16 and UTF-32 with or without a byte order mark.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            text = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"The annotation file does not exist: {name}") from None
    try:
        try:
            return json.loads(text)
        except UnicodeDecodeError:
            return json.loads(text.decode("cp1252"))
    # A number of thousands of digits is a ValueError, thousands of brackets are a RecursionError.
    except (ValueError, RecursionError) as error:
        hint = foreign_text(text)
        raise ValueError(
            f"The annotation file {name} is not valid JSON: {error}.{f' {hint}' if hint else ''}"
        ) from error


def _check_layout(content: Any, path: str | os.PathLike) -> None:
    name = os.fspath(path)
    if kind := foreign_layout(content):
        raise ValueError(f"The annotation file {name} is not in COCO's object-detection layout. {kind}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f'The annotation file {name} is not in COCO\'s layout: it has no list "{key}".')


def _read_categories(entries: list, path: str | os.PathLike, findings: Findings) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        category_id = as_id(entry.get("id")) if isinstance(entry, dict) else None
        if not isinstance(category_id, int):
            raise ValueError(
                f"{os.fspath(path)}: a category needs an integer id and a name. Received: {shorten(entry)}"
            )
        if not 0 <= category_id < 2**31:
            raise ValueError(
                f"{os.fspath(path)}: a category id must be between 0 and 2^31 - 1. Received: {shorten(entry)}"
            )
        if category_id in categories:
            raise ValueError(f"{os.fspath(path)}: category id {category_id} appears twice.")
        if not isinstance(entry["id"], int):
            findings.repair("category", entry["id"], "an id that is no integer was read as one")
        categories[category_id] = _category_name(entry, category_id, findings)
    if not categories:
        raise ValueError(f"{os.fspath(path)} lists no categories.")
    for name, count in collections.Counter(categories.values()).items():
        if count > 1:
            ids = ", ".join(str(key) for key, value in categories.items() if value == name)
            findings.warn(f"{count} categories have the same name {name!r} (ids {ids}): they stay different classes")
    return categories


def _category_name(entry: dict, category_id: int, findings: Findings) -> str:
    name = entry.get("name")
    if isinstance(name, str) and name.strip():
        # Half a surrogate pair cannot be written to any file.
        return name.encode("utf-8", "replace").decode()
    if name is None or isinstance(name, str):
        findings.repair("category", category_id, "a category without a name has its id as name")
        return str(category_id)
    findings.repair("category", category_id, "a name that is no text was read as one", shorten(name))
    return str(name)


def _read_images(entries: list, annotations: list, findings: Findings) -> tuple[dict[int, dict], dict[int, Any]]:
    """Usable images by id, and the original ids of those that had to get a number."""
    images: dict[int, dict] = {}
    original_ids: dict[int, Any] = {}
    ambiguous: set[int] = set()
    for position, entry in enumerate(entries):
        image, reason = _read_image(entry, findings)
        if image is not None and (known := images.get(image["id"])) is not None:
            image_id, same_file = image["id"], known["file_name"] == image["file_name"]
            image, reason = None, "another image has the same id"
            if not same_file:
                ambiguous.add(image_id)
        if image is None:
            findings.skip("image", _name_of(entry, position), reason)
            continue
        images[image["id"]] = image
        identifier = as_id(entry["id"])
        if identifier != image["id"]:
            original_ids[image["id"]] = identifier
            findings.repair("image", identifier, "an id that is no 64-bit integer got a number", str(image["id"]))
        elif not isinstance(entry["id"], int):
            findings.repair("image", entry["id"], "an id that is no integer was read as one")
    annotated = {id_number(key) for key in map(_image_id_of, annotations) if key is not None}
    for image_id in ambiguous & annotated:
        # Whose annotations are they? Teaching them on the wrong image would be worse than none.
        findings.skip("image", image_id, "another image of the same id has another file, and there are annotations")
        del images[image_id]
    _warn_of_shared_files(images, findings)
    return images, original_ids


def _read_image(entry: Any, findings: Findings) -> tuple[dict | None, str]:
    identifier = as_id(entry.get("id")) if isinstance(entry, dict) else None
    if identifier is None:
        return None, "its id is no number or text" if isinstance(entry, dict) else "not a JSON object"
    name = entry.get("file_name")
    if name is None or name == "":
        # LVIS has the address of the file, some tools other names for the name.
        name = next((entry[key] for key in ("filename", "path", "coco_url", "name") if entry.get(key)), None)
        if name is not None:
            findings.repair("image", entry["id"], "the file name was taken from another field", shorten(name))
    if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
        return None, "it has no file_name"
    image = {"id": id_number(identifier), "file_name": str(name)}
    sides = {side: as_side(entry.get(side)) for side in ("height", "width")}
    if None not in sides.values():
        image |= sides
    if any(side in entry and sides[side] is None for side in sides):
        findings.repair("image", entry["id"], "an unusable size was replaced by the file's")
    return image, ""


def _warn_of_shared_files(images: Mapping[int, dict], findings: Findings) -> None:
    counts = collections.Counter(image["file_name"] for image in images.values())
    shared = [name for name, count in counts.items() if count > 1]
    if shared:
        findings.warn(
            f"{len(shared)} files belong to several images, such as {shorten(shared[0])}: each of these images has "
            "only its own annotations, and what the others annotate counts as background"
        )


def _read_annotations(
    entries: list, images: dict[int, dict], categories: dict[int, str], findings: Findings
) -> dict[int, list[dict]]:
    annotations_of: dict[int, list[dict]] = collections.defaultdict(list)
    ids_by_name = {name: key for key, name in categories.items()}
    for position, entry in enumerate(entries):
        name = _name_of(entry, position)
        if not isinstance(entry, dict):
            findings.skip("annotation", name, "not a JSON object")
            continue
        image_id, category_id = as_id(entry.get("image_id")), as_id(entry.get("category_id"))
        if image_id is None or id_number(image_id) not in images:
            findings.skip("annotation", name, f"unknown image id {shorten(entry.get('image_id'))}")
            continue
        if category_id not in categories and category_id in ids_by_name:
            findings.repair("annotation", name, "the category is given by its name")
            category_id = ids_by_name[category_id]
        if category_id not in categories:
            findings.skip("annotation", name, f"unknown category id {shorten(entry.get('category_id'))}")
            continue
        references = (entry["image_id"], entry["category_id"])
        if not all(isinstance(value, int) for value in references) and id_number(image_id) == image_id:
            findings.repair("annotation", name, "ids that are no integers were read as such")
        annotation: dict[str, Any] = {
            "id": entry.get("id"),
            "image_id": id_number(image_id),
            "category_id": category_id,
        }
        if _read_shape(entry, annotation, name, findings):
            _read_details(entry, annotation, name, findings)
            annotations_of[annotation["image_id"]].append(annotation)
    return dict(annotations_of)


def _read_shape(entry: dict, annotation: dict, name: Any, findings: Findings) -> bool:
    """Adds `bbox` and `segmentation`; False if there is no usable box."""
    segmentation = None
    try:
        segmentation = parse_segmentation(entry.get("segmentation"))
    except ValueError as error:
        findings.repair("annotation", name, LOST_MASK, str(error))
        # What was left out is not the same as what never was there: see `has_lost_mask`.
        annotation["segmentation"] = None
    else:
        if segmentation is not None:
            if segmentation.repair:
                findings.repair("annotation", name, segmentation.repair)
            annotation["segmentation"] = segmentation.code
    box = as_box(entry.get("bbox"))
    # Tools that know only polygons write no box, or zeros.
    outline = segmentation.outline() if segmentation and (box is None or max(box[2:]) <= 0) else None
    if box is not None and outline is None:
        annotation["bbox"] = box
        if not isinstance(entry["bbox"], list) or not all(isinstance(value, int | float) for value in entry["bbox"]):
            findings.repair("annotation", name, "a bbox that is no list of numbers was read as one")
    elif outline is not None:
        annotation["bbox"] = outline
        annotation["box_of_outline"] = True
        findings.repair("annotation", name, "the box of the segmentation was taken for the missing bbox")
    else:
        findings.skip("annotation", name, f"malformed bbox {shorten(entry.get('bbox'))}")
        return False
    return True


def _read_details(entry: dict, annotation: dict, name: Any, findings: Findings) -> None:
    crowd = as_flag(entry.get("iscrowd"))
    if crowd is None:
        findings.repair("annotation", name, "an iscrowd that is neither yes nor no was taken for no")
    elif isinstance(entry.get("iscrowd"), str):
        findings.repair("annotation", name, "an iscrowd given as text was read as a number")
    annotation["iscrowd"] = int(bool(crowd))
    area = as_number(entry.get("area"))
    if area is not None and 0 < area < _LARGEST_AREA:
        annotation["area"] = area


def has_lost_mask(annotation: Mapping) -> bool:
    """Whether an annotation had a segmentation that could not be used, unlike one that never had any."""
    return "segmentation" in annotation and annotation["segmentation"] is None


def _settle_boxes(
    result: CocoAnnotations,
    images: Mapping[int, dict],
    box_format: str | None,
    size_of: Callable[[dict], Size | None],
    path: str,
) -> None:
    """Brings all boxes to COCO's convention, or refuses a file whose boxes look like another."""
    given = [annotation for annotation in result.all_annotations() if not annotation.pop("box_of_outline", False)]
    if not given or box_format == "xywh":
        return
    sizes = _image_sizes(given, images, size_of, all_of_them=box_format is not None and "-" in box_format)
    boxes = np.array([annotation["bbox"] for annotation in given])
    box_sizes = np.array([sizes[annotation["image_id"]] for annotation in given], np.float64)
    if box_format is None:
        evidence = _evidence(given, boxes, box_sizes)
        _refuse_other_format(evidence, path)
        _warn_of_outlines(result, evidence)
        return
    if "-" in box_format and not np.isfinite(box_sizes).all():
        raise ValueError(f"{path}: boxes in the format {box_format!r} need the height and width of every image.")
    boxes = to_coco(boxes, box_format, box_sizes)
    for annotation, box in zip(given, boxes.tolist(), strict=True):
        annotation["bbox"] = box
        if "-" in box_format:  # its area is in the same unit; without one the box's own counts
            annotation.pop("area", None)
    _warn_of_outlines(result, _evidence(given, boxes, box_sizes))


def _image_sizes(
    annotations: list[dict], images: Mapping[int, dict], size_of: Callable[[dict], Size | None], all_of_them: bool
) -> dict[int, tuple[float, float]]:
    sizes, opened = {}, 0
    for image_id in dict.fromkeys(annotation["image_id"] for annotation in annotations):
        image = images[image_id]
        size = (image["height"], image["width"]) if "height" in image else None
        if size is None and (all_of_them or opened < _OPENED_FOR_SIZES):
            size = size_of(image)
            opened += 1
        sizes[image_id] = size or (np.nan, np.nan)
    return sizes


def _evidence(annotations: list[dict], boxes: np.ndarray, sizes: np.ndarray) -> BoxEvidence:
    step, unknown = -(-len(annotations) // _LOOKED_AT), [np.nan] * 4
    annotations = annotations[::step]
    return BoxEvidence(
        boxes[::step],
        sizes[::step],
        np.array([_outline_of(annotation) or unknown for annotation in annotations]),
        np.array([annotation.get("area", np.nan) for annotation in annotations]),
        np.array([annotation["image_id"] for annotation in annotations]),
    )


def _refuse_other_format(evidence: BoxEvidence, path: str) -> None:
    if suspicion := other_format(evidence):
        raise ValueError(
            f"{path}: {suspicion}. Convert with box_format={suspicion.formats[0]!r} (--box-format "
            f"{suspicion.formats[0]}) if they are, or with 'xywh' if they are COCO's after all."
        )


def _warn_of_outlines(result: CocoAnnotations, evidence: BoxEvidence) -> None:
    share = outlines_disagree(evidence) / len(evidence.boxes)
    if share > 0.5:
        result.findings.warn(f"{share:.0%} of the boxes are not the boxes of their segmentations")


def _outline_of(annotation: dict) -> list[float] | None:
    code = annotation.get("segmentation")
    return Segmentation(code).outline() if code else None


def _image_id_of(annotation: Any) -> int | str | None:
    return as_id(annotation.get("image_id")) if isinstance(annotation, dict) else None


def _name_of(item: Any, position: int) -> Any:
    """Names an item for reports: by its id, or by its place where it has none."""
    if isinstance(item, dict) and item.get("id") is not None:
        return item["id"]
    return f"no. {position + 1}"
