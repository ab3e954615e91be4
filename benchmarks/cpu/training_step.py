"""Training steps of a detector of ours on one image."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.cpu.synthetic_image import synthetic_image
from tf_dcnv2.models import FasterRCNN

_MASK_SIZE = 112

Tensors = dict[str, tf.Tensor]


def compile_for_steps(detector: FasterRCNN) -> None:
    """With a rate of zero: every step does all the work on the same weights."""
    detector.compile(keras.optimizers.SGD(0.0, momentum=0.9))


def first_step(
    detector: FasterRCNN, batch: tuple[Tensors, Tensors]
) -> tuple[dict[str, float], Callable[[], Mapping[str, Any]]]:
    """Takes the first step, with tracing, as any user takes it.

    Returns:
        The losses, and a function that takes a further step: what `fit` calls for each batch.
    """
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    history = detector.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0).history
    return {name: values[0] for name, values in history.items()}, partial(detector.train_function, iter(batches))


def synthetic_batch(height: int, width: int, *, masks: bool = False) -> tuple[Tensors, Tensors]:
    """Inputs and targets of a `synthetic_image`, as `tf_dcnv2.data.load_records` makes them.

    Args:
        height: of the image in pixels.
        width: likewise.
        masks: whether there are masks too, each of which fills its box.
    """
    image = synthetic_image(height, width)
    boxes = tf.constant(image.boxes[None])
    inputs = {
        "images": tf.constant(image.pixels[None]),
        "image_sizes": tf.constant([[height, width]], tf.float32),
    }
    targets = {"boxes": boxes, "classes": tf.constant(image.classes[None], tf.int32)}
    if masks:
        targets["masks"] = tf.constant(np.ones([1, len(image.boxes), _MASK_SIZE, _MASK_SIZE], np.uint8))
        targets["mask_boxes"] = boxes
    return inputs, targets
