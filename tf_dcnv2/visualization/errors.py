"""Pictures of the errors of a detector: its surest false detections, and the objects that it missed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from tf_dcnv2.evaluation import Analysis, DetectedDataset, FalseDetection, MissedObject
from tf_dcnv2.visualization.detections import draw_detections
from tf_dcnv2.visualization.drawing import BOX_COLOR, draw_box
from tf_dcnv2.visualization.figures import Panel, save_panels

__all__ = ["save_false_detections", "save_missed_objects"]

_Item = TypeVar("_Item", FalseDetection, MissedObject)

_COLUMNS = 4
_PICTURE_PX = 256
_ANNOTATED = "annotated objects in white, ignored regions in grey"
_IGNORED_COLOR = (150, 150, 150)
# How much of its surroundings is shown with a box, in sides of the box and in pixels of the original image at least.
_CONTEXT, _SMALLEST_CONTEXT_PX = 3.0, 96.0


def save_false_detections(
    detected: DetectedDataset,
    analysis: Analysis,
    dataset: Iterable,
    path: str | os.PathLike,
    *,
    names: Mapping[int, str] | None = None,
) -> bool:
    """Draws the false detections that the detector was surest of, each with the annotated objects around it.

    Args:
        detected: what `detect_dataset` found.
        analysis: the analysis of it.
        dataset: the batches of `load_records` that were evaluated; the images are taken from there.
        path: the file, `.png` or `.svg`. Makes the folder.
        names: category id -> name.

    Returns:
        Whether there was anything to draw; otherwise no file is written.

    Raises:
        ValueError: the file is neither PNG nor SVG.
        OSError: it cannot be written.

    Example:
        >>> save_false_detections(detected, analyze_detections(detected), dataset, "false.png", names={1: "RBC"})
    """
    truth = detected.ground_truths[analysis.iou_type]
    panels = []
    for item, crop in _crops(analysis.false_detections, dataset):
        around = [(annotation["bbox"], bool(annotation["iscrowd"])) for annotation in truth.imgToAnns[item.image_id]]
        picture = crop.draw(item.bbox, item.category_id, item.score, around, names)
        panels.append(Panel(picture, f"image {item.image_id}: {_reason(item, names)}"))
    return _save(panels, path, f"Each false detection with its class and score; {_ANNOTATED}.")


def save_missed_objects(
    detected: DetectedDataset,
    analysis: Analysis,
    dataset: Iterable,
    path: str | os.PathLike,
    *,
    names: Mapping[int, str] | None = None,
) -> bool:
    """Draws the objects that were missed, each with the detections around it.

    Args:
        detected: what `detect_dataset` found.
        analysis: the analysis of it.
        dataset: the batches of `load_records` that were evaluated; the images are taken from there.
        path: the file, `.png` or `.svg`. Makes the folder.
        names: category id -> name.

    Returns:
        Whether there was anything to draw; otherwise no file is written.

    Raises:
        ValueError: the file is neither PNG nor SVG.
        OSError: it cannot be written.
    """
    threshold = analysis.confusion.score_threshold
    wanted = {item.image_id for item in analysis.missed_objects}
    boxes: dict[int, list] = {}
    for result in detected.results:
        if result["image_id"] in wanted and result["score"] >= threshold:
            boxes.setdefault(result["image_id"], []).append((result["bbox"], False))
    panels = []
    for item, crop in _crops(analysis.missed_objects, dataset):
        picture = crop.draw(item.bbox, item.category_id, None, boxes.get(item.image_id, []), names)
        trace = f"a detection of {item.score:.2f}" if item.score else "no detection of its class"
        panels.append(Panel(picture, f"image {item.image_id}: {trace}"))
    return _save(panels, path, f"Each missed object; detections with a score of at least {threshold:g} in white.")


def _save(panels: Sequence[Panel], path: str | os.PathLike, note: str) -> bool:
    if panels:
        save_panels([panels[column::_COLUMNS] for column in range(min(_COLUMNS, len(panels)))], path, note=note)
    return bool(panels)


def _reason(item: FalseDetection, names: Mapping[int, str] | None) -> str:
    if item.object_category_id is None:
        return "background"
    if item.kind in ("class", "both"):
        wrong = "is" if item.kind == "class" else "near"
        return f"{wrong} {(names or {}).get(item.object_category_id, item.object_category_id)}, IoU {item.iou:.2f}"
    return f"{item.kind}, IoU {item.iou:.2f}"


class _Crop:
    """The surroundings of a box, of the image as the network saw it."""

    def __init__(self, image: np.ndarray, scale: np.ndarray, bbox: Sequence[float]):
        x, y, width, height = bbox
        limits = np.array(image.shape[:2])
        # A square, which lies inside the image if that is large enough.
        side = np.minimum(np.ceil(max(_CONTEXT * height, _CONTEXT * width, _SMALLEST_CONTEXT_PX) * scale), limits)
        centre = np.array([y + height / 2, x + width / 2]) * scale
        start = np.clip(np.floor(centre - side / 2), 0, limits - side).astype(int)
        end = start + side.astype(int)
        self._pixels = image[start[0] : end[0], start[1] : end[1]]
        self._start, self._scale = start, scale
        self._zoom = _PICTURE_PX / max(self._pixels.shape[:2])

    def draw(
        self,
        bbox: Sequence[float],
        category_id: int,
        score: float | None,
        others: Iterable[tuple[Sequence[float], bool]],
        names: Mapping[int, str] | None,
    ) -> np.ndarray:
        """The box in the colour of its class, on top of the others: in white, or in grey those that are ignored."""
        picture = np.asarray(draw_detections(self._pixels, np.zeros([0, 4]), zoom=self._zoom))
        visible = np.array(picture.shape[:2] * 2) / self._zoom
        for other, is_ignored in sorted(others, key=lambda one: not one[1]):
            box = self._inside(other)
            if (box[:2] < visible[:2]).all() and (box[2:] > 0).all():
                picture = draw_box(
                    picture, tuple(box.tolist()), zoom=self._zoom, color=_IGNORED_COLOR if is_ignored else BOX_COLOR
                )
        scores = None if score is None else np.array([score])
        box = self._inside(bbox)[None] * self._zoom
        return draw_detections(picture, box, scores, np.array([category_id]), names=names or {}, min_score=0.0)

    def _inside(self, bbox: Sequence[float]) -> np.ndarray:
        """A box `[x, y, width, height]` of the original as `[y1, x1, y2, x2]` in pixels of the crop."""
        x, y, width, height = bbox
        corners = np.array([y, x, y + height, x + width]) * np.tile(self._scale, 2)
        return corners - np.tile(self._start, 2)


def _crops(items: Sequence[_Item], dataset: Iterable) -> list[tuple[_Item, _Crop]]:
    """Pairs items with the surroundings of their boxes, in the order of the items."""
    wanted: dict[int, list[int]] = {}
    for index, item in enumerate(items):
        wanted.setdefault(item.image_id, []).append(index)
    found: dict[int, _Crop] = {}
    for inputs, targets in dataset:
        if not wanted:
            break
        for row, image_id in enumerate(np.asarray(targets["image_ids"]).tolist()):
            if image_id not in wanted:
                continue
            size = np.asarray(inputs["image_sizes"][row])
            height, width = np.ceil(size).astype(int).tolist()
            image = np.asarray(inputs["images"][row])[:height, :width]
            scale = size / np.asarray(targets["original_sizes"][row])
            for index in wanted.pop(image_id):
                found[index] = _Crop(image, scale, items[index].bbox)
    return [(items[index], found[index]) for index in sorted(found)]
