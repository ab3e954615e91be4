"""Random choices among the anchors and RoIs of an image, which depend on a seed of the image and on nothing else.

So a batch gives the same losses in whatever process, on whatever device, and together with whatever other images it is
trained on. Shapes: B images, N anchors or RoIs.
"""

from collections.abc import Mapping
from typing import Literal

import tensorflow as tf

# What is drawn for one image must not be related.
_PURPOSES = ("anchors", "rois", "mimicking")

Purpose = Literal["anchors", "rois", "mimicking"]


def image_seeds(targets: Mapping[str, tf.Tensor], images: tf.Tensor) -> tf.Tensor:
    """The seeds int64 `(B, 2)` that come with the images of a batch, or new ones."""
    if "seeds" in targets:
        return tf.cast(targets["seeds"], tf.int64)
    return tf.random.uniform([tf.shape(images)[0], 2], maxval=tf.int64.max, dtype=tf.int64)


def random_keys(seeds: tf.Tensor, count: tf.Tensor, purpose: Purpose) -> tf.Tensor:
    """Uniform numbers in [0, 1), float32 `(B, count)`: row i follows from `seeds[i]` and the purpose."""
    number = _PURPOSES.index(purpose)

    def keys_of_image(seed: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([count], tf.random.experimental.stateless_fold_in(seed, number))

    return tf.map_fn(keys_of_image, seeds, fn_output_signature=tf.TensorSpec([None], tf.float32))


def balanced_sample(
    positive: tf.Tensor, negative: tf.Tensor, keys: tf.Tensor, count: int, positive_fraction: float
) -> tf.Tensor:
    """Chooses up to `count` entries a row at random, at most `positive_fraction` of them positive.

    Args:
        positive: bool `(B, N)`.
        negative: bool `(B, N)`; what is neither is not chosen.
        keys: float32 `(B, N)` in [0, 1), random: the largest are chosen.
        count: how many. Fewer are chosen where there are not enough negatives.
        positive_fraction: between 0 and 1.

    Returns:
        bool `(B, N)`.
    """
    positives = _largest(positive, keys, int(count * positive_fraction))
    chosen = tf.reduce_sum(tf.cast(positives, tf.int32), axis=1, keepdims=True)
    return positives | _largest(negative, keys, count, limits=count - chosen)


def _largest(among: tf.Tensor, keys: tf.Tensor, count: int, limits: tf.Tensor | None = None) -> tf.Tensor:
    """Which entries of `among` have the `count` largest keys of their row, or fewer by `limits` `(B, 1)`."""
    best = tf.math.top_k(tf.where(among, keys, -1.0), tf.minimum(count, tf.shape(keys)[1]))
    chosen = best.values >= 0.0
    if limits is not None:
        chosen &= tf.range(tf.shape(chosen)[1]) < limits
    rows = tf.repeat(tf.range(tf.shape(keys)[0])[:, None], tf.shape(best.indices)[1], axis=1)
    hits = tf.scatter_nd(tf.stack([rows, best.indices], axis=-1), tf.cast(chosen, tf.int32), tf.shape(keys))
    return hits > 0
