"""Batches that are computed in parts, or on several replicas, train as whole ones do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, make_mask_batch, tiny_config
from tf_dcnv2.models import FeatureMimicking

# Sums of float32 numbers in another order. SGD, since Adam's first steps have the same length whatever the gradients.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def make_model() -> keras.Model:
    """A Mask R-CNN that mimics, with a normalisation that does not learn from the batch, whose parts differ."""
    keras.utils.set_random_seed(0)
    detector = tiny_config(dcn="v1", mask_head=MASK_HEAD, **{"backbone.norm": "group"}).build(CATEGORY_IDS)
    return FeatureMimicking(detector, rois="positive", rois_per_image=3, patch_size=64)


def make_batch(images: int) -> tuple[dict, dict]:
    """Images with other numbers of objects: two or none, with masks, and seeds of their own."""
    parts = [make_mask_batch() for _ in range(images // 2)]
    inputs, targets = tf.nest.map_structure(lambda *values: tf.concat(values, axis=0), *parts)
    seeds = tf.reshape(tf.range(2 * images, dtype=tf.int64), [images, 2])
    brightness = tf.linspace(0.5, 1.0, images)[:, None, None, None]
    return {**inputs, "images": inputs["images"] * tf.cast(brightness, tf.float32)}, {**targets, "seeds": seeds}


def trained(model: keras.Model, accumulate: int = 1, steps: int = 1) -> tuple[list[float], list[np.ndarray]]:
    """The losses of all steps and the weights after them."""
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=1.0, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer, accumulate=accumulate, run_eagerly=tf.config.functions_run_eagerly())
    data = tf.data.Dataset.from_tensors(make_batch(4)).repeat(steps)
    history = model.fit(data, verbose=0, shuffle=False).history
    averages = [average.numpy() for average in optimizer._model_variables_moving_average]
    return [history[name][0] for name in sorted(history)], [*model.get_weights(), *averages]


def test_losses_and_weights_of_a_batch_in_uneven_parts_are_those_of_the_whole_batch(eagerly):
    losses, weights = trained(make_model())
    accumulated_losses, accumulated_weights = trained(make_model(), accumulate=3)
    np.testing.assert_allclose(accumulated_losses, losses, rtol=1e-4)
    for weight, expected in zip(accumulated_weights, weights, strict=True):
        np.testing.assert_allclose(weight, expected, **TOLERANCE)


def test_a_batch_with_fewer_images_than_parts_is_refused():
    model = make_model()
    model.compile("sgd", accumulate=5, run_eagerly=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match="an image for each of its accumulate=5 parts"):
        model.train_on_batch(*make_batch(4))


@pytest.mark.parametrize("accumulate", [0, -1, 1.5, "two"])
def test_numbers_of_parts_that_are_none_are_refused(accumulate):
    with pytest.raises(ValueError, match="accumulate"):
        make_model().compile("sgd", accumulate=accumulate)
