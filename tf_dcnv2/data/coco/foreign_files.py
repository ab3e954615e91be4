"""Recognises annotation files that are not COCO's object-detection layout, so that they are refused by name."""

from collections.abc import Mapping
from typing import Any

_EXPORT = "export it in the format that the tool calls COCO (instances, object detection)"


def foreign_layout(content: Any) -> str | None:
    """Describes what kind of file this is and what to do with it; None if it is not one of the known kinds.

    Args:
        content: a JSON file's content.
    """
    if isinstance(content, Mapping):
        return _foreign_object(content)
    if isinstance(content, list) and content and isinstance(content[0], Mapping):
        return _foreign_list(content[0])
    return None


def foreign_text(text: bytes) -> str | None:
    """The same for the beginning of a file that is not JSON."""
    start = text.lstrip()[:200]
    if start.startswith(b"<"):
        return f"It looks like XML: of Pascal VOC, name the folder of all such files; of CVAT, {_EXPORT}."
    words = start.split(b"\n")[0].split()
    if len(words) == 5 and all(word.replace(b".", b"", 1).isdigit() for word in words):
        return "It looks like YOLO's labels of one image: name the folder of all labels, or the data.yaml."
    if start.count(b",") >= 3 and not start.startswith((b"{", b"[")):
        return f"It looks like a table: {_EXPORT}."
    return None


def _foreign_object(content: Mapping) -> str | None:
    annotations = content.get("annotations")
    entries = [item for item in annotations if isinstance(item, Mapping)] if isinstance(annotations, list) else []
    if any("segments_info" in entry for entry in entries):
        return (
            "It is a panoptic file: its annotations hold segments_info instead of boxes. Use the instances_*.json of "
            "the same images, or make one with panopticapi's converters/panoptic2detection_coco_format.py."
        )
    if entries and all("caption" in entry and "bbox" not in entry for entry in entries):
        return "It is a file of captions, without boxes: use the instances_*.json of the same images."
    if "shapes" in content and "imagePath" in content:
        return "It is LabelMe's file of one image: labelme2coco, or LabelMe's own examples, make a COCO file of all."
    if "_via_img_metadata" in content or (
        content and all(isinstance(item, Mapping) and "regions" in item for item in content.values())
    ):
        return f"It is a project of the VGG Image Annotator: {_EXPORT}."
    if content.get("type") == "FeatureCollection":
        return f"It is GeoJSON: {_EXPORT}."
    return None


def _foreign_list(first: Mapping) -> str | None:
    if {"image_id", "score"} <= first.keys():
        return "It holds detections in COCO's results format, not annotations."
    if "annotations" in first and ("data" in first or "file_upload" in first):
        return f"It holds Label Studio's tasks: {_EXPORT}."
    if "image" in first and "annotations" in first:
        return f"It is in CreateML's layout: {_EXPORT}."
    return None
