"""One image of an evaluation: what is annotated and what was detected, in COCO's terms."""

from collections.abc import Mapping

import numpy as np

from tf_dcnv2._core.masks import pasted_rle
from tf_dcnv2.data.images.resizing import boxes_in_original


class EvaluatedImage:
    """One image with its annotated and detected boxes, in COCO's terms: original pixels, [x, y, width, height].

    Args:
        size: `(height, width)` of the image that the network saw, without padding.
        targets: the image's part of the targets of `load_records`.
        detections: the image's part of what the detector returned.
        whole_pixel_masks: how detected masks are pasted, see `paste_mask`.
    """

    def __init__(
        self,
        size: np.ndarray,
        targets: dict[str, np.ndarray],
        detections: dict[str, np.ndarray],
        whole_pixel_masks: bool = False,
    ):
        self._whole_pixel_masks = whole_pixel_masks
        self.image_id = int(targets["image_ids"])
        self._size = size
        self._original_size = targets["original_sizes"]
        self._targets = targets
        self._detections = detections

    @property
    def has_detected_masks(self) -> bool:
        """Whether detections have masks, also where there is no detection."""
        return "masks" in self._detections

    def description(self) -> dict:
        """Returns the image as an annotation file lists it."""
        height, width = self._original_size.astype(int).tolist()
        return {"id": self.image_id, "height": height, "width": width}

    def annotations(self) -> list[dict]:
        """Returns the annotated objects as an annotation file lists them."""
        classes = self._targets["classes"]
        boxes = self._coco_boxes(self._targets["boxes"])
        areas = self._targets.get("areas", boxes[:, 2] * boxes[:, 3])
        return [
            {
                "image_id": self.image_id,
                "category_id": int(classes[index]),
                "bbox": boxes[index].tolist(),
                "area": float(areas[index]),
                "iscrowd": int(self._targets["crowd"][index]),
                **self._segmentation(self._targets, "mask_boxes", int(index)),
            }
            for index in np.flatnonzero(classes >= 0)
        ]

    def results(self, category_ids: Mapping[int, int] | None) -> list[dict]:
        """Returns the detections in COCO's results format.

        Args:
            category_ids: see `tf_dcnv2.evaluation.detect_dataset`.
        """
        classes, scores = np.asarray(self._detections["classes"]), self._detections["scores"]
        if category_ids is not None:
            classes = np.array([category_ids.get(int(category_id), -1) for category_id in classes], np.int64)
        boxes = self._coco_boxes(self._detections["boxes"])
        usable = (classes >= 0) & np.isfinite(scores) & np.isfinite(boxes).all(axis=-1)
        return [
            {
                "image_id": self.image_id,
                "category_id": int(classes[index]),
                "bbox": [round(value, 3) for value in boxes[index].tolist()],
                "score": round(float(scores[index]), 6),
                **self._segmentation(self._detections, "boxes", int(index)),
            }
            for index in np.flatnonzero(usable)
        ]

    def _segmentation(self, objects: dict[str, np.ndarray], frames: str, index: int) -> dict:
        """The mask of one object in original pixels; nothing if there are no masks, None for one that is not known."""
        if "masks" not in objects:
            return {}
        if objects is self._targets and not objects["masks"][index].any():
            return {"segmentation": None}
        frame = self._in_original(objects[frames][index])
        height, width = self._original_size.astype(int).tolist()
        whole_pixels = self._whole_pixel_masks and objects is self._detections
        code = pasted_rle(objects["masks"][index], frame, height, width, whole_pixels=whole_pixels)
        return {"segmentation": code}

    def _coco_boxes(self, boxes: np.ndarray) -> np.ndarray:
        y1, x1, y2, x2 = self._in_original(boxes).T
        return np.stack([x1, y1, x2 - x1, y2 - y1], axis=-1)

    def _in_original(self, boxes: np.ndarray) -> np.ndarray:
        return boxes_in_original(boxes, self._size, self._original_size)
