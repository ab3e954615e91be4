"""Random changes to one training image and its objects, reproducible from a per-image seed."""

import dataclasses
from typing import Annotated

import tensorflow as tf

from tf_dcnv2._core.checked_types import PositiveFloat, PositiveInt, Range
from tf_dcnv2._core.settings import Settings

# An object cropped to less than this share of its area is no fair example any more; it is ignored like a crowd.
_MIN_VISIBLE_SHARE = 0.3

# Entries of an example that are `[y1, x1, y2, x2]` in pixels.
_FRAMES = ("boxes", "mask_boxes")


@dataclasses.dataclass(frozen=True)
class Augmentation(Settings):
    """Changes training images and their objects at random.

    Attributes:
        horizontal_flip: mirror left-right with probability 1/2.
        vertical_flip: mirror top-bottom with probability 1/2.
        scale_range: factors `(low, high)` between which the resized image is scaled once more, log-uniformly. An
            enlarged image is cropped at random to `canvas`, or to its own size before enlarging.
        color_jitter: strength in [0, 1] of random brightness, contrast, saturation and (slight) hue changes.
        canvas: `(height, width)` to crop to, or None.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    scale_range: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    color_jitter: Annotated[float, Range(0, 1)] = 0.0
    canvas: tuple[PositiveInt, PositiveInt] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.scale_range
        self._require(low <= high, "scale_range", "(low, high) with low <= high")

    def __call__(self, example: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Changes `image` (uint8), `boxes` (N, 4) in pixels and `crowd` (N,); `seed` is `(2,)` int64.

        Where there are `masks` (N, R, R) in frames `mask_boxes` (N, 4), these follow.
        """
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
        if self.scale_range != (1.0, 1.0):
            example = self._rescale(example, seeds[0], seeds[1])
        if self.horizontal_flip:
            example = _maybe_flip(example, axis=1, seed=seeds[2])
        if self.vertical_flip:
            example = _maybe_flip(example, axis=0, seed=seeds[3])
        if self.color_jitter:
            example = {**example, "image": _jitter_colors(example["image"], self.color_jitter, seeds[4])}
        return example

    def _rescale(
        self, example: dict[str, tf.Tensor], scale_seed: tf.Tensor, crop_seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        image = example["image"]
        old_size = tf.cast(tf.shape(image)[:2], tf.float32)
        low, high = (tf.math.log(factor) for factor in self.scale_range)
        factor = tf.exp(tf.random.stateless_uniform([], scale_seed, low, high))
        size = tf.maximum(tf.round(old_size * factor), 1.0)
        image = tf.image.resize(image, tf.cast(size, tf.int32))
        image = tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8)

        window = tf.minimum(old_size if self.canvas is None else tf.constant(self.canvas, tf.float32), size)
        start = tf.floor(tf.random.stateless_uniform([2], crop_seed) * (size - window + 1.0))
        image = tf.slice(image, [*tf.unstack(tf.cast(start, tf.int32)), 0], [*tf.unstack(tf.cast(window, tf.int32)), 3])
        moved = {
            name: example[name] * tf.tile(size / old_size, [2]) - tf.tile(start, [2])
            for name in _FRAMES
            if name in example
        }
        full_area = _area(moved["boxes"])
        moved["boxes"] = tf.clip_by_value(moved["boxes"], 0.0, tf.tile(window, [2]))
        visible_share = tf.math.divide_no_nan(_area(moved["boxes"]), full_area)
        crowd = example["crowd"] | (visible_share < _MIN_VISIBLE_SHARE)
        return {**example, **moved, "image": tf.ensure_shape(image, [None, None, 3]), "crowd": crowd}


def _maybe_flip(example: dict[str, tf.Tensor], axis: int, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    flip = tf.random.stateless_uniform([], seed) < 0.5
    side = tf.cast(tf.shape(example["image"])[axis], tf.float32)

    def mirrored(boxes: tf.Tensor) -> tf.Tensor:
        y1, x1, y2, x2 = tf.unstack(boxes, axis=-1)
        return tf.stack([y1, side - x2, y2, side - x1] if axis == 1 else [side - y2, x1, side - y1, x2], axis=-1)

    changed = {"image": tf.cond(flip, lambda: tf.reverse(example["image"], [axis]), lambda: example["image"])}
    changed |= {name: tf.where(flip, mirrored(example[name]), example[name]) for name in _FRAMES if name in example}
    if "masks" in example:
        changed["masks"] = tf.cond(flip, lambda: tf.reverse(example["masks"], [axis + 1]), lambda: example["masks"])
    return {**example, **changed}


def _jitter_colors(image: tf.Tensor, strength: float, seed: tf.Tensor) -> tf.Tensor:
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    image = tf.image.convert_image_dtype(image, tf.float32)
    image = tf.image.stateless_random_brightness(image, 0.25 * strength, seeds[0])
    image = tf.image.stateless_random_contrast(image, 1 - 0.4 * strength, 1 + 0.4 * strength, seeds[1])
    image = tf.image.stateless_random_saturation(image, 1 - 0.4 * strength, 1 + 0.4 * strength, seeds[2])
    image = tf.image.stateless_random_hue(image, 0.04 * strength, seeds[3])
    return tf.image.convert_image_dtype(tf.clip_by_value(image, 0.0, 1.0), tf.uint8)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
