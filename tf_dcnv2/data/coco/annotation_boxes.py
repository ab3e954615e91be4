"""Brings the boxes of an annotation file to COCO's convention, or refuses a file whose boxes look like another."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from tf_dcnv2.data.coco.box_formats import BoxEvidence, other_format, outlines_disagree, to_coco
from tf_dcnv2.data.coco.segmentations import Segmentation
from tf_dcnv2.data.findings import Findings

# How many image files are opened to learn their sizes, before anything is known about the boxes.
_OPENED_FOR_SIZES = 200
# How many boxes decide what format they are in.
_LOOKED_AT = 20_000

Size = tuple[int, int]


def settle_boxes(
    annotations: Iterable[dict],
    images: Mapping[int, dict],
    box_format: str | None,
    size_of: Callable[[dict], Size | None],
    path: str,
    findings: Findings,
) -> None:
    """Changes `bbox` to COCO's `[x, y, width, height]` in pixels where it is in another format.

    Args:
        annotations: as `read_annotations` returns them; `box_of_outline` is taken away.
        images: by id.
        box_format: one of `BOX_FORMATS`, what `bbox` means; None is COCO's own unless it looks like another.
        size_of: gives `(height, width)` of an image for which the file has no size, or None.
        path: of the file, for messages.
        findings: receives a warning about boxes that are not those of the segmentations.

    Raises:
        ValueError: the boxes look like another format, or need sizes of images that nobody knows.
    """
    given = [annotation for annotation in annotations if not annotation.pop("box_of_outline", False)]
    if not given or box_format == "xywh":
        return
    sizes = _image_sizes(given, images, size_of, all_of_them=box_format is not None and "-" in box_format)
    boxes = np.array([annotation["bbox"] for annotation in given])
    box_sizes = np.array([sizes[annotation["image_id"]] for annotation in given], np.float64)
    if box_format is None:
        evidence = _evidence(given, boxes, box_sizes)
        _refuse_other_format(evidence, path)
        _warn_of_outlines(findings, evidence)
        return
    if "-" in box_format and not np.isfinite(box_sizes).all():
        raise ValueError(f"{path}: boxes in the format {box_format!r} need the height and width of every image.")
    boxes = to_coco(boxes, box_format, box_sizes)
    for annotation, box in zip(given, boxes.tolist(), strict=True):
        annotation["bbox"] = box
        if "-" in box_format:  # its area is in the same unit; without one the box's own counts
            annotation.pop("area", None)
    _warn_of_outlines(findings, _evidence(given, boxes, box_sizes))


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


def _warn_of_outlines(findings: Findings, evidence: BoxEvidence) -> None:
    share = outlines_disagree(evidence) / len(evidence.boxes)
    if share > 0.5:
        findings.warn(f"{share:.0%} of the boxes are not the boxes of their segmentations")


def _outline_of(annotation: dict) -> list[float] | None:
    code = annotation.get("segmentation")
    return Segmentation(code).outline() if code else None
