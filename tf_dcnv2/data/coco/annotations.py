"""Reads a COCO annotation file and sorts what can be used from what cannot.

People's tools write the format in many ways. What can be understood in only one way is understood, and counted as a
repair; what cannot is left out and named; a file that as a whole means something else is refused.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tf_dcnv2.data.coco.annotation_boxes import Size, settle_boxes
from tf_dcnv2.data.coco.annotation_entries import read_annotations
from tf_dcnv2.data.coco.annotation_file import check_layout, load_json
from tf_dcnv2.data.coco.box_formats import BOX_FORMATS
from tf_dcnv2.data.coco.category_entries import read_categories
from tf_dcnv2.data.coco.image_entries import read_images
from tf_dcnv2.data.findings import Finding, Findings


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
    check_layout(content, path)
    return check_annotations(content, path, Findings(), box_format=box_format, size_of=size_of)


def check_annotations(
    content: Mapping[str, list],
    path: str | os.PathLike,
    findings: Findings,
    *,
    box_format: str | None = None,
    size_of: Callable[[dict], Size | None] = lambda image: None,
) -> CocoAnnotations:
    """Sorts the lists of a COCO file; unusable images and annotations end up in `findings`.

    Args:
        content: `images`, `annotations` and `categories`, as in the file.
        path: where they come from, for messages.
        findings: what was found before.
        box_format: see `read_coco_annotations`.
        size_of: see there.

    Raises:
        ValueError: no category can be read, or the boxes look like another format.
    """
    categories = read_categories(content["categories"], path, findings)
    images, original_ids = read_images(content["images"], content["annotations"], findings)
    annotations_of = read_annotations(content["annotations"], images, categories, findings)
    result = CocoAnnotations(
        categories, list(images.values()), annotations_of, findings, original_ids, len(content["annotations"])
    )
    settle_boxes(result.all_annotations(), images, box_format, size_of, os.fspath(path), findings)
    return result
