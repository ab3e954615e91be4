"""The data of a training run, as its detector takes them."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_dcnv2.data import DatasetInfo, load_records
from tf_dcnv2.models import FasterRCNN
from tf_dcnv2.training.options import TrainOptions


def load_data(
    options: TrainOptions, detector: FasterRCNN, info: DatasetInfo
) -> tuple[Callable[..., tf.data.Dataset], tf.data.Dataset | None]:
    """The batches of a run from a step on, and those to evaluate on if there are any.

    Args:
        options: of the run.
        detector: that is trained.
        info: of the training data.

    Returns:
        A function of `start_step` and `share`, as `load_records` takes them; and the batches of the validation data.
    """
    common: dict[str, Any] = {
        **_image_sizes(detector),
        "batch_size": options.batch_size,
        "masks": detector.has_mask_head,
        "cache": options.cache,
    }
    training_data = functools.partial(
        load_records,
        options.train,
        training=True,
        **options.augmentation,
        seed=options.seed,
        repeat=True,
        **common,
    )
    validation_data = load_records(options.val, categories=info.categories, **common) if options.val else None
    return training_data, validation_data


def first_image(options: TrainOptions, detector: FasterRCNN) -> np.ndarray:
    """An image of the validation data, or else of the training data, as the detector sees it."""
    dataset = load_records(options.val or options.train, batch_size=1, size_multiple=1, **_image_sizes(detector))
    inputs, _ = next(iter(dataset))
    return inputs["images"][0].numpy()


def _image_sizes(detector: FasterRCNN) -> dict[str, Any]:
    """The arguments with which `load_records` gives images as the detector takes them."""
    return {"short_side": detector.short_side, "max_side": detector.max_side, "resizing": detector.resizing}
