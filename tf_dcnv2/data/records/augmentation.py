"""Random changes to one training image and its objects, reproducible from seeds of its own and of its batch."""

import dataclasses
from typing import Annotated

import tensorflow as tf

from tf_dcnv2._core.checked_types import PositiveFloat, Range
from tf_dcnv2._core.settings import Settings
from tf_dcnv2.data.records.network_size import FRAMES, NetworkSize

# An object cropped to less than this share of its area is no fair example any more; it is ignored like a crowd.
MIN_VISIBLE_SHARE = 0.3


@dataclasses.dataclass(frozen=True)
class Augmentation(Settings):
    """Changes training images and their objects at random.

    Attributes:
        horizontal_flip: mirror left-right with probability 1/2.
        vertical_flip: mirror top-bottom with probability 1/2.
        rotate: turn by 0, 90, 180 or 270 degrees. Whether it is by a quarter is drawn for the whole batch, which then
            has images of one orientation.
        scale_range: factors `(low, high)` between which the network's size is multiplied, log-uniformly. An enlarged
            image is cropped at random to the canvas, or to its own size before enlarging.
        color_jitter: strength in [0, 1] of random brightness, contrast, saturation and (slight) hue changes.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotate: bool = False
    scale_range: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    color_jitter: Annotated[float, Range(0, 1)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.scale_range
        self._require(low <= high, "scale_range", "(low, high) with low <= high")

    def place(
        self, example: dict[str, tf.Tensor], size: NetworkSize, seed: tf.Tensor, batch_seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Turns, resizes, crops and mirrors.

        Args:
            example: `image` (H, W, 3), `original_size`, `boxes` (N, 4) in pixels and `crowd` (N,). Where there are
                `masks` (N, R, R) in frames `mask_boxes` (N, 4), these follow.
            size: of the network's images.
            seed: int64 `(2,)`, of this image alone.
            batch_seed: int64 `(2,)`, the same for all images of a batch.
        """
        scale, crop, across, down, half = tf.unstack(tf.random.experimental.stateless_split(seed, 5))
        side, quarter = tf.unstack(tf.random.experimental.stateless_split(batch_seed, 2))
        if self.rotate:
            example = _turn(example, _coin(quarter))
        shape = size.shape(example, side)
        if self.scale_range == (1.0, 1.0):
            example = size.resize(example, shape)
        else:
            low, high = (tf.math.log(factor) for factor in self.scale_range)
            factor = tf.exp(tf.random.stateless_uniform([], scale, low, high))
            scaled = tf.maximum(tf.round(tf.cast(shape, tf.float32) * factor), 1.0)
            example = size.resize(example, tf.cast(scaled, tf.int32))
            example = _crop(example, shape if size.canvas is None else tf.constant(size.canvas), crop)
        half_turn = _coin(half) if self.rotate else False
        if self.horizontal_flip or self.rotate:
            example = _mirror(example, 1, _differ(self.horizontal_flip and _coin(across), half_turn))
        if self.vertical_flip or self.rotate:
            example = _mirror(example, 0, _differ(self.vertical_flip and _coin(down), half_turn))
        return example

    def recolor(self, example: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Changes colours; `seed` is int64 `(2,)`."""
        if not self.color_jitter:
            return example
        return {**example, "image": _jitter_colors(example["image"], self.color_jitter, seed)}


def _coin(seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed) < 0.5


def _differ(first: tf.Tensor | bool, second: tf.Tensor | bool) -> tf.Tensor:
    return tf.not_equal(tf.convert_to_tensor(first), tf.convert_to_tensor(second))


def _turn(example: dict[str, tf.Tensor], turned: tf.Tensor) -> dict[str, tf.Tensor]:
    """Turns by a quarter, clockwise: rows become columns, counted from the right."""
    height = tf.cast(tf.shape(example["image"])[0], tf.float32)

    def moved(boxes: tf.Tensor) -> tf.Tensor:
        y1, x1, y2, x2 = tf.unstack(boxes, axis=-1)
        return tf.stack([x1, height - y2, x2, height - y1], axis=-1)

    def turn() -> dict[str, tf.Tensor]:
        changed = {name: moved(example[name]) for name in FRAMES if name in example}
        changed["image"] = tf.reverse(tf.transpose(example["image"], [1, 0, 2]), [1])
        changed["original_size"] = tf.reverse(example["original_size"], [0])
        if "masks" in example:
            changed["masks"] = tf.reverse(tf.transpose(example["masks"], [0, 2, 1]), [2])
        return {**example, **changed}

    return tf.cond(turned, turn, lambda: dict(example))


def _crop(example: dict[str, tf.Tensor], largest: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Cuts a random window out of an image that is larger than `largest` `(2,)`."""
    image = example["image"]
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    window = tf.minimum(tf.cast(largest, tf.float32), size)
    start = tf.floor(tf.random.stateless_uniform([2], seed) * (size - window + 1.0))
    image = tf.slice(image, [*tf.unstack(tf.cast(start, tf.int32)), 0], [*tf.unstack(tf.cast(window, tf.int32)), 3])
    moved = {name: example[name] - tf.tile(start, [2]) for name in FRAMES if name in example}
    full_area = _area(moved["boxes"])
    moved["boxes"] = tf.clip_by_value(moved["boxes"], 0.0, tf.tile(window, [2]))
    visible_share = tf.math.divide_no_nan(_area(moved["boxes"]), full_area)
    crowd = example["crowd"] | (visible_share < MIN_VISIBLE_SHARE)
    return {**example, **moved, "image": tf.ensure_shape(image, [None, None, 3]), "crowd": crowd}


def _mirror(example: dict[str, tf.Tensor], axis: int, mirrored: tf.Tensor) -> dict[str, tf.Tensor]:
    side = tf.cast(tf.shape(example["image"])[axis], tf.float32)

    def moved(boxes: tf.Tensor) -> tf.Tensor:
        y1, x1, y2, x2 = tf.unstack(boxes, axis=-1)
        return tf.stack([y1, side - x2, y2, side - x1] if axis == 1 else [side - y2, x1, side - y1, x2], axis=-1)

    changed = {"image": tf.cond(mirrored, lambda: tf.reverse(example["image"], [axis]), lambda: example["image"])}
    changed |= {name: tf.where(mirrored, moved(example[name]), example[name]) for name in FRAMES if name in example}
    if "masks" in example:
        changed["masks"] = tf.cond(mirrored, lambda: tf.reverse(example["masks"], [axis + 1]), lambda: example["masks"])
    return {**example, **changed}


def _jitter_colors(image: tf.Tensor, strength: float, seed: tf.Tensor) -> tf.Tensor:
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 4))
    kind, image = image.dtype, tf.cast(image, tf.float32) / 255.0
    image = tf.image.stateless_random_brightness(image, 0.25 * strength, seeds[0])
    image = tf.image.stateless_random_contrast(image, 1 - 0.4 * strength, 1 + 0.4 * strength, seeds[1])
    image = tf.image.stateless_random_saturation(image, 1 - 0.4 * strength, 1 + 0.4 * strength, seeds[2])
    image = 255.0 * tf.clip_by_value(tf.image.stateless_random_hue(image, 0.04 * strength, seeds[3]), 0.0, 1.0)
    return tf.cast(tf.round(image) if kind.is_integer else image, kind)


def _area(boxes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
