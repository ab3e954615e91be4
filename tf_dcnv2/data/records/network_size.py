"""The size of the images that a network gets, fixed or drawn for each batch."""

import dataclasses
from typing import Annotated

import tensorflow as tf

from tf_dcnv2._core.checked_types import MinLength, PositiveInt
from tf_dcnv2._core.settings import Settings
from tf_dcnv2.data.images.resizing import Resizing, resize_image, resized_shape

# Entries of an example that are `[y1, x1, y2, x2]` in pixels.
FRAMES = ("boxes", "mask_boxes")


@dataclasses.dataclass(frozen=True)
class NetworkSize(Settings):
    """How images are resized.

    Attributes:
        short_sides: lengths of the shorter side in pixels, of which one is drawn for each batch.
        max_side: upper bound of the longer side; wins over `short_sides`.
        canvas: `(height, width)` that images are shrunk further to fit, or None.
        resizing: whose arithmetic resizes, see `resize_image`.
    """

    short_sides: Annotated[tuple[PositiveInt, ...], MinLength(1)]
    max_side: PositiveInt
    canvas: tuple[PositiveInt, PositiveInt] | None = None
    resizing: Resizing = "tensorflow"

    def shape(self, example: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        """Height and width `(2,)` int32 that an example's image is to have; the same short side for the same seed."""
        if len(self.short_sides) == 1:
            return self._shape(example, self.short_sides[0])
        index = tf.random.stateless_uniform([], seed, maxval=len(self.short_sides), dtype=tf.int32)
        return self._shape(example, tf.gather(tf.constant(self.short_sides, tf.float32), index))

    def to_largest(self, example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The example with its image in the largest size that `shape` gives."""
        return self.resize(example, self._shape(example, max(self.short_sides)))

    def resize(self, example: dict[str, tf.Tensor], shape: tf.Tensor) -> dict[str, tf.Tensor]:
        """Resizes an example's image to `shape`; boxes follow. An image of that size stays as it is, to the bit."""
        image = example["image"]
        old = tf.shape(image)[:2]
        kept = tf.float32 if self.resizing == "torchvision" else tf.uint8  # the type that resizing gives
        image = tf.cond(
            tf.reduce_all(old == shape),
            lambda: tf.cast(image, kept),
            lambda: tf.cast(resize_image(image, shape, self.resizing), kept),
        )
        scale = tf.tile(tf.cast(shape, tf.float32) / tf.cast(old, tf.float32), [2])
        moved = {name: example[name] * scale for name in FRAMES if name in example}
        return {**example, **moved, "image": tf.ensure_shape(image, [None, None, 3])}

    def _shape(self, example: dict[str, tf.Tensor], short_side: int | tf.Tensor) -> tf.Tensor:
        height, width = tf.unstack(tf.cast(example["original_size"], tf.int32))
        return resized_shape(
            height, width, short_side=short_side, max_side=self.max_side, canvas=self.canvas, resizing=self.resizing
        )
