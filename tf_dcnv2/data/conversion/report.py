"""What a conversion wrote and what it left out: for its caller, and for the readers of the records."""

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tf_dcnv2.data.coco.annotations import CocoAnnotations
from tf_dcnv2.data.conversion.images import ConvertedImage
from tf_dcnv2.data.findings import Finding
from tf_dcnv2.data.records.dataset_info import warnings_about_boxes


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `convert_coco` wrote and what it left out.

    Attributes:
        images: number of images written, those without any box included.
        boxes: number of boxes written, crowd ones included.
        crowd: number of crowd boxes written.
        skipped: images and annotations left out, each with its id and the reason; `str()` gives a message.
        shards: paths of the record files.
        categories: category id -> name.
        repaired: images and annotations that were used in another form than the file's, such as a box without its
            malformed mask; `tf_dcnv2.data.findings.count_repairs` sums them up.
        warnings: what looks wrong with the data set as a whole.
        report_path: JSON file that lists all of these; None if there is nothing to list.
    """

    images: int
    boxes: int
    crowd: int
    skipped: tuple[Finding, ...]
    shards: tuple[str, ...]
    categories: dict[int, str]
    repaired: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    report_path: str | None = None

    def __str__(self) -> str:
        counts = collections.Counter(item.kind for item in self.skipped)
        left_out = ", ".join(f"{count} {kind}s" for kind, count in counts.items()) or "nothing"
        return (
            f"{self.images} images, {self.boxes} boxes ({self.crowd} crowd), {len(self.categories)} categories "
            f"in {len(self.shards)} shards; skipped: {left_out}"
        )


def make_report(
    annotations: CocoAnnotations, converted: Sequence[ConvertedImage], shards: Sequence[str]
) -> ConversionReport:
    """Sums up what became of the images.

    Args:
        annotations: the data set, with all findings.
        converted: what each image became.
        shards: paths of the record files.
    """
    written = [item for item in converted if item.example is not None]
    boxes, crowd = sum(len(item.category_ids) for item in written), sum(item.num_crowd for item in written)
    orientations = {item.orientation for item in written if item.orientation}
    warnings = warnings_about_boxes(boxes, crowd)
    if len(orientations) > 1:
        warnings.append(
            "the annotations of some EXIF-rotated images are of the frame as stored, those of others of the upright "
            "one: prediction turns all images upright"
        )
    return ConversionReport(
        images=len(written),
        boxes=boxes,
        crowd=crowd,
        skipped=tuple(annotations.findings.skipped),
        shards=tuple(shards),
        categories=annotations.categories,
        repaired=tuple(annotations.findings.repaired),
        warnings=(*annotations.findings.warnings, *warnings),
    )


def sidecar(
    report: ConversionReport,
    contents: Sequence[Sequence[ConvertedImage]],
    sizes: Sequence[int],
    has_masks: bool,
    original_ids: Mapping[int, Any],
) -> dict[str, Any]:
    """Returns the content of the records' sidecar, which `dataset_info` reads.

    Args:
        report: of the conversion.
        contents: what each image of each shard became.
        sizes: of the shards in bytes.
        has_masks: whether the objects have masks.
        original_ids: image id -> what the annotation file has instead.
    """
    shards = []
    for path, converted, size in zip(report.shards, contents, sizes, strict=True):
        written = [item for item in converted if item.example is not None]
        boxes_of = collections.Counter(category_id for item in written for category_id in item.category_ids)
        shards.append(
            {
                "file": os.path.basename(path),
                "bytes": size,
                "image_ids": [item.image_id for item in written],
                "boxes": dict(sorted(boxes_of.items())),
                "crowd": sum(item.num_crowd for item in written),
                "boxes_per_image": [len(item.category_ids) for item in written],
                "max_boxes_per_image": max((len(item.category_ids) for item in written), default=0),
                "orientations": dict(collections.Counter(item.orientation for item in written if item.orientation)),
            }
        )
    return {
        "categories": [{"id": key, "name": name} for key, name in report.categories.items()],
        "images": report.images,
        "boxes": report.boxes,
        "has_masks": has_masks,
        "shards": shards,
        "original_ids": [[number, identifier] for number, identifier in original_ids.items()],
    }
