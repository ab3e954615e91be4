"""Pictures of what a detector finds, while it trains."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_dcnv2._core.checked_types import NonNegativeFloat, NonNegativeInt, PositiveInt, checked_arguments
from tf_dcnv2.training.epochs import is_due_after
from tf_dcnv2.visualization import draw_annotations, draw_detections, save_image

_GAP_PX = 8


class DetectionPictures(keras.callbacks.Callback):
    """Draws the annotated objects of a few images, and beside them what the detector finds, after every epoch.

    Crowd regions are marked "(ignored)".

    Args:
        detector: what is watched; `model` of `fit` may be its `FeatureMimicking`.
        dataset: batches of `load_records(..., training=False)`, of which the first images are drawn.
        folder: where the pictures are written, as `epoch-0001/image-139.jpg`; None writes none.
        count: number of images.
        every: epochs between two drawings, and 0 for only one, after the last epoch.
        names: category id -> name.
        min_score: leaves out detections with a lower score.
        on_pictures: called with the epoch, counted from 0, and the pictures, `(H, W, 3)` uint8 each.

    Raises:
        OSError: from `fit`: a picture cannot be written.

    Example:
        >>> pictures = tf_dcnv2.training.DetectionPictures(detector, held_out, "pictures", names=info.categories)
        >>> detector.fit(batches, epochs=20, callbacks=[pictures])
    """

    @checked_arguments
    def __init__(
        self,
        detector: keras.Model,
        dataset: Iterable,
        folder: str | os.PathLike | None = None,
        *,
        count: PositiveInt = 4,
        every: NonNegativeInt = 1,
        names: Mapping[int, str] | None = None,
        min_score: NonNegativeFloat = 0.3,
        on_pictures: Callable[[int, list[np.ndarray]], None] | None = None,
    ):
        super().__init__()
        self._detector = detector
        self._dataset = dataset
        self._folder = None if folder is None else Path(folder)
        self._count, self._every = count, every
        self._names, self._min_score = names, min_score
        self._on_pictures = on_pictures

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws if it is time for that."""
        if not is_due_after(epoch, self._every, self):
            return
        pictures = dict(self.draw())
        if self._folder is not None:
            for image_id, picture in pictures.items():
                save_image(picture, self._folder / f"epoch-{epoch + 1:04}" / f"image-{image_id}.jpg")
        if self._on_pictures is not None:
            self._on_pictures(epoch, list(pictures.values()))

    def draw(self) -> Iterable[tuple[int, np.ndarray]]:
        """Yields the id of each image and its picture with the present weights: annotated left, detected right."""
        detect = getattr(self._detector, "predict_on_batch", self._detector)
        drawn = 0
        for inputs, targets in self._dataset:
            detections = {name: np.asarray(value) for name, value in detect(inputs).items()}
            for index in range(len(targets["image_ids"])):
                height, width = np.asarray(inputs["image_sizes"][index], int)
                image = np.asarray(inputs["images"][index])[:height, :width]
                truth = {name: np.asarray(targets[name][index]) for name in _ANNOTATED if name in targets}
                annotated = draw_annotations(image, **truth, names=self._names)
                found = {name: value[index] for name, value in detections.items() if name in _DRAWN}
                detected = draw_detections(image, **found, names=self._names, min_score=self._min_score)
                gap = np.full((height, _GAP_PX, 3), 255, np.uint8)
                yield int(targets["image_ids"][index]), np.concatenate([annotated, gap, detected], axis=1)
                drawn += 1
                if drawn == self._count:
                    return


_ANNOTATED = ("boxes", "classes", "crowd")
_DRAWN = ("boxes", "scores", "classes", "masks")
