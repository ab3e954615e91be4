"""Reads the annotations of a data set in any of the known layouts."""

import contextlib
import os

from tf_dcnv2.data.coco.annotations import CocoAnnotations, check_annotations, read_coco_annotations
from tf_dcnv2.data.images.files import UnreadableImage, upright_size
from tf_dcnv2.data.images.lookup import ImageLookup
from tf_dcnv2.data.layouts.detection import Layout, detect_layout
from tf_dcnv2.data.layouts.voc import read_voc
from tf_dcnv2.data.layouts.yolo import read_yolo


def read_annotations(
    annotations: str | os.PathLike,
    images_dir: str | os.PathLike,
    lookup: ImageLookup,
    *,
    layout: Layout = "auto",
    box_format: str | None = None,
) -> CocoAnnotations:
    """Reads annotations as those of a COCO file; what cannot be used ends up in the findings.

    Args:
        annotations: COCO's JSON file; VOC's folder of XML files, or a list in its `ImageSets`; YOLO's data.yaml, or its
            folder of labels.
        images_dir: folder of the images.
        lookup: finds images in it.
        layout: "auto" tells it by what `annotations` is.
        box_format: what `bbox` means in COCO's layout; see `read_coco_annotations`.

    Raises:
        FileNotFoundError: there are no such annotations.
        ValueError: they are not in the layout, or the boxes look like another format.
    """
    path = os.fspath(annotations)
    if not os.path.exists(path):
        raise FileNotFoundError(f"The annotation file does not exist: {path}")
    found = detect_layout(path) if layout == "auto" else layout

    def size_of(image: dict) -> tuple[int, int] | None:
        with contextlib.suppress(UnreadableImage):
            return upright_size(lookup.find(image["file_name"]).path)
        return None

    if found == "coco":
        return read_coco_annotations(path, box_format=box_format, size_of=size_of)
    if box_format not in (None, "xywh"):
        raise ValueError(f"box_format is for COCO's layout; {path} is read as {found}. Received: {box_format!r}")
    contents = read_voc(path, lookup) if found == "voc" else read_yolo(path, os.fspath(images_dir), lookup, size_of)
    lists = {name: getattr(contents, name) for name in ("images", "annotations", "categories")}
    return check_annotations(lists, path, contents.findings, box_format="xywh")
