"""Reads the entries of `annotations`."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_dcnv2.data.coco.segmentations import parse_segmentation
from tf_dcnv2.data.coco.values import as_box, as_flag, as_id, as_number, entry_name, id_number
from tf_dcnv2.data.findings import Findings, ItemFindings, shorten

# The repair of an annotation whose segmentation is malformed.
LOST_MASK = "the box was kept, its unusable mask was left out"

# No image has so many pixels: such an area is replaced by the box's.
_LARGEST_AREA = 1e12


def read_annotations(
    entries: list, images: dict[int, dict], categories: dict[int, str], findings: Findings
) -> dict[int, list[dict]]:
    """Returns usable annotations by image id, in the form that `CocoAnnotations` describes.

    An annotation whose box is that of its segmentation has `box_of_outline`.
    """
    annotations_of: dict[int, list[dict]] = collections.defaultdict(list)
    ids_by_name = {name: key for key, name in categories.items()}
    for position, entry in enumerate(entries):
        found = findings.about("annotation", entry_name(entry, position))
        if not isinstance(entry, dict):
            found.skip("not a JSON object")
            continue
        image_id, category_id = as_id(entry.get("image_id")), as_id(entry.get("category_id"))
        if image_id is None or id_number(image_id) not in images:
            found.skip(f"unknown image id {shorten(entry.get('image_id'))}")
            continue
        found = dataclasses.replace(found, file=images[id_number(image_id)]["file_name"])
        if category_id not in categories and category_id in ids_by_name:
            found.repair("the category is given by its name")
            category_id = ids_by_name[category_id]
        if category_id not in categories:
            found.skip(f"unknown category id {shorten(entry.get('category_id'))}")
            continue
        references = (entry["image_id"], entry["category_id"])
        if not all(isinstance(value, int) for value in references) and id_number(image_id) == image_id:
            found.repair("ids that are no integers were read as such")
        annotation: dict[str, Any] = {
            "id": entry.get("id"),
            "image_id": id_number(image_id),
            "category_id": category_id,
        }
        if _read_shape(entry, annotation, found):
            _read_details(entry, annotation, found)
            annotations_of[annotation["image_id"]].append(annotation)
    return dict(annotations_of)


def has_lost_mask(annotation: Mapping) -> bool:
    """Whether an annotation had a segmentation that could not be used, unlike one that never had any."""
    return "segmentation" in annotation and annotation["segmentation"] is None


def _read_shape(entry: dict, annotation: dict, found: ItemFindings) -> bool:
    """Adds `bbox` and `segmentation`; False if there is no usable box."""
    segmentation = None
    try:
        segmentation = parse_segmentation(entry.get("segmentation"))
    except ValueError as error:
        found.repair(LOST_MASK, str(error))
        # What was left out is not the same as what never was there: see `has_lost_mask`.
        annotation["segmentation"] = None
    else:
        if segmentation is not None:
            if segmentation.repair:
                found.repair(segmentation.repair)
            annotation["segmentation"] = segmentation.code
    box = as_box(entry.get("bbox"))
    # Tools that know only polygons write no box, or zeros.
    outline = segmentation.outline() if segmentation and (box is None or max(box[2:]) <= 0) else None
    if box is not None and outline is None:
        annotation["bbox"] = box
        if not isinstance(entry["bbox"], list) or not all(isinstance(value, int | float) for value in entry["bbox"]):
            found.repair("a bbox that is no list of numbers was read as one")
    elif outline is not None:
        annotation["bbox"] = outline
        annotation["box_of_outline"] = True
        found.repair("the box of the segmentation was taken for the missing bbox")
    else:
        found.skip(f"malformed bbox {shorten(entry.get('bbox'))}")
        return False
    return True


def _read_details(entry: dict, annotation: dict, found: ItemFindings) -> None:
    crowd = as_flag(entry.get("iscrowd"))
    if crowd is None:
        found.repair("an iscrowd that is neither yes nor no was taken for no")
    elif isinstance(entry.get("iscrowd"), str):
        found.repair("an iscrowd given as text was read as a number")
    annotation["iscrowd"] = int(bool(crowd))
    area = as_number(entry.get("area"))
    if area is not None and 0 < area < _LARGEST_AREA:
        annotation["area"] = area
