"""Test-time augmentation: a detector that looks at each image several times.

Shapes: B images, V views of each, D detections per image, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_dcnv2.data.images.resizing import SIZE_MULTIPLE, Resizing, pad_to_multiple, resize_image
from tf_dcnv2.models.faster_rcnn import FasterRCNN
from tf_dcnv2.models.heads import Detections
from tf_dcnv2.models.image_detection import Image, ImageDetection
from tf_dcnv2.models.suppression import suppress


class _View(NamedTuple):
    """One look at a batch: its size relative to the images that are given, and whether it is mirrored."""

    ratio: float
    flipped: bool


class AugmentedDetector:
    """Detects on each image in several sizes and mirrored, and merges what is found.

    The detections of all views, in pixels of the images that were given, go through the detector's own suppression
    within each class, so that of boxes on the same object the surest stays. The mask of a Mask R-CNN is computed for
    the merged boxes in every view, mirrored back, and averaged.

    It is called as the detector is and returns the same, so that `evaluate_coco`, `detect_dataset` and `detect` take
    it. Images are given in the largest of its sizes, `short_side` and `max_side`, from which the others are made. It
    takes as many times as long as there are views: twice the number of scales with `flip`.

    Args:
        detector: a Faster or Mask R-CNN.
        scales: sizes of the views relative to the detector's own, positive.
        flip: look at each of them mirrored, left and right exchanged, as well.

    Raises:
        ValueError: there is no scale, or one is not positive.

    Example:
        >>> augmented = AugmentedDetector(detector, scales=(0.8, 1.0, 1.25))
        >>> size = {"short_side": augmented.short_side, "max_side": augmented.max_side}
        >>> evaluate_coco(augmented, load_records("records/val", **size))["bbox"]["AP"]
    """

    def __init__(self, detector: FasterRCNN, scales: Sequence[float] = (1.0,), flip: bool = True):
        scales = tuple(dict.fromkeys(float(scale) for scale in scales))
        if not scales or not all(0 < scale < np.inf for scale in scales):
            raise ValueError(f"scales must be positive numbers, at least one. Received: scales={scales}")
        self.detector, self.scales, self.flip = detector, scales, flip
        self.largest_scale = max(scales)
        self._views = [
            _View(scale / self.largest_scale, flipped)
            for scale in scales
            for flipped in ((False, True) if flip else (False,))
        ]
        self._function = tf.function(
            self._detect, input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 2])]
        )
        self._image_detection = ImageDetection(self._function)

    @property
    def short_side(self) -> int:
        """Pixels of the shorter side of the images to give, that of the largest view."""
        return round(self.detector.short_side * self.largest_scale)

    @property
    def max_side(self) -> int:
        """Most pixels of their longer side."""
        return round(self.detector.max_side * self.largest_scale)

    @property
    def resizing(self) -> Resizing:
        """Whose arithmetic resizes images."""
        return self.detector.resizing

    @property
    def has_mask_head(self) -> bool:
        """Whether there are masks."""
        return self.detector.has_mask_head

    @property
    def whole_pixel_masks(self) -> bool:
        """How masks are pasted, see `FasterRCNN.whole_pixel_masks`."""
        return self.detector.whole_pixel_masks

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Detects objects on a batch `{"images": (B, H, W, 3), "image_sizes": (B, 2)}`, as the detector does."""
        images, image_sizes = (tf.cast(inputs[name], tf.float32) for name in ("images", "image_sizes"))
        return self._function(images, image_sizes)

    def detect(
        self,
        images: Image | Sequence[Image],
        *,
        short_side: int | None = None,
        max_side: int | None = None,
        upright: bool = True,
        batch_size: int = 1,
    ) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
        """Detects objects on images of any size, as `FasterRCNN.detect`; the sides are those of the largest view."""
        size = {"short_side": short_side or self.short_side, "max_side": max_side or self.max_side}
        return self._image_detection(images, upright=upright, batch_size=batch_size, resizing=self.resizing, **size)

    def _detect(self, images: tf.Tensor, image_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        looks = [self._look(images, image_sizes, view) for view in self._views]
        boxes, scores, classes = (tf.concat([look[0][part] for look in looks], axis=1) for part in range(3))
        head = self.detector.box_head
        one_hot = tf.one_hot(classes, head.num_classes) * scores[..., None]
        kept = suppress(
            boxes[:, :, None],
            one_hot,
            count=head.config.max_detections,
            iou=head.config.nms_iou,
            min_score=head.config.score_threshold,
        )
        merged = Detections(kept.boxes, kept.scores, kept.classes, kept.count)
        answers = [
            self._answer(merged, image_sizes, view, sizes, levels)
            for view, (_, sizes, levels) in zip(self._views, looks, strict=True)
        ]
        answer = {**answers[0], "boxes": merged.boxes}
        if self.has_mask_head:
            answer["masks"] = tf.add_n([of_view["masks"] for of_view in answers]) / len(answers)
        return answer

    def _look(
        self, images: tf.Tensor, image_sizes: tf.Tensor, view: _View
    ) -> tuple[Detections, tf.Tensor, list[tf.Tensor]]:
        """The detections of a view in pixels of the images, the sizes of its images, and their features."""
        images, sizes = self._resized(images, image_sizes, view.ratio)
        if view.flipped:
            # Only the true pixels, so that padding stays at the right.
            images = tf.reverse_sequence(images, tf.cast(tf.math.ceil(sizes[:, 1]), tf.int32), seq_axis=2, batch_axis=0)
        found, levels = self.detector.find(images, sizes)
        boxes = _flipped(found.boxes, sizes) if view.flipped else found.boxes
        return found._replace(boxes=_scaled(boxes, image_sizes / sizes)), sizes, levels

    def _answer(
        self, merged: Detections, image_sizes: tf.Tensor, view: _View, sizes: tf.Tensor, levels: list[tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """What the detector returns for merged boxes in a view, with masks the right way round."""
        boxes = _scaled(merged.boxes, sizes / image_sizes)
        outputs = self.detector.complete(
            merged._replace(boxes=_flipped(boxes, sizes) if view.flipped else boxes), levels
        )
        if view.flipped and "masks" in outputs:
            outputs["masks"] = tf.reverse(outputs["masks"], axis=[3])
        return outputs

    def _resized(self, images: tf.Tensor, image_sizes: tf.Tensor, ratio: float) -> tuple[tf.Tensor, tf.Tensor]:
        """The images at a ratio of their size, padded at the bottom and right, and their new sizes."""
        if ratio == 1.0:
            return images, image_sizes
        before = tf.cast(tf.math.ceil(image_sizes), tf.int32)
        after = tf.maximum(tf.cast(tf.round(image_sizes * ratio), tf.int32), 1)
        canvas = tf.reduce_max(after, axis=0)

        def resize(arguments: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, old, new = arguments
            pixels = image[: old[0], : old[1]]
            if self.resizing != "torchvision":  # which alone does not round
                pixels = tf.cast(tf.round(pixels), tf.uint8)
            resized = tf.cast(resize_image(pixels, new, self.resizing), tf.float32)
            return pad_to_multiple(tf.image.pad_to_bounding_box(resized, 0, 0, canvas[0], canvas[1]), SIZE_MULTIPLE)

        resized = tf.map_fn(
            resize, (images, before, after), fn_output_signature=tf.TensorSpec([None, None, 3], tf.float32)
        )
        return resized, tf.cast(after, tf.float32)


def _scaled(boxes: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Boxes `(B, N, 4)` multiplied by factors `(B, 2)` of height and width."""
    return boxes * tf.tile(factors, [1, 2])[:, None]


def _flipped(boxes: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Boxes `(B, N, 4)` mirrored in images of sizes `(B, 2)`; empty ones stay at the origin."""
    top, left, bottom, right = tf.unstack(boxes, axis=-1)
    width = tf.where(right > left, sizes[:, 1, None], 0.0)
    return tf.stack([top, width - right, bottom, width - left], axis=-1)
