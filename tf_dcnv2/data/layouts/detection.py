"""Tells the layout of a data set by what its annotations are."""

import os
from typing import Literal

from tf_dcnv2.data.layouts.yolo import CLASS_LISTS

Layout = Literal["auto", "coco", "voc", "yolo"]


def detect_layout(annotations: str) -> Layout:
    """The layout, "coco", "voc" or "yolo", of a file or folder of annotations.

    Args:
        annotations: COCO's JSON file; VOC's folder of XML files, or one of its lists in ImageSets; YOLO's folder of
            labels, or its data.yaml.

    Raises:
        ValueError: a folder holds neither XML files nor labels.
    """
    if not os.path.isdir(annotations):
        extension = os.path.splitext(annotations)[1].lower()
        by_extension: dict[str, Layout] = {".yaml": "yolo", ".yml": "yolo", ".txt": "voc"}
        return by_extension.get(extension, "coco")
    names = [name for _, _, files in os.walk(annotations) for name in files]
    extensions = {os.path.splitext(name)[1].lower() for name in names if name not in CLASS_LISTS}
    if ".xml" in extensions:
        return "voc"
    if ".txt" in extensions:
        return "yolo"
    raise ValueError(
        f"{annotations} is a folder without XML files (Pascal VOC) and without .txt labels (YOLO). "
        "Name COCO's JSON file, VOC's folder Annotations, or YOLO's folder of labels or its data.yaml."
    )
